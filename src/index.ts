/**
 * What users import from 'cook-daemon'. Every function throws or rejects if the library cannot work
 * here: `ERR_COOK_PLATFORM`, `ERR_COOK_WORKER_THREAD`, `ERR_COOK_CLUSTER_WORKER`,
 * `ERR_COOK_TWO_COPIES`, `ERR_COOK_ENVIRONMENT`, and under the preload `ERR_COOK_PRELOADED`.
 *
 * @module cook-daemon
 */

export * from './classic/verbs.ts'
export { ENV_NAME_DAEMON_STAGE, ENV_NAME_LIVING_UPGRADE } from './contract/environment.ts'
export type { Phase } from './contract/phase.ts'
export { createDaemon, type Daemon, type DaemonReport, type WorkerPlace } from './daemon.ts'
export { CookError, type CookErrorCode, type CookErrorValues } from './errors.ts'
export type {
  DaemonEvent,
  DaemonizeOptions,
  DaemonOptions,
  DaemonUpgradeOptions,
  DrainCounts,
  DrainReport,
  DrainTimes,
  ListenNaming,
  ListenOptions,
  ListenUnixOptions,
  MoveRule,
  MoveTlsOptions,
  PathOptions,
  PortOptions,
  SaveState,
  TlsCounts,
  UpgradeOptions,
  UpgradePhases,
  UpgradeResult,
} from './options.ts'
export { type ServeOptions, serve } from './serve.ts'
