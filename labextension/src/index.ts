/**
 * The JupyterLab side of jupyter-remote-gpu. It knows the gateway only by its REST API.
 */
import { commandsPlugin } from './plugins/commands';
import { modelPlugin } from './plugins/model';
import { panelPlugin } from './plugins/panel';
import { runningPlugin } from './plugins/running';

export { IRemoteGpuModel } from './tokens';

export default [modelPlugin, panelPlugin, commandsPlugin, runningPlugin];
