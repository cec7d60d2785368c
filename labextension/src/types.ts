/**
 * The values of the REST API (docs/reference/rest-api.yaml), as far as the panel reads them.
 */

/** The like nodes of a cluster. */
export interface IPool {
  readonly name: string;
  readonly gpu_model: string;
  readonly gpu_memory_mb: number;
  readonly gpus_total: number;
  readonly gpus_free: number;
}

/** A configured place that can give GPUs. */
export interface ICluster {
  readonly name: string;
  readonly kind: string;
  readonly state: string;
  readonly detail: string;
  readonly pools: ReadonlyArray<IPool>;
  readonly gpus_total: number;
  readonly gpus_free: number;
  /** What it has, in words: "CPU only", "1 × NVIDIA H200". */
  readonly label: string;
  readonly updated: string | null;
}

/** The kernel of a session, as its supervisor last described it. */
export interface IKernelState {
  readonly state?: string;
  readonly text?: string;
}

/** A named remote kernel with its allocation. */
export interface ISession {
  readonly id: string;
  readonly name: string;
  readonly cluster: string;
  readonly kernel_id: string;
  readonly state: string;
  readonly detail: string;
  readonly node: string;
  readonly label: string;
  readonly notebook: string | null;
  readonly created: string | null;
  readonly started: string | null;
  readonly link: string;
  readonly kernel: IKernelState | null;
  readonly why: string;
  readonly attachments: number;
}

/** Where a notebook's remote cells run: a cluster's name, or "auto". */
export interface IChoice {
  readonly notebook: string;
  readonly cluster: string;
}

/** What a remote cell leaves in the notebook (see the reference page of the run record). */
export interface IRunRecord {
  readonly session?: string;
  readonly cluster?: string;
  readonly node?: string;
  readonly gpu?: string;
  readonly queued_s?: number | null;
  readonly run_s?: number | null;
  readonly started?: string | null;
  readonly ended?: string | null;
  readonly lines?: number | null;
  readonly complete?: boolean | null;
  readonly state?: string;
  readonly why?: string;
  /** What crossed: a node's words, of any form (see crossed.ts). */
  readonly names?: unknown;
}

/** The choice that leaves the cluster to the gateway. */
export const AUTO = 'auto';
