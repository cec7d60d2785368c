/**
 * Tells the model which notebook the user looks at.
 */
import type { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';
import type { Contents } from '@jupyterlab/services';

import type { ICurrentNotebook, RemoteGpuModel } from './model';

/** Follow the current notebook, its path and its kernel, as long as the application lives. */
export function follow(tracker: INotebookTracker, contents: Contents.IManager, model: RemoteGpuModel): void {
  const look = (): void => {
    const panel = tracker.currentWidget;
    void model.look(panel ? describe(panel, contents) : null);
  };
  tracker.currentChanged.connect(look);
  tracker.widgetAdded.connect((_, panel) => {
    panel.context.pathChanged.connect(look);
    panel.sessionContext.kernelChanged.connect(look);
  });
  look();
}

function describe(panel: NotebookPanel, contents: Contents.IManager): ICurrentNotebook {
  return {
    // A collaborative drive puts its name before the path; the server knows the path alone.
    path: contents.localPath(panel.context.path),
    kernelId: panel.sessionContext.session?.kernel?.id ?? null
  };
}
