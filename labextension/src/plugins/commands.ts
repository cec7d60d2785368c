import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, InputDialog } from '@jupyterlab/apputils';
import type { TranslationBundle } from '@jupyterlab/translation';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { refreshIcon } from '@jupyterlab/ui-components';
import type { ReadonlyPartialJSONObject } from '@lumino/coreutils';

import { gpuIcon } from '../icon';
import type { RemoteGpuModel } from '../model';
import { isLive } from '../text';
import { CommandIDs, IRemoteGpuModel, PANEL_ID } from '../tokens';
import type { ISession } from '../types';

const NO_ARGUMENTS = {
  args: { type: 'object', properties: {}, additionalProperties: false }
} as const;

/** Registers the commands and lists them in the palette. */
export const commandsPlugin: JupyterFrontEndPlugin<void> = {
  id: 'jupyter-remote-gpu:commands',
  description: 'Commands for the panel and for remote sessions.',
  autoStart: true,
  requires: [IRemoteGpuModel],
  optional: [ITranslator, ICommandPalette],
  activate: (
    app: JupyterFrontEnd,
    model: RemoteGpuModel,
    translator: ITranslator | null,
    palette: ICommandPalette | null
  ) => {
    const trans = (translator ?? nullTranslator).load('jupyter_remote_gpu');
    addPanelCommands(app, model, trans);
    addSessionCommands(app, model, trans);
    for (const command of Object.values(CommandIDs)) {
      palette?.addItem({ command, category: trans.__('Remote GPU') });
    }
  }
};

function addPanelCommands(app: JupyterFrontEnd, model: RemoteGpuModel, trans: TranslationBundle): void {
  app.commands.addCommand(CommandIDs.open, {
    label: trans.__('Show the Remote GPU Panel'),
    icon: gpuIcon,
    describedBy: NO_ARGUMENTS,
    execute: () => app.shell.activateById(PANEL_ID)
  });
  app.commands.addCommand(CommandIDs.refresh, {
    label: trans.__('Refresh Clusters and Sessions'),
    icon: refreshIcon,
    describedBy: NO_ARGUMENTS,
    execute: () => model.refresh()
  });
}

function addSessionCommands(app: JupyterFrontEnd, model: RemoteGpuModel, trans: TranslationBundle): void {
  const add = (id: string, label: string, title: string, act: (session: ISession) => Promise<boolean>): void => {
    app.commands.addCommand(id, {
      label,
      describedBy: {
        args: {
          type: 'object',
          properties: {
            session: {
              type: 'string',
              description: trans.__('The name or id of a remote session; asked for when missing')
            }
          }
        }
      },
      execute: async (args: ReadonlyPartialJSONObject) => {
        const session = await pick(model, args.session, title, trans);
        return session ? act(session) : false;
      }
    });
  };
  add(CommandIDs.stop, trans.__('Stop Remote Session…'), trans.__('Stop which session? Its variables are lost.'), s =>
    model.stop(s)
  );
  add(CommandIDs.interrupt, trans.__('Interrupt Remote Session…'), trans.__('Interrupt which session?'), s =>
    model.interrupt(s)
  );
  add(
    CommandIDs.restart,
    trans.__('Restart Remote Session…'),
    trans.__('Restart which session? Its variables are lost.'),
    s => model.restart(s)
  );
}

async function pick(
  model: RemoteGpuModel,
  wanted: unknown,
  title: string,
  trans: TranslationBundle
): Promise<ISession | null> {
  await model.refresh();
  const live = model.state.sessions.filter(isLive);
  if (typeof wanted === 'string') {
    return live.find(session => session.id === wanted || session.name === wanted) ?? null;
  }
  const items = live.map(session => `${session.name} (${session.cluster})`);
  const answer = await InputDialog.getItem({
    title: items.length > 0 ? title : trans.__('No remote session is running.'),
    items
  });
  return answer.button.accept && answer.value !== null ? (live[items.indexOf(answer.value)] ?? null) : null;
}
