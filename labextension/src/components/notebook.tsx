/**
 * The section "This notebook": where its remote cells run.
 */
import type { TranslationBundle } from '@jupyterlab/translation';
import { HTMLSelect } from '@jupyterlab/ui-components';
import React from 'react';

import { basename } from '../format';
import type { IState } from '../model';
import { clusterGpus, clusterMark } from '../text';
import type { ICluster } from '../types';
import { AUTO } from '../types';
import { Hint } from './parts';

interface INotebookProps {
  readonly state: IState;
  readonly trans: TranslationBundle;
  readonly onChoose: (cluster: string) => void;
}

/** The choice of a cluster for the current notebook. */
export function NotebookSection(props: INotebookProps): JSX.Element {
  const { state, trans } = props;
  if (!state.notebook) {
    return <Hint>{trans.__('Open a notebook to choose where its %1 cells run.', '%%remote_gpu')}</Hint>;
  }
  const own = state.sessions.find(session => session.kernel_id === state.notebook?.kernelId);
  return (
    <div className="jp-RemoteGpu-notebook">
      <div className="jp-RemoteGpu-notebookName" title={state.notebook.path}>
        {basename(state.notebook.path)}
      </div>
      <label className="jp-RemoteGpu-choice">
        <span>{trans.__('Remote cells run on')}</span>
        <ClusterSelect {...props} />
      </label>
      <Hint>{own ? ownKernelHint(own.cluster, trans) : cellHint(trans)}</Hint>
    </div>
  );
}

function ClusterSelect(props: INotebookProps): JSX.Element {
  const { state, trans } = props;
  const names = new Set([AUTO, ...state.clusters.map(cluster => cluster.name)]);
  const chosen = state.choice ?? AUTO;
  return (
    <HTMLSelect
      className="jp-RemoteGpu-select"
      aria-label={trans.__('Cluster for the remote cells of this notebook')}
      value={chosen}
      disabled={state.choice === null}
      onChange={event => props.onChoose(event.target.value)}
    >
      <option value={AUTO}>{trans.__('Auto: the first that is free')}</option>
      {state.clusters.map(cluster => (
        <option key={cluster.name} value={cluster.name}>
          {optionText(cluster, trans)}
        </option>
      ))}
      {!names.has(chosen) && <option value={chosen}>{trans.__('%1 (not configured any more)', chosen)}</option>}
    </HTMLSelect>
  );
}

function optionText(cluster: ICluster, trans: TranslationBundle): string {
  const detail = clusterGpus(cluster, trans) || clusterMark(cluster, trans).word;
  return `${cluster.name} · ${detail}`;
}

function cellHint(trans: TranslationBundle): JSX.Element {
  const commands = ['%load_ext remote_gpu', '%%remote_gpu'];
  const parts = trans.__('Run {0} once, then begin a cell with {1}.').split(/\{(\d)\}/);
  return <>{parts.map((part, at) => (at % 2 ? <code key={at}>{commands[Number(part)]}</code> : part))}</>;
}

function ownKernelHint(cluster: string, trans: TranslationBundle): string {
  return trans.__('The kernel of this notebook runs on %1 itself: every cell is remote.', cluster);
}
