/** What users import from 'cook-daemon'. */

export type { UpgradePhases } from './core/predecessor.ts'
export { ENV_NAME_DAEMON_STAGE, ENV_NAME_LIVING_UPGRADE } from './core/protocol.ts'
export { CookError, type CookErrorCode, type CookErrorValues } from './errors.ts'
export type { DaemonizeOptions, ListenUnixOptions, UpgradeOptions } from './options.ts'
export * from './verbs.ts'
