/**
 * The REST client of the gateway in this Jupyter server.
 */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

import type { IChoice, ICluster, ISession } from './types';

/** What the panel asks of the gateway; tests have a fake of it. */
export interface IGatewayApi {
  clusters(): Promise<ICluster[]>;
  sessions(): Promise<ISession[]>;
  choice(notebook: string): Promise<IChoice>;
  choose(notebook: string, cluster: string): Promise<IChoice>;
  stop(session: string): Promise<void>;
  interrupt(session: string): Promise<void>;
  restart(session: string): Promise<void>;
}

/**
 * A request that failed: `message` says what happened, `hint` what to try.
 * `status` is the HTTP status; 0 when the server did not answer at all.
 */
export class ApiProblem extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly reason = 'error',
    readonly hint = ''
  ) {
    super(message);
  }
}

/** The gateway's API under `remote-gpu/` of the Jupyter server that `settings` describes. */
export class GatewayApi implements IGatewayApi {
  constructor(private readonly _settings: ServerConnection.ISettings) {}

  async clusters(): Promise<ICluster[]> {
    const body = await this._request<{ clusters: ICluster[] }>('GET', 'clusters');
    return body.clusters;
  }

  async sessions(): Promise<ISession[]> {
    const body = await this._request<{ sessions: ISession[] }>('GET', 'sessions');
    return body.sessions;
  }

  choice(notebook: string): Promise<IChoice> {
    return this._request('GET', 'choice' + URLExt.objectToQueryString({ notebook }));
  }

  choose(notebook: string, cluster: string): Promise<IChoice> {
    return this._request('PUT', 'choice' + URLExt.objectToQueryString({ notebook }), { cluster });
  }

  async stop(session: string): Promise<void> {
    await this._request('DELETE', `sessions/${encodeURIComponent(session)}`);
  }

  async interrupt(session: string): Promise<void> {
    await this._request('POST', `sessions/${encodeURIComponent(session)}/interrupt`, {});
  }

  async restart(session: string): Promise<void> {
    await this._request('POST', `sessions/${encodeURIComponent(session)}/restart`, {});
  }

  private async _request<T>(method: string, path: string, body?: object): Promise<T> {
    const url = this._settings.baseUrl + 'remote-gpu/' + path;
    let response: Response;
    try {
      response = await ServerConnection.makeRequest(
        url,
        { method, body: body === undefined ? undefined : JSON.stringify(body) },
        this._settings
      );
    } catch (error) {
      throw new ApiProblem(String(error instanceof Error ? error.message : error), 0, 'unreachable');
    }
    const text = await response.text();
    if (!response.ok) {
      throw problem(response.status, text);
    }
    return (text ? JSON.parse(text) : undefined) as T;
  }
}

/** The error in an answer's body (problem+json); a body of another kind becomes its status alone. */
export function problem(status: number, text: string): ApiProblem {
  try {
    const body = JSON.parse(text) as Record<string, unknown>;
    const message = String(body.title ?? body.message ?? `HTTP ${status}`);
    return new ApiProblem(message, status, String(body.reason ?? 'error'), String(body.hint ?? ''));
  } catch {
    return new ApiProblem(`HTTP ${status}`, status);
  }
}
