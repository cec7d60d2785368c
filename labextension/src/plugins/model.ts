import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { INotebookTracker } from '@jupyterlab/notebook';

import { GatewayApi } from '../api';
import { RemoteGpuModel } from '../model';
import { IRemoteGpuModel } from '../tokens';
import { follow } from '../tracker';

/** Provides the state of clusters and sessions. */
export const modelPlugin: JupyterFrontEndPlugin<RemoteGpuModel> = {
  id: 'jupyter-remote-gpu:model',
  description: 'Keeps the state of clusters and remote sessions.',
  autoStart: true,
  provides: IRemoteGpuModel,
  optional: [INotebookTracker],
  activate: (app: JupyterFrontEnd, tracker: INotebookTracker | null) => {
    const { contents, serverSettings } = app.serviceManager;
    const model = new RemoteGpuModel(new GatewayApi(serverSettings));
    if (tracker) {
      follow(tracker, contents, model);
    }
    return model;
  }
};
