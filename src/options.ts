/** Options of the public functions, their defaults, and the check of what callers pass. */
import { CookError } from './errors.ts'

export type DaemonizeOptions = {
  /**
   * File for stdout and stderr, opened to append, created with mode 0640. A relative path is one from the launcher's working directory.
   * @default stdout and stderr go to /dev/null
   */
  readonly logFile?: string
  /** Working directory of the daemon. @default that of the launcher */
  readonly cwd?: string
  /** File mode creation mask of the daemon, for example `0o027`. @default that of the launcher */
  readonly umask?: number
  /** Variables for the daemon's environment, on top of the launcher's; every later generation has them too. @default none */
  readonly env?: Readonly<Record<string, string>>
  /**
   * The launcher waits until the daemon calls `notifyUpgradeDone()`, which then serves for the first start too. Without it, it waits only
   * until the daemon has come as far as its first call into this library.
   * @default false
   */
  readonly waitReady?: boolean
  /** Time for what is waited for, in milliseconds; then the daemon is killed and `daemonize()` rejects. @default 60000 */
  readonly readyTimeout?: number
}

export type UpgradeOptions = {
  /**
   * How the new version is started. `parent`, the documents' way: its program runs, calls `daemonize()`, and a second process of it becomes the
   * daemon. `daemon`, the direct way: one boot, and the exit code of a version that fails is known.
   * @default 'parent'
   */
  readonly stage?: 'parent' | 'daemon'
  /** Time the new version has to say that it is up, in milliseconds; then it is killed and this process keeps serving. @default 60000 */
  readonly readyTimeout?: number
  /**
   * Time between the new version's yes and the commit, in milliseconds. Both accept in it, and a new version that dies in it has failed.
   * @default 0
   */
  readonly overlap?: number
  /** Ends the upgrade: the new version is killed, and this process keeps serving. */
  readonly signal?: AbortSignal
  /** The Node binary. @default that of this process */
  readonly execPath?: string
  /** Arguments for Node itself. @default those of this process, without the inspector's */
  readonly execArgv?: readonly string[]
  /** The program, as an operator would type it: symlinks in it are followed at each upgrade. @default what was typed to start this process */
  readonly script?: string
  /** Arguments of the program. @default those of this process */
  readonly args?: readonly string[]
  /** Working directory. @default what was typed to start this process; symlinks in it are followed at each upgrade */
  readonly cwd?: string
  /** The whole environment. @default that with which this process was started, not what the program made of it since */
  readonly env?: Readonly<Record<string, string | undefined>>
}

export type ListenUnixOptions = {
  /** Mode of the file, for example `0o660`: who may connect. @default what the umask leaves */
  readonly mode?: number
}

type Kind = 'string' | 'boolean' | 'duration' | 'mode' | 'strings' | 'record' | 'signal' | 'stage'

const daemonizeKinds: Readonly<Record<keyof DaemonizeOptions, Kind>> = {
  logFile: 'string',
  cwd: 'string',
  umask: 'mode',
  env: 'record',
  waitReady: 'boolean',
  readyTimeout: 'duration',
}

const upgradeKinds: Readonly<Record<keyof UpgradeOptions, Kind>> = {
  stage: 'stage',
  readyTimeout: 'duration',
  overlap: 'duration',
  signal: 'signal',
  execPath: 'string',
  execArgv: 'strings',
  script: 'string',
  args: 'strings',
  cwd: 'string',
  env: 'record',
}

const listenUnixKinds: Readonly<Record<keyof ListenUnixOptions, Kind>> = { mode: 'mode' }

export function checkDaemonizeOptions(options: DaemonizeOptions): void {
  check(options, daemonizeKinds)
}

export function checkUpgradeOptions(options: UpgradeOptions): void {
  check(options, upgradeKinds)
}

export function checkListenUnixOptions(options: ListenUnixOptions): void {
  check(options, listenUnixKinds)
}

/** setTimeout takes no longer ones: it would fire at once. */
const longestDuration = 2 ** 31 - 1

const tests: Readonly<Record<Kind, readonly [isIt: (value: unknown) => boolean, what: string]>> = {
  string: [(value) => typeof value === 'string' && value !== '' && !value.includes('\0'), 'a string that is not empty'],
  boolean: [(value) => typeof value === 'boolean', 'true or false'],
  duration: [
    (value) => typeof value === 'number' && value >= 0 && value <= longestDuration,
    `a number of milliseconds from 0 to ${longestDuration}`,
  ],
  mode: [
    (value) => Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 0o777,
    'a number from 0 to 0o777',
  ],
  strings: [(value) => Array.isArray(value) && value.every((one) => typeof one === 'string'), 'an array of strings'],
  record: [(value) => typeof value === 'object' && value !== null && !Array.isArray(value), 'an object of strings'],
  signal: [(value) => value instanceof AbortSignal, 'an AbortSignal'],
  stage: [(value) => value === 'parent' || value === 'daemon', "'parent' or 'daemon'"],
}

/** A misspelt option is an error: silently it would be one that does nothing in production. */
function check(options: object, kinds: Readonly<Record<string, Kind>>): void {
  if (typeof options !== 'object' || options === null) {
    throw new CookError('ERR_COOK_OPTION', { option: 'options', why: 'they are no object' })
  }
  for (const [option, value] of Object.entries(options)) {
    const kind = Object.hasOwn(kinds, option) ? kinds[option] : undefined
    if (kind === undefined) {
      const why = `there is no such option; there are ${Object.keys(kinds).join(', ')}`
      throw new CookError('ERR_COOK_OPTION', { option, why })
    }
    const [isIt, what] = tests[kind]
    if (value !== undefined && !isIt(value))
      throw new CookError('ERR_COOK_OPTION', { option, why: `it must be ${what}` })
  }
}
