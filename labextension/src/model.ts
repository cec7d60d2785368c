/**
 * What the panel shows, kept fresh. No DOM: views listen to `changed` and read `state`.
 */
import { Poll } from '@lumino/polling';
import type { ISignal } from '@lumino/signaling';
import { Signal } from '@lumino/signaling';
import type { IDisposable } from '@lumino/disposable';

import type { IGatewayApi } from './api';
import { ApiProblem } from './api';
import type { ICluster, ISession } from './types';
import { AUTO } from './types';

/** The notebook that the user looks at. */
export interface ICurrentNotebook {
  readonly path: string;
  readonly kernelId: string | null;
}

/** One consistent picture; a new object at each change. */
export interface IState {
  /** Nothing has been read yet. */
  readonly loading: boolean;
  readonly clusters: ReadonlyArray<ICluster>;
  readonly sessions: ReadonlyArray<ISession>;
  readonly notebook: ICurrentNotebook | null;
  /** The notebook's cluster, null until it is known. */
  readonly choice: string | null;
  /** Why the lists are old, null when they are fresh. */
  readonly problem: ApiProblem | null;
  /** What went wrong with the user's last action, null when it went well. */
  readonly actionProblem: ApiProblem | null;
  /** When the lists were read (ms since the epoch), 0 = never. */
  readonly read: number;
}

const EMPTY: IState = {
  loading: true,
  clusters: [],
  sessions: [],
  notebook: null,
  choice: null,
  problem: null,
  actionProblem: null,
  read: 0
};

/** Polling: calm intervals in ms, and the longest pause after failures. */
const INTERVAL = 3000;
const LONGEST = 60000;

/** Reads clusters, sessions and the notebook's choice; `active` false (panel closed) stops the polling. */
export class RemoteGpuModel implements IDisposable {
  constructor(
    private readonly _api: IGatewayApi,
    interval = INTERVAL
  ) {
    this._poll = new Poll({
      name: 'jupyter-remote-gpu:state',
      auto: false,
      factory: () => this._read(),
      frequency: { interval, backoff: true, max: LONGEST },
      standby: () => (this._active ? 'when-hidden' : true)
    });
  }

  get state(): IState {
    return this._state;
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  get isDisposed(): boolean {
    return this._poll.isDisposed;
  }

  get active(): boolean {
    return this._active;
  }

  /** Whether somebody looks; becoming active reads at once. */
  set active(value: boolean) {
    if (value === this._active) {
      return;
    }
    this._active = value;
    if (value) {
      void this._poll.refresh();
    }
  }

  dispose(): void {
    if (!this.isDisposed) {
      this._poll.dispose();
      Signal.clearData(this);
    }
  }

  /** Read now; resolves when the state is new (also when reading failed: see `state.problem`). */
  async refresh(): Promise<void> {
    await this._read().catch(() => undefined);
  }

  /** The user looks at another notebook, or at none. */
  async look(notebook: ICurrentNotebook | null): Promise<void> {
    const same = notebook?.path === this._state.notebook?.path;
    this._set({ notebook, choice: same ? this._state.choice : null });
    if (!same && notebook && this._active) {
      await this._act(() => this._readChoice());
    }
  }

  /** Remember the cluster for the current notebook. The new choice shows at once, and goes back when it was refused. */
  async choose(cluster: string): Promise<void> {
    const { notebook, choice } = this._state;
    if (!notebook) {
      return;
    }
    this._set({ choice: cluster });
    const accepted = await this._act(async () => {
      const answer = await this._api.choose(notebook.path, cluster);
      this._setChoice(notebook.path, answer.cluster);
    });
    if (!accepted) {
      this._setChoice(notebook.path, choice);
    }
  }

  stop(session: ISession): Promise<boolean> {
    return this._actAndRefresh(() => this._api.stop(session.id));
  }

  interrupt(session: ISession): Promise<boolean> {
    return this._actAndRefresh(() => this._api.interrupt(session.id));
  }

  restart(session: ISession): Promise<boolean> {
    return this._actAndRefresh(() => this._api.restart(session.id));
  }

  /** Take the message about the last action away. */
  forgetProblem(): void {
    this._set({ actionProblem: null });
  }

  private async _actAndRefresh(action: () => Promise<void>): Promise<boolean> {
    const done = await this._act(action);
    await this.refresh();
    return done;
  }

  private async _act(action: () => Promise<void>): Promise<boolean> {
    try {
      await action();
      this._set({ actionProblem: null });
      return true;
    } catch (error) {
      this._set({ actionProblem: asProblem(error) });
      return false;
    }
  }

  private async _read(): Promise<void> {
    if (this.isDisposed) {
      return;
    }
    const turn = ++this._turn;
    let part: Partial<IState>;
    let failure: unknown = null;
    try {
      const [clusters, sessions] = await Promise.all([this._api.clusters(), this._api.sessions(), this._readChoice()]);
      part = { clusters, sessions, loading: false, problem: null, read: Date.now() };
    } catch (error) {
      failure = error;
      part = { loading: false, problem: asProblem(error) };
    }
    // An answer that a later reading has overtaken is old.
    if (turn > this._shownTurn) {
      this._shownTurn = turn;
      this._set(part);
    }
    if (failure) {
      throw failure; // the poll backs off
    }
  }

  private async _readChoice(): Promise<void> {
    const { notebook } = this._state;
    if (notebook) {
      const answer = await this._api.choice(notebook.path);
      this._setChoice(notebook.path, answer.cluster || AUTO);
    }
  }

  private _setChoice(path: string, choice: string | null): void {
    // The user may have moved on to another notebook while the server answered.
    if (this._state.notebook?.path === path) {
      this._set({ choice });
    }
  }

  private _set(part: Partial<IState>): void {
    if (!this.isDisposed) {
      this._state = { ...this._state, ...part };
      this._changed.emit();
    }
  }

  private _turn = 0;
  private _shownTurn = 0;
  private _active = false;
  private _changed = new Signal<this, void>(this);
  private _poll: Poll;
  private _state: IState = EMPTY;
}

function asProblem(error: unknown): ApiProblem {
  return error instanceof ApiProblem
    ? error
    : new ApiProblem(error instanceof Error ? error.message : String(error), 0);
}
