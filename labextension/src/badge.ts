/**
 * A run record in one quiet line. Pure.
 */
import type { TranslationBundle } from '@jupyterlab/translation';

import { count, duration } from './format';
import type { IMark } from './text';
import type { IRunRecord } from './types';

const LONGEST = 1000;

/** The line: a mark, and the facts behind it. */
export interface IBadge {
  readonly mark: IMark;
  readonly facts: ReadonlyArray<string>;
  /** Why this node, and when: for the tooltip. */
  readonly tooltip: string;
}

/** The badge of a run record; facts that the record does not know are left out. */
export function badge(record: IRunRecord, trans: TranslationBundle): IBadge {
  const facts = [
    record.session,
    place(record),
    record.gpu,
    timeFact(record, trans),
    linesFact(record, trans),
    namesFact(record, trans)
  ];
  return {
    mark: runMark(record.state ?? '', trans),
    facts: facts.filter((fact): fact is string => Boolean(fact)),
    tooltip: [record.why, times(record, trans), namesText(record)].filter(Boolean).join('\n')
  };
}

/** The mark of a run's state. */
export function runMark(state: string, trans: TranslationBundle): IMark {
  switch (state) {
    case 'queued':
      return { symbol: '◔', word: trans.__('waiting'), tone: 'waiting' };
    case 'running':
      return { symbol: '▶', word: trans.__('running'), tone: 'busy' };
    case 'done':
      return { symbol: '✓', word: trans.__('done'), tone: 'good' };
    case 'failed':
      return { symbol: '✕', word: trans.__('failed'), tone: 'bad' };
    case 'interrupted':
      return { symbol: '■', word: trans.__('interrupted'), tone: 'quiet' };
    case 'detached':
      return {
        symbol: '⇄',
        word: trans.__('detached, still running'),
        tone: 'waiting'
      };
    case 'lost':
      return { symbol: '⚠', word: trans.__('lost'), tone: 'bad' };
    default:
      return { symbol: '○', word: state || trans.__('unknown'), tone: 'quiet' };
  }
}

function place(record: IRunRecord): string {
  return [...new Set([record.cluster, record.node])].filter(Boolean).join(' · ');
}

function timeFact(record: IRunRecord, trans: TranslationBundle): string {
  if (record.state === 'running' || typeof record.run_s !== 'number') {
    return '';
  }
  const run = duration(record.run_s, trans);
  const queued = record.queued_s ?? 0;
  return queued >= 1 ? trans.__('%1 after %2 of waiting', run, duration(queued, trans)) : run;
}

function linesFact(record: IRunRecord, trans: TranslationBundle): string {
  if (record.state === 'running' || typeof record.lines !== 'number') {
    return '';
  }
  if (record.lines === 0 && record.complete !== false) {
    return ''; // nothing was printed, and nothing is missing
  }
  const lines = trans._n('%2 line', '%2 lines', record.lines, count(record.lines));
  if (record.complete === false) {
    return trans.__('%1, not complete', lines);
  }
  return record.complete ? trans.__('%1 complete', lines) : lines;
}

function namesFact(record: IRunRecord, trans: TranslationBundle): string {
  const { sent, back, handles, notes } = record.names ?? {};
  const [over, here] = [length(sent), length(back)];
  const held = handles && typeof handles === 'object' ? Object.keys(handles).length : 0;
  const facts = [
    over ? `↑ ${over}` : '',
    here ? `↓ ${here}` : '',
    held ? trans._n('%2 handle', '%2 handles', held, String(held)) : '',
    length(notes) ? '⚠' : ''
  ];
  return facts.filter(Boolean).join(' ');
}

function length(list: unknown): number {
  return Array.isArray(list) ? list.length : 0;
}

function namesText(record: IRunRecord): string {
  const text = record.names?.text;
  return typeof text === 'string' ? text.slice(0, LONGEST) : '';
}

function times(record: IRunRecord, trans: TranslationBundle): string {
  const started = clock(record.started);
  const ended = clock(record.ended);
  if (started && ended) {
    return trans.__('From %1 to %2', started, ended);
  }
  return started ? trans.__('Since %1', started) : '';
}

function clock(iso: string | null | undefined): string {
  const time = iso ? new Date(iso) : null;
  return time && !Number.isNaN(time.getTime()) ? time.toLocaleString() : '';
}
