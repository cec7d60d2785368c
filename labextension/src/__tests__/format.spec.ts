import { nullTranslator } from '@jupyterlab/translation';
import { describe, expect, it } from 'vitest';

import { badge } from '../badge';
import { age, amount, basename, count, duration } from '../format';
import { clusterGpus, sessionMark } from '../text';
import { CLUSTER, SESSION } from './fake';

const trans = nullTranslator.load('jupyter_remote_gpu');

describe('numbers and times', () => {
  it.each([
    [0.04, '0.0 s'],
    [1.23, '1.2 s'],
    [9.96, '10 s'],
    [59.7, '1 min 0 s'],
    [200, '3 min 20 s'],
    [7500, '2 h 05 min'],
    [-1, '0.0 s']
  ])('writes %s seconds as %s', (seconds, text) => {
    expect(duration(seconds, trans)).toBe(text);
  });

  it('says how long ago something was', () => {
    const now = Date.parse('2026-01-01T12:00:00Z');
    expect(age('2026-01-01T11:59:58Z', now, trans)).toBe('just now');
    expect(age('2026-01-01T11:59:20Z', now, trans)).toBe('40 s ago');
    expect(age('2026-01-01T11:30:00Z', now, trans)).toBe('30 min ago');
    expect(age('2026-01-01T09:00:00Z', now, trans)).toBe('3 h ago');
    expect(age(null, now, trans)).toBe('');
    expect(age('nonsense', now, trans)).toBe('');
  });

  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [1234567, '1.2 MB'],
    [8.6e9, '8.6 GB'],
    [5e15, '5000.0 TB']
  ])('writes %s bytes as %s', (bytes, text) => {
    expect(amount(bytes)).toBe(text);
  });

  it('groups digits and cuts paths', () => {
    expect(count(20114)).toBe('20\u202f114');
    expect(count(999)).toBe('999');
    expect(basename('a/b.ipynb')).toBe('b.ipynb');
  });
});

describe('states in words', () => {
  it('says what a cluster has', () => {
    expect(clusterGpus(CLUSTER, trans)).toBe('CPU only');
    expect(clusterGpus({ ...CLUSTER, gpus_total: 8, gpus_free: 2 }, trans)).toBe('2 of 8 GPUs free');
    expect(clusterGpus({ ...CLUSTER, gpus_total: 1, gpus_free: 1 }, trans)).toBe('1 of 1 GPU free');
    expect(clusterGpus({ ...CLUSTER, state: 'unreachable' }, trans)).toBe('');
  });

  it('shows the allocation first, then the link, then the kernel', () => {
    const word = (part: object) => sessionMark({ ...SESSION, ...part }, trans).word;
    expect(word({})).toBe('idle');
    expect(word({ kernel: { state: 'busy' } })).toBe('running');
    expect(word({ kernel: { state: 'busy' }, link: 'reconnecting' })).toBe('reconnecting');
    expect(word({ link: 'lost', state: 'ended' })).toBe('ended');
    expect(word({ kernel: null })).toBe('starting');
  });
});

describe('a run record as one line', () => {
  const record = {
    session: 'train',
    cluster: 'local',
    node: 'node1',
    gpu: 'CPU only',
    queued_s: 0.1,
    run_s: 1.23,
    lines: 20114,
    complete: true,
    state: 'done'
  };

  it('says where, how long and that all output is here', () => {
    const { mark, facts } = badge(record, trans);
    expect(mark.symbol).toBe('✓');
    expect(facts).toEqual(['train', 'local · node1', 'CPU only', '1.2 s', '20\u202f114 lines complete']);
  });

  it('warns when output is missing, and tells a long wait', () => {
    const { facts } = badge({ ...record, complete: false, queued_s: 65, lines: 1 }, trans);
    expect(facts.slice(-2)).toEqual(['1.2 s after 1 min 5 s of waiting', '1 line, not complete']);
  });

  it('leaves out what a running cell does not know yet', () => {
    const { mark, facts } = badge({ state: 'running', cluster: 'local', node: 'local', lines: 3 }, trans);
    expect(mark.word).toBe('running');
    expect(facts).toEqual(['local']);
  });

  it('does not count the lines of a cell that printed nothing', () => {
    expect(badge({ state: 'done', lines: 0, complete: true }, trans).facts).toEqual([]);
    expect(badge({ state: 'lost', lines: 0, complete: false }, trans).facts).toEqual(['0 lines, not complete']);
  });

  it('says nothing yet of the time and lines of a cell that waits', () => {
    const { mark, facts } = badge({ state: 'queued', session: 'train', lines: 0, complete: false, run_s: null }, trans);
    expect(mark.word).toBe('waiting');
    expect(facts).toEqual(['train']);
  });

  it('says what crossed, in short, and in full in the tooltip; what needs the user is in sight', () => {
    const names = {
      text: 'sent x, y (1.2 MB) · back z · model as handle (MLP) · log stays here',
      sent: ['x', 'y'],
      sent_bytes: 1234567,
      back: ['z'],
      handles: { model: 'MLP' },
      notes: ['log stays here']
    };
    const { facts, notes, tooltip } = badge({ state: 'done', names }, trans);
    expect(facts).toEqual(['↑ 2 (1.2 MB) ↓ 1 · 1 handle']);
    expect(notes).toEqual(['log stays here']);
    expect(tooltip).toBe(names.text);
    expect(badge({ names: { ...names, sent: [], back: [] } }, trans).facts).toEqual(['1 handle']);
    expect(badge({ names: { sent: [], back: [], handles: {}, notes: [] } }, trans).facts).toEqual([]);
  });

  it.each([null, 7, 'text', [], { text: 7, sent: 'xy', sent_bytes: 'many', back: null, handles: ['x'], notes: 3 }])(
    'survives names of another form: %j',
    names => {
      expect(badge({ names } as never, trans)).toMatchObject({ facts: [], notes: [], tooltip: '' });
    }
  );

  it('leaves out facts of another form', () => {
    const odd = { toString: 1 } as never;
    const record = { session: odd, cluster: odd, node: odd, gpu: odd, why: odd, started: odd, ended: odd, state: odd };
    expect(badge(record, trans)).toMatchObject({ facts: [], tooltip: '', mark: { word: 'unknown' } });
  });

  it('cuts what is too long, and counts what is too much', () => {
    const long = 'a'.repeat(5000);
    const names = { text: long, sent: Array(20000).fill(long), sent_bytes: -1, notes: [7, ...Array(9).fill(long)] };
    const { facts, notes, tooltip } = badge({ names, session: long, why: long, gpu: {} as never }, trans);
    expect(facts[0]).toHaveLength(200);
    expect(facts.slice(1)).toEqual(['↑ 20\u202f000']);
    expect(notes.map(note => note.length)).toEqual([300, 300, 300, 300, 'and 5 more'.length]);
    expect(tooltip).toHaveLength(2001);
  });

  it('survives a record of a later version', () => {
    expect(badge({ state: 'teleported' }, trans).mark.word).toBe('teleported');
    expect(badge({}, trans).mark.word).toBe('unknown');
  });
});
