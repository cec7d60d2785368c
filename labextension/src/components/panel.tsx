/**
 * The panel in the left sidebar: a notice, and three sections in an accordion.
 */
import { Clipboard } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import type { ITranslator } from '@jupyterlab/translation';
import { ReactWidget, refreshIcon, SidePanel, ToolbarButton, UseSignal } from '@jupyterlab/ui-components';
import type { Message } from '@lumino/messaging';
import type { AccordionPanel } from '@lumino/widgets';
import React from 'react';

import { gpuIcon } from '../icon';
import type { IState, RemoteGpuModel } from '../model';
import { PANEL_ID } from '../tokens';
import { ClustersSection } from './clusters';
import { Notice } from './notice';
import { NotebookSection } from './notebook';
import { SessionsSection } from './sessions';

/** Clusters, sessions and the notebook's choice; the model polls while the panel is visible. */
export class RemoteGpuPanel extends SidePanel {
  constructor(
    private readonly _model: RemoteGpuModel,
    translator: ITranslator
  ) {
    super({ translator });
    const trans = translator.load('jupyter_remote_gpu');
    this.id = PANEL_ID;
    this.addClass('jp-RemoteGpu-panel');
    this.title.icon = gpuIcon;
    this.title.caption = trans.__('Remote GPU');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', trans.__('Remote GPU'));
    this._addHeader(trans);
    this._addSections(trans);
  }

  protected onAfterAttach(msg: Message): void {
    super.onAfterAttach(msg);
    this._model.active = this.isVisible;
  }

  protected onAfterShow(msg: Message): void {
    super.onAfterShow(msg);
    this._model.active = true;
  }

  protected onAfterHide(msg: Message): void {
    super.onAfterHide(msg);
    this._model.active = false;
  }

  private _addHeader(trans: TranslationBundle): void {
    const model = this._model;
    this.toolbar.addItem(
      'refresh',
      new ToolbarButton({
        icon: refreshIcon,
        tooltip: trans.__('Refresh clusters and sessions'),
        onClick: () => void model.refresh()
      })
    );
    this.header.addWidget(
      view(model, state => (
        <Notice
          state={state}
          trans={trans}
          onRetry={() => void model.refresh()}
          onForget={() => model.forgetProblem()}
        />
      ))
    );
  }

  private _addSections(trans: TranslationBundle): void {
    const model = this._model;
    const actions = {
      stop: model.stop.bind(model),
      interrupt: model.interrupt.bind(model),
      restart: model.restart.bind(model),
      copy: (text: string) => Clipboard.copyToSystem(text)
    };
    const sections: [string, (state: IState) => JSX.Element][] = [
      [
        trans.__('This notebook'),
        state => <NotebookSection state={state} trans={trans} onChoose={name => void model.choose(name)} />
      ],
      [trans.__('Clusters'), state => <ClustersSection state={state} trans={trans} />],
      [trans.__('Sessions'), state => <SessionsSection state={state} actions={actions} trans={trans} />]
    ];
    for (const [label, render] of sections) {
      const section = view(model, render);
      section.title.label = label;
      section.addClass('jp-RemoteGpu-section');
      this.addWidget(section);
    }
    (this.content as AccordionPanel).setRelativeSizes([27, 33, 46]);
  }
}

/** A widget that renders the model's state at each change. */
function view(model: RemoteGpuModel, render: (state: IState) => JSX.Element): ReactWidget {
  return ReactWidget.create(<UseSignal signal={model.changed}>{() => render(model.state)}</UseSignal>);
}
