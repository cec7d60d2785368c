/**
 * The section "Clusters".
 */
import type { TranslationBundle } from '@jupyterlab/translation';
import React from 'react';

import { age } from '../format';
import type { IState } from '../model';
import { clusterGpus, clusterMark } from '../text';
import type { ICluster } from '../types';
import { Facts, Hint, Mark } from './parts';

/** Every configured cluster: state, GPUs, and how old that knowledge is. */
export function ClustersSection(props: { readonly state: IState; readonly trans: TranslationBundle }): JSX.Element {
  const { state, trans } = props;
  if (state.clusters.length === 0) {
    if (state.problem) {
      return <Hint>{trans.__('The clusters are not known now.')}</Hint>;
    }
    return <Hint>{state.loading ? trans.__('Looking for clusters…') : trans.__('No cluster is configured.')}</Hint>;
  }
  return (
    <ul className="jp-RemoteGpu-list" aria-label={trans.__('Clusters')}>
      {state.clusters.map(cluster => (
        <ClusterRow key={cluster.name} cluster={cluster} chosen={state.choice === cluster.name} trans={trans} />
      ))}
    </ul>
  );
}

function ClusterRow(props: {
  readonly cluster: ICluster;
  readonly chosen: boolean;
  readonly trans: TranslationBundle;
}): JSX.Element {
  const { cluster, trans } = props;
  const models = [...new Set(cluster.pools.map(pool => pool.gpu_model).filter(Boolean))].join(', ');
  const detail = cluster.state === 'ready' ? '' : cluster.detail;
  return (
    <li className="jp-RemoteGpu-row" data-cluster={cluster.name} data-chosen={props.chosen}>
      <div className="jp-RemoteGpu-rowHead">
        <span className="jp-RemoteGpu-name">{cluster.name}</span>
        <Mark mark={clusterMark(cluster, trans)} />
      </div>
      <Facts facts={[clusterGpus(cluster, trans), models]} />
      {detail && <div className="jp-RemoteGpu-detail">{detail}</div>}
      <Facts facts={[kindText(cluster.kind, trans), age(cluster.updated, Date.now(), trans)]} />
    </li>
  );
}

function kindText(kind: string, trans: TranslationBundle): string {
  switch (kind) {
    case 'local':
      return trans.__('this machine');
    case 'ssh':
      return trans.__('over SSH');
    case 'slurm':
      return trans.__('Slurm');
    case 'site':
      return trans.__('another site');
    default:
      return kind;
  }
}
