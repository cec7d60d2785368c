/**
 * The renderer of run records in a cell's output.
 */
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import type { ITranslator, TranslationBundle } from '@jupyterlab/translation';
import { nullTranslator } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import { badge } from './badge';
import type { IRunRecord } from './types';

/** The mime type of a run record. */
export const MIME_TYPE = 'application/vnd.jupyter-remote-gpu.run+json';

/** One line below a remote cell: how it went, where, how long, whether its output is complete. */
export class RunBadge extends Widget implements IRenderMime.IRenderer {
  constructor(options: IRenderMime.IRendererOptions) {
    super();
    const translator = (options.translator ?? nullTranslator) as ITranslator;
    this._trans = translator.load('jupyter_remote_gpu');
    this.addClass('jp-RemoteGpu-badge');
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const record = (model.data[MIME_TYPE] ?? {}) as IRunRecord;
    const { mark, facts, notes, tooltip } = badge(record, this._trans);
    const symbol = part('symbol', mark.symbol);
    symbol.setAttribute('aria-hidden', 'true');
    this.node.replaceChildren(
      symbol,
      part('word', mark.word),
      ...facts.map(fact => part('fact', fact)),
      ...notes.map(note => part('note', note))
    );
    this.node.dataset.tone = mark.tone;
    this.node.dataset.state = typeof record.state === 'string' ? record.state : '';
    this.node.title = tooltip;
    this.node.setAttribute('role', 'note');
    this.node.setAttribute('aria-label', [this._trans.__('Remote run'), mark.word, ...facts].join(', '));
  }

  private _trans: TranslationBundle;
}

function part(name: string, text: string): HTMLElement {
  const element = document.createElement('span');
  element.className = `jp-RemoteGpu-badge-${name}`;
  element.textContent = text;
  return element;
}

const extension: IRenderMime.IExtension = {
  id: 'jupyter-remote-gpu:run-record',
  description: 'Shows where and how a remote cell ran.',
  rendererFactory: {
    safe: true,
    mimeTypes: [MIME_TYPE],
    createRenderer: options => new RunBadge(options)
  },
  rank: 0,
  dataType: 'json'
};

export default extension;
