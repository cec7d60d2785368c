/**
 * A run record in one quiet line. Pure.
 */
import type { TranslationBundle } from '@jupyterlab/translation';

import { crossed } from './crossed';
import { clipped, count, duration } from './format';
import type { IMark } from './text';
import type { IRunRecord } from './types';

const LONGEST_FACT = 200;
const LONGEST_REASON = 1000;

/** The line: a mark, and the facts behind it. */
export interface IBadge {
  readonly mark: IMark;
  readonly facts: ReadonlyArray<string>;
  /** What the user should know of what crossed, and of what did not. */
  readonly notes: ReadonlyArray<string>;
  /** Why this node, when, and all that crossed: for the tooltip. */
  readonly tooltip: string;
}

/** The badge of a run record; facts that the record does not know are left out. Its texts are checked and cut: a node may have written them. */
export function badge(record: IRunRecord, trans: TranslationBundle): IBadge {
  const { fact, text, notes } = crossed(record.names, trans);
  const facts = [record.session, place(record), record.gpu, timeFact(record, trans), linesFact(record, trans), fact];
  const state = clipped(record.state, LONGEST_FACT);
  return {
    mark: runMark(state, trans),
    facts: facts.map(each => clipped(each, LONGEST_FACT)).filter(Boolean),
    notes,
    tooltip: [clipped(record.why, LONGEST_REASON), times(record, trans), text].filter(Boolean).join('\n')
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
  const names = [record.cluster, record.node].map(name => clipped(name, LONGEST_FACT));
  return [...new Set(names)].filter(Boolean).join(' · ');
}

/** Whether its end is still to come, so that nothing can be said of it yet. */
function isAhead(record: IRunRecord): boolean {
  return record.state === 'running' || record.state === 'queued';
}

function timeFact(record: IRunRecord, trans: TranslationBundle): string {
  if (isAhead(record) || typeof record.run_s !== 'number') {
    return '';
  }
  const run = duration(record.run_s, trans);
  const queued = typeof record.queued_s === 'number' ? record.queued_s : 0;
  return queued >= 1 ? trans.__('%1 after %2 of waiting', run, duration(queued, trans)) : run;
}

function linesFact(record: IRunRecord, trans: TranslationBundle): string {
  if (isAhead(record) || typeof record.lines !== 'number') {
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

function times(record: IRunRecord, trans: TranslationBundle): string {
  const started = clock(record.started);
  const ended = clock(record.ended);
  if (started && ended) {
    return trans.__('From %1 to %2', started, ended);
  }
  return started ? trans.__('Since %1', started) : '';
}

function clock(iso: string | null | undefined): string {
  const time = typeof iso === 'string' && iso ? new Date(iso) : null;
  return time && !Number.isNaN(time.getTime()) ? time.toLocaleString() : '';
}
