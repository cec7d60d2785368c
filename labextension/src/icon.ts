import { LabIcon } from '@jupyterlab/ui-components';

/** A card with two fans, in the colours of the theme. */
export const gpuIcon = new LabIcon({
  name: 'jupyter-remote-gpu:gpu',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <path class="jp-icon3 jp-icon-selectable" fill="#616161" fill-rule="evenodd" d="M2 4h2v2h16a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-2v2H7v-2H4v3H2V4zm6.5 4.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zm7.5 0a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zm-7.5 2a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3zm7.5 0a1.5 1.5 0 1 1 0 3 1.5 1.5 0 0 1 0-3z"/>
</svg>`
});
