/**
 * Numbers and times as people read them. Pure; the words come from the caller's translation.
 */
import type { TranslationBundle } from '@jupyterlab/translation';

/** A duration: "0.4 s", "12 s", "3 min 20 s", "2 h 05 min". `seconds` below zero count as zero. */
export function duration(seconds: number, trans: TranslationBundle): string {
  const s = Math.max(0, seconds);
  if (s < 9.95) {
    return trans.__('%1 s', s.toFixed(1));
  }
  const whole = Math.round(s);
  if (whole < 60) {
    return trans.__('%1 s', whole);
  }
  if (whole < 3600) {
    return trans.__('%1 min %2 s', Math.floor(whole / 60), whole % 60);
  }
  const minutes = String(Math.floor((whole % 3600) / 60)).padStart(2, '0');
  return trans.__('%1 h %2 min', Math.floor(whole / 3600), minutes);
}

/** How long ago `iso` was, seen at `now` (ms since the epoch); empty when unknown. */
export function age(iso: string | null, now: number, trans: TranslationBundle): string {
  const then = iso ? Date.parse(iso) : NaN;
  if (Number.isNaN(then)) {
    return '';
  }
  const seconds = Math.floor((now - then) / 1000);
  if (seconds < 5) {
    return trans.__('just now');
  }
  if (seconds < 60) {
    return trans.__('%1 s ago', seconds);
  }
  if (seconds < 3600) {
    return trans.__('%1 min ago', Math.floor(seconds / 60));
  }
  return trans.__('%1 h ago', Math.floor(seconds / 3600));
}

/** 20114 → "20 114", with thin no-break spaces, the same in every language. */
export function count(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, '\u202f');
}

/** The last part of a path. */
export function basename(path: string): string {
  return path.split('/').pop() ?? path;
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** Bytes as people say them, in steps of 1000: "12 B", "3.4 kB", "1.2 GB". */
export function amount(bytes: number): string {
  let unit = 0;
  let size = bytes;
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  return `${size.toFixed(unit === 0 ? 0 : 1)} ${UNITS[unit]}`;
}

/** `value` if it is text, with an ellipsis where it is longer than `longest` characters; else nothing. */
export function clipped(value: unknown, longest: number): string {
  const text = typeof value === 'string' ? value : '';
  return text.length > longest ? `${text.slice(0, longest - 1)}…` : text;
}
