/**
 * What went wrong, above the sections.
 */
import type { TranslationBundle } from '@jupyterlab/translation';
import { closeIcon } from '@jupyterlab/ui-components';
import React from 'react';

import type { ApiProblem } from '../api';
import { age } from '../format';
import type { IState } from '../model';
import { IconButton } from './parts';

/** The user's failed action, else why the lists are old; an empty live region when all is well. */
export function Notice(props: {
  readonly state: IState;
  readonly trans: TranslationBundle;
  readonly onRetry: () => void;
  readonly onForget: () => void;
}): JSX.Element {
  const { state, trans } = props;
  const problem = state.problem ?? state.actionProblem;
  return (
    <div className="jp-RemoteGpu-notice" role="status" data-empty={!problem}>
      {problem && (
        <>
          <div>
            <span aria-hidden="true">⚠ </span>
            {state.problem ? readText(state.problem, trans) : problem.message} {problem.hint}{' '}
            {state.problem && state.read > 0 && lastSeen(state.read, trans)}
          </div>
          {state.problem ? (
            <button type="button" className="jp-RemoteGpu-button jp-mod-styled jp-mod-reject" onClick={props.onRetry}>
              {trans.__('Try again')}
            </button>
          ) : (
            <IconButton icon={closeIcon} label={trans.__('Dismiss')} onClick={props.onForget} />
          )}
        </>
      )}
    </div>
  );
}

function readText(problem: ApiProblem, trans: TranslationBundle): string {
  if (problem.status === 0) {
    return trans.__('The Jupyter server does not answer. Remote runs continue on their nodes.');
  }
  if (problem.status === 404) {
    return trans.__(
      'The server side of Remote GPU is not enabled. Run “jupyter server extension enable jupyter_remote_gpu” and start the server again.'
    );
  }
  return problem.message;
}

function lastSeen(read: number, trans: TranslationBundle): string {
  return trans.__('Last seen: %1.', age(new Date(read).toISOString(), Date.now(), trans));
}
