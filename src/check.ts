/** Checks what callers pass: a misspelt or impossible option is an error before anything starts. */
import { adminAddressOf } from './contract/admin-address.ts'
import type { ProgramRecord } from './contract/environment.ts'
import { isUser } from './contract/user.ts'
import { CookError } from './errors.ts'
import {
  type DaemonizeOptions,
  type DaemonOptions,
  type DaemonUpgradeOptions,
  defaults,
  type ListenUnixOptions,
  type ServingOptions,
  type UpgradeOptions,
} from './options.ts'

type Kind =
  | 'function'
  | 'rule'
  | 'moveTls'
  | 'count'
  | 'port'
  | 'state'
  | 'string'
  | 'boolean'
  | 'admin'
  | 'duration'
  | 'mode'
  | 'strings'
  | 'record'
  | 'signal'
  | 'stage'
  | 'service'
  | 'user'

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

export function checkDaemonUpgradeOptions(options: DaemonUpgradeOptions): void {
  check(options, { ...upgradeKinds, drainTimeout: 'duration', release: 'strings' })
}

/** What the command line may say anew of a program that runs. */
export function checkProgram(program: ProgramRecord): void {
  check(program, {
    ...{
      waitReady: 'boolean',
      noListen: 'boolean',
      moveConnections: 'boolean',
      moveTls: 'boolean',
      logFile: 'string',
      pidFile: 'string',
    },
    ...{
      readyTimeout: 'duration',
      drainTimeout: 'duration',
      moveTlsFor: 'duration',
      lameDuck: 'duration',
      overlap: 'duration',
      user: 'user',
      admin: 'admin',
    },
  } satisfies Partial<Record<keyof ProgramRecord, Kind>>)
}

export function checkListenUnixOptions(options: ListenUnixOptions): void {
  check(options, listenUnixKinds)
}

const daemonKinds: Readonly<Record<keyof DaemonOptions, Kind>> = {
  name: 'service',
  detach: 'boolean',
  logFile: 'string',
  cwd: 'string',
  umask: 'mode',
  pidFile: 'string',
  readyTimeout: 'duration',
  drainTimeout: 'duration',
  lameDuck: 'duration',
  admin: 'admin',
  overlap: 'duration',
  maxGenerations: 'count',
  moveConnections: 'rule',
  moveTls: 'moveTls',
  moveTlsFor: 'duration',
  saveState: 'state',
  stateTimeout: 'duration',
  onRelease: 'function',
  onTakeover: 'function',
  onEvent: 'function',
}

/** `known` are the signals of this system. */
export function checkServeOptions(
  { signals, ...options }: ServingOptions,
  known: Readonly<Record<string, number>>,
): void {
  check(options, { ...listenKinds, ...daemonKinds })
  if (signals === undefined) return
  check(signals, { upgrade: 'string', stop: 'strings' })
  for (const [option, names] of Object.entries(signals)) {
    for (const name of [names].flat()) {
      if (Object.hasOwn(known, name) && name !== 'SIGKILL' && name !== 'SIGSTOP') continue
      throw new CookError('ERR_COOK_OPTION', { option, why: `cannot be ${name}` })
    }
  }
  if (signals.upgrade !== undefined && (signals.stop ?? defaults.stopSignals).includes(signals.upgrade)) {
    throw new CookError('ERR_COOK_OPTION', {
      option: 'upgrade',
      why: `cannot be ${signals.upgrade}, which stops the service`,
    })
  }
}

const listenKinds = {
  name: 'string',
  port: 'port',
  host: 'string',
  backlog: 'count',
  path: 'string',
  mode: 'mode',
} as const satisfies Readonly<Record<string, Kind>>

export function checkDaemonOptions(options: DaemonOptions): void {
  check(options, daemonKinds)
}

/** Options of handOverWebSockets(), whose types need those of ws. */
export function checkWebSocketOptions(options: object): void {
  check(options, { name: 'string', saveState: 'function', onHandedOver: 'function', spread: 'duration' })
}

export function checkListenOptions(options: { readonly port?: unknown; readonly path?: unknown }): void {
  check(options, listenKinds)
  if ((options.port === undefined) === (options.path === undefined)) {
    throw new CookError('ERR_COOK_OPTION', { option: 'port', why: 'or path must be given, but not both' })
  }
}

/** To commands, every service of the run directory: none has it for a name. */
export const everyService = 'all'

/** A name is part of a path: nothing in it leads out of the run directory. */
export function isDaemonName(name: unknown): boolean {
  return typeof name === 'string' && name !== everyService && /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/.test(name)
}

/** setTimeout takes no longer ones: it would fire at once. */
export const longestDuration = 2 ** 31 - 1

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
  record: [
    (value) =>
      typeof value === 'object' &&
      value !== null &&
      !Array.isArray(value) &&
      Object.values(value).every((one) => one === undefined || typeof one === 'string'),
    'an object of strings',
  ],
  function: [(value) => typeof value === 'function', 'a function'],
  moveTls: [isMoveTls, 'true, false or { clientCertificates }'],
  rule: [(value) => typeof value === 'boolean' || typeof value === 'function', 'true, false or a function'],
  count: [(value) => Number.isInteger(value) && Number(value) >= 1, 'a whole number of at least 1'],
  admin: [(value) => adminAddressOf(value) !== undefined, "a port, or 'HOST:PORT'"],
  port: [
    (value) => Number.isInteger(value) && Number(value) >= 0 && Number(value) <= 65_535,
    'a number from 0 to 65535',
  ],
  state: [
    (value) =>
      typeof value === 'object' &&
      value !== null &&
      Object.values(value).every((one) => typeof one?.save === 'function' && isVersion(one.version)),
    'an object of { version, save() } by name, with whole numbers as versions',
  ],
  signal: [(value) => value instanceof AbortSignal, 'an AbortSignal'],
  service: [
    isDaemonName,
    "a name of 1 to 64 letters, digits, '.', '_' and '-' that begins with a letter or digit and is not all",
  ],
  user: [isUser, 'a user other than root'],
  stage: [(value) => value === 'parent' || value === 'daemon', "'parent' or 'daemon'"],
}

function isMoveTls(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return typeof value === 'boolean'
  const { clientCertificates = false, ...others } = value as { readonly clientCertificates?: unknown }
  return typeof clientCertificates === 'boolean' && Object.keys(others).length === 0
}

function isVersion(value: unknown): boolean {
  return value === undefined || (Number.isSafeInteger(value) && Number(value) >= 0)
}

/** A misspelt option is an error: silently it would be one that does nothing in production. */
function check(options: object, kinds: Readonly<Record<string, Kind>>): void {
  if (typeof options !== 'object' || options === null) {
    throw new CookError('ERR_COOK_OPTION', { option: 'options', why: 'must be an object' })
  }
  for (const [option, value] of Object.entries(options)) {
    const kind = Object.hasOwn(kinds, option) ? kinds[option] : undefined
    if (kind === undefined) {
      const why = `is not an option; the options are ${Object.keys(kinds).join(', ')}`
      throw new CookError('ERR_COOK_OPTION', { option, why })
    }
    const [isIt, what] = tests[kind]
    if (value !== undefined && !isIt(value)) throw new CookError('ERR_COOK_OPTION', { option, why: `must be ${what}` })
  }
}
