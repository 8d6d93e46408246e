/** PM2's `ecosystem.config.js`, read as it is: each app as a service, and what is missed of it. */
import { basename, extname, resolve } from 'node:path'
import { isFields } from '../contract/environment.ts'
import { mostWorkers } from '../keeper/plan.ts'
import { readField } from './fields.ts'
import { commandOf, type NodeCommand, type Package, packageRunners } from './package-script.ts'
import { missedOf, pm2FieldOf } from './pm2-fields.ts'
import { ConfigFault, type Configuration, type RefusedService, type ServiceConfig } from './service.ts'
import { needsShell, wordsOf } from './words.ts'

/** What a file is read beside. */
export type Surroundings = {
  /** In which it lies. */
  readonly folder: string
  readonly home: string
  readonly cores: number
  packageIn(folder: string): Package | undefined
}

type App = Readonly<Record<string, unknown>>

/** As the file has it; undefined: it is no file of PM2's. */
export function pm2Apps(value: unknown): readonly unknown[] | undefined {
  if (Array.isArray(value)) return value
  if (!isFields(value) || 'services' in value) return undefined
  const apps = value.apps ?? value.pm2
  if (apps !== undefined) return Array.isArray(apps) ? apps : [apps]
  return 'script' in value ? [value] : undefined
}

export function readPm2(value: unknown, apps: readonly unknown[], around: Surroundings): Configuration {
  const missed = new Missed()
  if (isFields(value) && value.deploy !== undefined)
    missed.add('deploy', 'end your own deploy script with cook-daemon upgrade')
  const services = apps.map((app, at) => {
    if (!isFields(app)) throw new ConfigFault(`app ${at + 1}: must be an object`)
    const { name, fields } = fieldsOf(app, at, missed)
    try {
      return serviceOf(name, fields, around, missed)
    } catch (error) {
      if (!(error instanceof Refusal))
        throw error instanceof ConfigFault ? new ConfigFault(`${name}: ${error.message}`) : error
      return { name, refused: error.message } satisfies RefusedService
    }
  })
  return { services, notes: missed.texts }
}

/** This app cannot be run; the others can. */
class Refusal extends Error {}

/** Each field once, with the apps that have it. */
class Missed {
  readonly #by = new Map<string, string[]>()

  add(field: string, instead: string, app?: string): void {
    const text = `${field} is not supported: ${instead}`
    const apps = this.#by.get(text) ?? []
    if (app !== undefined) apps.push(app)
    this.#by.set(text, apps)
  }

  unknown(field: string, app: string): void {
    const text = `${field} is an unknown field, and is ignored`
    this.#by.set(text, [...(this.#by.get(text) ?? []), app])
  }

  get texts(): string[] {
    return [...this.#by].map(([text, apps]) => (apps.length === 0 ? text : `${apps.join(', ')}: ${text}`))
  }
}

/** By the names that PM2 documents. */
function fieldsOf(app: App, at: number, missed: Missed): { readonly name: string; readonly fields: App } {
  const fields: Record<string, unknown> = {}
  for (const [typed, value] of Object.entries(app)) {
    const field = pm2FieldOf(typed)
    if (field !== undefined) fields[field] ??= value
    else if (/^env_\S/.test(typed)) fields[typed] = value
  }
  const name = nameOf(fields, at)
  for (const [typed, value] of Object.entries(app)) {
    const field = pm2FieldOf(typed)
    if (field === undefined && !/^env_\S/.test(typed)) missed.unknown(typed, name)
    const instead = field === undefined ? undefined : missedOf(field, value)
    if (instead !== undefined) missed.add(typed, instead, name)
  }
  return { name, fields }
}

/** PM2 takes any text for a name; here it is part of a path. */
function nameOf({ name, script }: App, at: number): string {
  const typed =
    typeof name === 'string' && name !== '' ? name : typeof script === 'string' ? basename(script, extname(script)) : ''
  const safe = typed
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .replace(/^[^A-Za-z0-9]+/, '')
    .slice(0, 64)
  if (safe === '') throw new ConfigFault(`app ${at + 1}: script is missing: which program it runs`)
  return safe
}

function serviceOf(name: string, app: App, around: Surroundings, missed: Missed): ServiceConfig {
  const text = (field: string) => textOf(app, field)
  readField('name', name)
  const cwd = homed(text('cwd'), around)
  const interpreter = interpreterOf(app)
  const program = programOf(app, resolve(around.folder, cwd ?? '.'), around)
  const isCluster = isClusterMode(app, interpreter)
  const waitReady = app.wait_ready === undefined ? undefined : readField('waitReady', app.wait_ready)
  const mayListen = !isCluster && waitReady !== true
  const own: Record<keyof ServiceConfig, unknown> = {
    name,
    script: program.script,
    args: [...program.args, ...(program.takesArgs ? listOf(app.args, 'args') : [])],
    cwd,
    node: interpreter,
    nodeArgs: [
      ...program.nodeArgs,
      ...listOf(app.node_args, 'node_args'),
      ...(app.source_map_support === true ? ['--enable-source-maps'] : []),
    ],
    workers: workersOf(app.instances, around.cores),
    env: { ...program.env, ...variablesOf(app.env, 'env'), ...(app.port !== undefined && { PORT: String(app.port) }) },
    environments: Object.fromEntries(
      Object.entries(app)
        .filter(([field]) => field.startsWith('env_'))
        .map(([field, value]) => [field.slice('env_'.length), variablesOf(value, field)]),
    ),
    log: homed(logOf(app, name, missed), around),
    logMaxSize: undefined,
    logKeep: undefined,
    pidFile: homed(text('pid_file'), around),
    waitReady,
    noListen: mayListen ? true : undefined,
    mayListen: mayListen ? true : undefined,
    keep: app.autorestart === false ? false : undefined,
    moveConnections: undefined,
    moveTls: undefined,
    moveTlsFor: undefined,
    // Where PM2 waits for nothing, this says nothing.
    readyTimeout: mayListen ? undefined : durationOf(app, 'listen_timeout', 'readyTimeout'),
    drainTimeout: durationOf(app, 'kill_timeout', 'drainTimeout'),
    lameDuck: undefined,
    admin: undefined,
    overlap: undefined,
    hangTimeout: undefined,
    maxMemory: sizeOf(app.max_memory_restart),
    uid: accountOf(app, 'uid'),
    gid: accountOf(app, 'gid'),
  }
  return Object.fromEntries(Object.entries(own).filter(([, value]) => isSaid(value))) as ServiceConfig
}

function isSaid(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0
  return isFields(value) ? Object.keys(value).length > 0 : value !== undefined
}

type Program = NodeCommand & {
  /** The arguments of the app come behind it. */
  readonly takesArgs: boolean
}

function programOf(app: App, cwd: string, around: Surroundings): Program {
  const script = textOf(app, 'script')
  if (script === undefined) throw new ConfigFault('script is missing: the program to run')
  const [first = ''] = wordsOf(script)
  const isRunner = runners.includes(first)
  if (!/\s/.test(script) && !isRunner) return { script, args: [], nodeArgs: [], env: {}, takesArgs: true }
  const line = isRunner && first === script ? [script, ...listOf(app.args, 'args')] : wordsOf(script)
  const found = needsShell(script) ? undefined : commandOf(line, around.packageIn(cwd))
  if (found === undefined || typeof found === 'string') {
    throw new Refusal(
      `${line.join(' ')} cannot be upgraded. ${found ?? 'It is a line for a shell: name the file that Node runs as script'}`,
    )
  }
  return { ...found, takesArgs: first !== script }
}

/** What starts a program in the place of one. */
const runners = [...packageRunners, 'node', 'npx']

/** Of a script without one of its own, as PM2 chooses it. */
const interpreters: Readonly<Record<string, string>> = {
  ...{ '.sh': 'bash', '.py': 'python', '.rb': 'ruby', '.php': 'php', '.pl': 'perl' },
  ...{ '.coffee': 'coffee', '.ls': 'lsc' },
}

/** Undefined: the Node of the command. */
function interpreterOf(app: App): string | undefined {
  const script = textOf(app, 'script') ?? ''
  const typed = textOf(app, 'exec_interpreter') ?? interpreters[extname(script)] ?? 'node'
  const isRunner = typed === 'none' && runners.includes(wordsOf(script)[0] ?? '')
  if (typed === 'node' || isRunner) return undefined
  if (basename(typed) === 'node') return typed
  const isVersion = typed.startsWith('node@')
  throw new Refusal(
    isVersion
      ? `the interpreter ${typed} is not looked up: name the path of that Node`
      : `the interpreter ${typed} is not Node, and only programs for Node can be upgraded`,
  )
}

/** As PM2 decides it: a number of instances, even 1, makes it a cluster. */
function isClusterMode(app: App, interpreter: string | undefined): boolean {
  const mode = textOf(app, 'exec_mode')
  if (app.execute_command === true) return false
  if (mode === undefined) return interpreter === undefined && app.instances !== undefined
  if (!/^(cluster|fork)(_mode)?$/.test(mode)) throw new ConfigFault('exec_mode must be fork or cluster')
  return mode.startsWith('cluster')
}

function workersOf(instances: unknown, cores: number): number | 'max' | undefined {
  if (instances === undefined || instances === null) return undefined
  const count = instances === 'max' ? 0 : typeof instances === 'string' ? Number(instances) : instances
  const isSane = Number.isSafeInteger(count) && Number(count) <= mostWorkers
  if (!isSane) throw new ConfigFault(`instances must be a whole number up to ${mostWorkers}, or "max"`)
  const number = count as number
  if (number === 0) return 'max'
  const workers = number < 0 ? Math.max(1, cores + number) : number
  return workers === 1 ? undefined : workers
}

/** Stdout and stderr have one file here. */
function logOf(app: App, name: string, missed: Missed): string | undefined {
  if (app.disable_logs === true) return '/dev/null'
  const [both, out, error] = ['log_file', 'out_file', 'error_file'].map((field) =>
    typeof app[field] === 'boolean' ? undefined : textOf(app, field)?.replace(/^NULL$/, '/dev/null'),
  )
  const log = both ?? out ?? error
  const others = Object.entries({ out_file: out, error_file: error }).filter(
    ([, file]) => file !== undefined && file !== log,
  )
  for (const [field] of others) missed.add(field, `stdout and stderr go to one file, ${log}`, name)
  return log
}

function accountOf(app: App, field: 'uid' | 'gid'): unknown {
  const value = app[field]
  return value === undefined || value === null || value === '' ? undefined : readField(field, value)
}

function sizeOf(value: unknown): unknown {
  if (value === undefined || value === null) return undefined
  try {
    return readField('maxMemory', value)
  } catch {
    throw new ConfigFault('max_memory_restart must be a size such as "512M", or a number of bytes')
  }
}

/** PM2 takes numbers in quotes too. */
function durationOf(app: App, field: string, own: 'readyTimeout' | 'drainTimeout'): unknown {
  const value = app[field]
  if (value === undefined || value === null) return undefined
  const ms = typeof value === 'string' && value.trim() !== '' ? Number(value) : value
  try {
    return readField(own, ms)
  } catch (error) {
    throw new ConfigFault((error as Error).message.replace(own, field))
  }
}

function textOf(app: App, field: string): string | undefined {
  const value = app[field]
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'string' || value === '' || value.includes('\0')) {
    throw new ConfigFault(`${field} must be a string that is not empty`)
  }
  return value
}

function listOf(value: unknown, field: string): readonly string[] {
  if (value === undefined || value === null) return []
  if (typeof value === 'string') return wordsOf(value)
  const isList = Array.isArray(value) && value.every((one) => ['string', 'number'].includes(typeof one))
  if (!isList) throw new ConfigFault(`${field} must be a string or an array of strings`)
  return value.map(String)
}

/** PM2 makes text of what is an object in there. */
function variablesOf(value: unknown, field: string): Readonly<Record<string, string>> {
  if (value === undefined || value === null) return {}
  if (!isFields(value)) throw new ConfigFault(`${field} must be an object`)
  const said = Object.entries(value).filter(([, one]) => one !== undefined && one !== null)
  const plain = said.map(([name, one]) => [name, typeof one === 'object' ? JSON.stringify(one) : one])
  return readField('env', Object.fromEntries(plain)) as Readonly<Record<string, string>>
}

function homed(path: string | undefined, { home }: Surroundings): string | undefined {
  return path?.replace(/^~(?=\/|$)/, home)
}
