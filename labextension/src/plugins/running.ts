import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import type { IRunningSessions } from '@jupyterlab/running';
import { IRunningSessionManagers } from '@jupyterlab/running';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { Signal } from '@lumino/signaling';

import { gpuIcon } from '../icon';
import type { RemoteGpuModel } from '../model';
import { isLive, sessionMark } from '../text';
import { CommandIDs, IRemoteGpuModel } from '../tokens';
import type { ISession } from '../types';

/** Lists remote sessions in JupyterLab's own panel of running things. */
export const runningPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-remote-gpu:running',
  description: 'Remote sessions in the panel of running terminals and kernels.',
  autoStart: true,
  requires: [IRemoteGpuModel, IRunningSessionManagers],
  optional: [ITranslator],
  activate: (
    app: JupyterFrontEnd,
    model: RemoteGpuModel,
    managers: IRunningSessionManagers,
    translator: ITranslator | null
  ) => {
    managers.add(new RunningManager(app, model, (translator ?? nullTranslator).load('jupyter_remote_gpu')));
  }
};

class RunningManager implements IRunningSessions.IManager {
  constructor(
    private readonly _app: JupyterFrontEnd,
    private readonly _model: RemoteGpuModel,
    private readonly _trans: TranslationBundle
  ) {
    this.name = _trans.__('Remote GPU sessions');
    this.shutdownAllLabel = _trans.__('Stop All');
    this.shutdownLabel = _trans.__('Stop the session');
    // The model changes with each poll; the list is told only when its rows do.
    _model.changed.connect(() => {
      const shown = JSON.stringify(this._live().map(session => [session.id, this._words(session)]));
      if (shown !== this._shown) {
        this._shown = shown;
        this.runningChanged.emit();
      }
    });
  }

  readonly name: string;
  readonly shutdownAllLabel: string;
  readonly shutdownLabel: string;
  readonly runningChanged = new Signal<this, void>(this);

  running(): IRunningSessions.IRunningItem[] {
    return this._live().map(session => ({
      icon: () => gpuIcon,
      label: () => session.name,
      detail: () => this._words(session),
      labelTitle: () => session.why,
      open: () => void this._app.commands.execute(CommandIDs.open),
      shutdown: () => void this._model.stop(session)
    }));
  }

  refreshRunning(): void {
    void this._model.refresh();
  }

  shutdownAll(): void {
    for (const session of this._live()) {
      void this._model.stop(session);
    }
  }

  shutdownAllConfirmationText(): string {
    return this._trans.__('Stop all remote sessions? Their variables are lost.');
  }

  private _live(): ISession[] {
    return this._model.state.sessions.filter(isLive);
  }

  private _words(session: ISession): string {
    return `${session.cluster} · ${sessionMark(session, this._trans).word}`;
  }

  private _shown = '';
}
