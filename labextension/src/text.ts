/**
 * States in shape and word: colour is never the only sign.
 */
import type { TranslationBundle } from '@jupyterlab/translation';

import type { ICluster, ISession } from './types';

/** How a state is shown: a symbol, a word, and a tone that the style sheet colours. */
export interface IMark {
  readonly symbol: string;
  readonly word: string;
  readonly tone: 'good' | 'busy' | 'waiting' | 'bad' | 'quiet';
}

/** A cluster's state. */
export function clusterMark(cluster: ICluster, trans: TranslationBundle): IMark {
  switch (cluster.state) {
    case 'ready':
      return { symbol: '●', word: trans.__('ready'), tone: 'good' };
    case 'checking':
      return { symbol: '◔', word: trans.__('checking'), tone: 'waiting' };
    case 'unreachable':
      return { symbol: '✕', word: trans.__('unreachable'), tone: 'bad' };
    default:
      return { symbol: '○', word: cluster.state, tone: 'quiet' };
  }
}

/** What a cluster has: "2 of 8 GPUs free · NVIDIA H100", or "CPU only". */
export function clusterGpus(cluster: ICluster, trans: TranslationBundle): string {
  if (cluster.state !== 'ready') {
    return '';
  }
  if (cluster.gpus_total === 0) {
    return trans.__('CPU only');
  }
  return trans._n('%2 of %1 GPU free', '%2 of %1 GPUs free', cluster.gpus_total, cluster.gpus_free);
}

/** The one state of a session that matters most now: its allocation, then its link, then its kernel. */
export function sessionMark(session: ISession, trans: TranslationBundle): IMark {
  switch (session.state) {
    case 'pending':
      return { symbol: '◔', word: trans.__('waiting'), tone: 'waiting' };
    case 'ended':
      return { symbol: '○', word: trans.__('ended'), tone: 'quiet' };
    case 'failed':
      return { symbol: '✕', word: trans.__('failed'), tone: 'bad' };
  }
  if (session.link === 'reconnecting') {
    return { symbol: '⇄', word: trans.__('reconnecting'), tone: 'waiting' };
  }
  if (session.link === 'lost') {
    return { symbol: '⚠', word: trans.__('connection lost'), tone: 'bad' };
  }
  return kernelMark(session, trans);
}

function kernelMark(session: ISession, trans: TranslationBundle): IMark {
  const state = session.kernel?.state ?? 'starting';
  switch (state) {
    case 'idle':
      return { symbol: '●', word: trans.__('idle'), tone: 'good' };
    case 'busy':
      return { symbol: '▶', word: trans.__('running'), tone: 'busy' };
    case 'dead':
      return { symbol: '✕', word: trans.__('kernel died'), tone: 'bad' };
    case 'restarting':
      return { symbol: '◔', word: trans.__('restarting'), tone: 'waiting' };
    case 'starting':
      return { symbol: '◔', word: trans.__('starting'), tone: 'waiting' };
    default:
      return { symbol: '●', word: state, tone: 'good' };
  }
}

/** Whether a session can still be stopped, interrupted, restarted. */
export function isLive(session: ISession): boolean {
  return session.state === 'pending' || session.state === 'running';
}
