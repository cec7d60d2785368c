/**
 * Small pieces that the sections share.
 */
import type { LabIcon } from '@jupyterlab/ui-components';
import React from 'react';

import type { IMark } from '../text';

/** A state as shape and word. */
export function Mark(props: { readonly mark: IMark }): JSX.Element {
  const { symbol, word, tone } = props.mark;
  return (
    <span className="jp-RemoteGpu-mark" data-tone={tone}>
      <span className="jp-RemoteGpu-symbol" aria-hidden="true">
        {symbol}
      </span>
      {word}
    </span>
  );
}

/** A button with an icon; its label is read out and shown as a tooltip. */
export function IconButton(props: {
  readonly icon: LabIcon;
  readonly label: string;
  readonly onClick: () => void;
  readonly disabled?: boolean;
}): JSX.Element {
  return (
    <button
      type="button"
      className="jp-RemoteGpu-iconButton"
      title={props.label}
      aria-label={props.label}
      disabled={props.disabled}
      onClick={props.onClick}
    >
      <props.icon.react tag="span" />
    </button>
  );
}

/** Facts in one line, after a state where there is one; empty ones are left out. */
export function Facts(props: { readonly facts: ReadonlyArray<string>; readonly mark?: IMark }): JSX.Element {
  const text = props.facts.filter(Boolean).join(' · ');
  return (
    <div className="jp-RemoteGpu-facts" title={text}>
      {props.mark && <Mark mark={props.mark} />}
      {props.mark && text && ' · '}
      {text}
    </div>
  );
}

/** What an empty or loading section says instead of rows. */
export function Hint(props: { readonly children: React.ReactNode }): JSX.Element {
  return <p className="jp-RemoteGpu-hint">{props.children}</p>;
}
