/**
 * What crossed with a remote cell, from its run record. Pure.
 *
 * A node may have had a hand in these words, so each part is checked for its type and cut to a length.
 */
import type { TranslationBundle } from '@jupyterlab/translation';

import { amount, clipped, count } from './format';

const LONGEST_NOTE = 300;
const LONGEST_TEXT = 1000;
const MOST_NOTES = 5;

/** What crossed: in short, in full, and what the user should know of it; empty where nothing did. */
export interface ICrossed {
  /** "↑ 3 (1.2 MB) ↓ 2 · 1 handle" */
  readonly fact: string;
  readonly text: string;
  readonly notes: ReadonlyArray<string>;
}

/** The `names` of a run record, whatever they turn out to be. */
export function crossed(names: unknown, trans: TranslationBundle): ICrossed {
  const { text, sent, sent_bytes, back, handles, notes } = object(names);
  const held = Object.keys(object(handles)).length;
  const arrows = [over(list(sent).length, sent_bytes), arrow('↓', list(back).length)].filter(Boolean).join(' ');
  const handleFact = held ? trans._n('%2 handle', '%2 handles', held, count(held)) : '';
  return {
    fact: [arrows, handleFact].filter(Boolean).join(' · '),
    text: clipped(text, LONGEST_TEXT),
    notes: shown(list(notes), trans)
  };
}

function over(number: number, bytes: unknown): string {
  const size = typeof bytes === 'number' && bytes > 0 ? ` (${amount(bytes)})` : '';
  return number ? arrow('↑', number) + size : '';
}

function arrow(symbol: string, number: number): string {
  return number ? `${symbol} ${count(number)}` : '';
}

function shown(notes: ReadonlyArray<unknown>, trans: TranslationBundle): string[] {
  const first = notes.slice(0, MOST_NOTES).map(note => clipped(note, LONGEST_NOTE));
  const more = notes.length - MOST_NOTES;
  return [...first.filter(Boolean), ...(more > 0 ? [trans.__('and %1 more', count(more))] : [])];
}

function list(value: unknown): ReadonlyArray<unknown> {
  return Array.isArray(value) ? value : [];
}

function object(value: unknown): Readonly<Record<string, unknown>> {
  return value && typeof value === 'object' && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
