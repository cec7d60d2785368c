/**
 * The section "Sessions".
 */
import type { TranslationBundle } from '@jupyterlab/translation';
import { copyIcon, refreshIcon, stopIcon, closeIcon } from '@jupyterlab/ui-components';
import React, { useEffect, useRef, useState } from 'react';

import { age, basename } from '../format';
import type { IState } from '../model';
import { isLive, sessionMark } from '../text';
import type { ISession } from '../types';
import { Facts, Hint, IconButton } from './parts';

/** What a row can ask for; each resolves when the lists are new. */
export interface ISessionActions {
  readonly stop: (session: ISession) => Promise<unknown>;
  readonly interrupt: (session: ISession) => Promise<unknown>;
  readonly restart: (session: ISession) => Promise<unknown>;
  readonly copy: (text: string) => void;
}

interface IRowProps {
  readonly session: ISession;
  readonly actions: ISessionActions;
  readonly trans: TranslationBundle;
}

/** Every remote session of this user, with what can be done to it. */
export function SessionsSection(props: {
  readonly state: IState;
  readonly actions: ISessionActions;
  readonly trans: TranslationBundle;
}): JSX.Element {
  const { state, trans } = props;
  if (state.sessions.length === 0) {
    if (state.problem) {
      return <Hint>{trans.__('The sessions are not known now.')}</Hint>;
    }
    return (
      <Hint>
        {state.loading
          ? trans.__('Looking for sessions…')
          : trans.__('No remote session yet. The first %1 cell starts one.', '%%remote_gpu')}
      </Hint>
    );
  }
  return (
    <ul className="jp-RemoteGpu-list" aria-label={trans.__('Remote sessions')}>
      {state.sessions.map(session => (
        <SessionRow key={session.id} session={session} actions={props.actions} trans={trans} />
      ))}
    </ul>
  );
}

type Question = 'stop' | 'restart';

function SessionRow(props: IRowProps): JSX.Element {
  const { session, actions, trans } = props;
  const [question, setQuestion] = useState<Question | null>(null);
  const [busy, setBusy] = useState(false);
  const act = async (action: (session: ISession) => Promise<unknown>): Promise<void> => {
    setQuestion(null);
    setBusy(true);
    await action(session);
    setBusy(false);
  };
  return (
    <li className="jp-RemoteGpu-row" data-session={session.name} title={session.why}>
      <div className="jp-RemoteGpu-rowHead">
        <span className="jp-RemoteGpu-name">{session.name}</span>
        {!question && <Buttons {...props} busy={busy} act={act} ask={setQuestion} />}
      </div>
      <Facts mark={sessionMark(session, trans)} facts={[session.cluster, session.node, session.label]} />
      {session.detail && <div className="jp-RemoteGpu-detail">{session.detail}</div>}
      <Facts facts={[session.notebook ? basename(session.notebook) : '', startedText(session, trans)]} />
      {question && (
        <Confirm
          question={question}
          trans={trans}
          onYes={() => void act(actions[question])}
          onNo={() => setQuestion(null)}
        />
      )}
    </li>
  );
}

function Buttons(
  props: IRowProps & {
    readonly busy: boolean;
    readonly act: (action: (session: ISession) => Promise<unknown>) => Promise<void>;
    readonly ask: (question: Question) => void;
  }
): JSX.Element {
  const { session, actions, trans, busy } = props;
  const dead = busy || !isLive(session);
  return (
    <span className="jp-RemoteGpu-buttons" role="group" aria-label={trans.__('Session %1', session.name)}>
      <IconButton
        icon={copyIcon}
        label={trans.__('Copy “%remote_gpu use %1” for another notebook', session.name)}
        onClick={() => actions.copy(`%remote_gpu use ${session.name}`)}
      />
      <IconButton
        icon={stopIcon}
        label={trans.__('Interrupt the running cell')}
        disabled={dead}
        onClick={() => void props.act(actions.interrupt)}
      />
      <IconButton
        icon={refreshIcon}
        label={trans.__('Restart the kernel…')}
        disabled={dead}
        onClick={() => props.ask('restart')}
      />
      <IconButton
        icon={closeIcon}
        label={trans.__('Stop the session…')}
        disabled={dead}
        onClick={() => props.ask('stop')}
      />
    </span>
  );
}

/** The question in place of a dialog. The harmless answer has the focus; Escape gives it. */
function Confirm(props: {
  readonly question: Question;
  readonly trans: TranslationBundle;
  readonly onYes: () => void;
  readonly onNo: () => void;
}): JSX.Element {
  const { trans } = props;
  const no = useRef<HTMLButtonElement>(null);
  useEffect(() => no.current?.focus(), []);
  const stop = props.question === 'stop';
  return (
    <div
      className="jp-RemoteGpu-confirm"
      role="alertdialog"
      aria-label={stop ? trans.__('Stop the session?') : trans.__('Restart the kernel?')}
      onKeyDown={event => {
        if (event.key === 'Escape') {
          event.stopPropagation();
          props.onNo();
        }
      }}
    >
      <span>
        {stop
          ? trans.__('Stop this session? Its variables are lost.')
          : trans.__('Restart the kernel? Its variables are lost.')}
      </span>
      <span className="jp-RemoteGpu-answers">
        <button type="button" ref={no} className="jp-RemoteGpu-button jp-mod-styled jp-mod-reject" onClick={props.onNo}>
          {trans.__('Keep')}
        </button>
        <button type="button" className="jp-RemoteGpu-button jp-mod-styled jp-mod-warn" onClick={props.onYes}>
          {stop ? trans.__('Stop') : trans.__('Restart')}
        </button>
      </span>
    </div>
  );
}

function startedText(session: ISession, trans: TranslationBundle): string {
  const when = age(session.started ?? session.created, Date.now(), trans);
  return when && trans.__('started %1', when);
}
