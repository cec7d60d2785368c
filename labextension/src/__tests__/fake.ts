import type { IGatewayApi } from '../api';
import type { IChoice, ICluster, ISession } from '../types';

export const CLUSTER: ICluster = {
  name: 'local',
  kind: 'local',
  state: 'ready',
  detail: '',
  pools: [],
  gpus_total: 0,
  gpus_free: 0,
  label: 'CPU only',
  updated: new Date().toISOString()
};

export const SESSION: ISession = {
  id: 'abc1234567',
  name: 'train',
  cluster: 'local',
  kernel_id: 'k',
  state: 'running',
  detail: '',
  node: 'node1',
  label: 'CPU only',
  notebook: 'work/train.ipynb',
  created: new Date().toISOString(),
  started: new Date().toISOString(),
  link: 'connected',
  kernel: { state: 'idle' },
  why: 'local is the only cluster',
  attachments: 1
};

/** A gateway in memory: `calls` is what was asked of it, `failure` makes every request fail. */
export class FakeApi implements IGatewayApi {
  calls: string[] = [];
  failure: Error | null = null;
  clusterList: ICluster[] = [CLUSTER];
  sessionList: ISession[] = [SESSION];
  choices: Record<string, string> = {};

  async clusters(): Promise<ICluster[]> {
    this._called('clusters');
    return this.clusterList;
  }

  async sessions(): Promise<ISession[]> {
    this._called('sessions');
    return this.sessionList;
  }

  async choice(notebook: string): Promise<IChoice> {
    this._called(`choice ${notebook}`);
    return { notebook, cluster: this.choices[notebook] ?? 'auto' };
  }

  async choose(notebook: string, cluster: string): Promise<IChoice> {
    this._called(`choose ${notebook} ${cluster}`);
    this.choices[notebook] = cluster;
    return { notebook, cluster };
  }

  async stop(session: string): Promise<void> {
    this._called(`stop ${session}`);
    this.sessionList = this.sessionList.filter(other => other.id !== session);
  }

  async interrupt(session: string): Promise<void> {
    this._called(`interrupt ${session}`);
  }

  async restart(session: string): Promise<void> {
    this._called(`restart ${session}`);
  }

  private _called(what: string): void {
    this.calls.push(what);
    if (this.failure) {
      throw this.failure;
    }
  }
}
