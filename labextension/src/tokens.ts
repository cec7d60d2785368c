import { Token } from '@lumino/coreutils';

import type { RemoteGpuModel } from './model';

/** The state of clusters and sessions, for this package's plugins and for other extensions. */
export const IRemoteGpuModel = new Token<RemoteGpuModel>(
  'jupyter-remote-gpu:IRemoteGpuModel',
  'Clusters, remote sessions and the cluster chosen for the current notebook.'
);

/** The ids of our commands. */
export const CommandIDs = {
  open: 'remote-gpu:open-panel',
  refresh: 'remote-gpu:refresh',
  stop: 'remote-gpu:stop-session',
  interrupt: 'remote-gpu:interrupt-session',
  restart: 'remote-gpu:restart-session'
} as const;

/** The id of the panel in the left area. */
export const PANEL_ID = 'jupyter-remote-gpu-panel';
