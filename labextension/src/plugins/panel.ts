import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ILayoutRestorer } from '@jupyterlab/application';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';

import { RemoteGpuPanel } from '../components/panel';
import type { RemoteGpuModel } from '../model';
import { IRemoteGpuModel, PANEL_ID } from '../tokens';

/** The rank among the sidebar's tabs; 501 to 899 is for extensions. */
const RANK = 520;

/** Puts the panel into the left sidebar. */
export const panelPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-remote-gpu:panel',
  description: 'The Remote GPU panel in the left sidebar.',
  autoStart: true,
  requires: [IRemoteGpuModel],
  optional: [ITranslator, ILayoutRestorer],
  activate: (
    app: JupyterFrontEnd,
    model: RemoteGpuModel,
    translator: ITranslator | null,
    restorer: ILayoutRestorer | null
  ) => {
    const panel = new RemoteGpuPanel(model, translator ?? nullTranslator);
    restorer?.add(panel, PANEL_ID);
    app.shell.add(panel, 'left', { rank: RANK, type: 'Remote GPU' });
  }
};
