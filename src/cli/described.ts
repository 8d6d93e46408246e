/** Services that a configuration describes: found, read and checked before anything happens. */
import { availableParallelism } from 'node:os'
import { dirname, resolve } from 'node:path'
import { findConfig, isConfigName } from '../config/find.ts'
import { configError, loadConfiguration } from '../config/load.ts'
import type { RefusedService, ServiceConfig } from '../config/service.ts'
import { findUser } from '../node/as-user.ts'
import { withoutUndefined } from '../options.ts'
import type { OtherOwner } from '../process/trust.ts'
import { note, UsageError } from './output.ts'
import { type Program, placeOf, programOf, type StartOptions } from './program.ts'

export type FileOptions = StartOptions & {
  /** Which of the environments of the file. */
  readonly env?: string
  readonly allowOwner?: string
}

/** One of a file, as a command takes it. */
export type Described = {
  readonly name: string
  readonly file: string
  readonly program: Program
  readonly options: StartOptions
  /** Added to the environment of the command, or of what ran before. */
  readonly env: Readonly<Record<string, string>>
  /** Without --env, what runs keeps those of the environment that it was started with. */
  readonly kept: readonly string[]
  readonly isNodeNamed: boolean
  readonly mayListen: boolean
}

export type Found = {
  readonly file: string
  readonly services: readonly (ServiceConfig | RefusedService)[]
  /** What the file asks for and does not get. */
  readonly notes: readonly string[]
}

/** The file that is named first, else that of the working directory; undefined: there is none. */
export async function findDescribed(words: readonly string[], options: FileOptions): Promise<Found | undefined> {
  const { file, names } = fileIn(words, placeOf(options))
  if (file === undefined) return undefined
  const { services, notes } = await loadConfiguration(file, ownerOf(options))
  const unknown = names.find((name) => !services.some((one) => one.name === name))
  if (unknown !== undefined) {
    throw new UsageError(`${file} has no service ${unknown}: it has ${services.map(({ name }) => name).join(', ')}`)
  }
  return { file, notes, services: services.filter(({ name }) => names.length === 0 || names.includes(name)) }
}

function fileIn(words: readonly string[], place: string) {
  const [first, ...names] = words
  if (first !== undefined) return { file: isConfigName(first) ? resolve(place, first) : undefined, names }
  try {
    return { file: findConfig(place), names }
  } catch (error) {
    throw configError(resolve(place, 'cook.config'), error as Error)
  }
}

function ownerOf({ allowOwner }: FileOptions): OtherOwner | undefined {
  if (allowOwner === undefined) return undefined
  if (process.geteuid?.() !== 0)
    throw new UsageError('--allow-owner is for root only: other users read their own files and those of root')
  const { uid, gid } = findUser(allowOwner) ?? {}
  if (uid === undefined || gid === undefined) throw new UsageError(`--allow-owner: there is no user ${allowOwner}`)
  return { uid, gid }
}

/** Refuses what is wrong with any of them before anything happens; then says what is missed. */
export function described(
  { file, services, notes }: Found,
  typed: FileOptions,
): readonly (Described | RefusedService)[] {
  const options = typedOptions(typed, services.length)
  checkEnvironment(services, typed.env)
  const all = services.map((service) => {
    if ('refused' in service) return service
    const own = { ...optionsOf(service, dirname(file)), ...options }
    try {
      const { script, args = [], mayListen = false } = service
      const { env = {}, environments = {} } = service
      return {
        ...{ name: service.name, file, program: programOf(script, args, own), options: own, mayListen },
        ...{ env: { ...env, ...environments[typed.env ?? ''] }, isNodeNamed: own.node !== undefined },
        kept: typed.env === undefined ? Object.values(environments).flatMap(Object.keys) : [],
      }
    } catch (error) {
      if (!(error instanceof UsageError)) throw error
      throw configError(file, new Error(`service ${service.name}: ${error.message}`, { cause: error }))
    }
  })
  for (const text of notes) note(`${file}: ${text}`)
  return all
}

/** Each service has its own of these. */
const ofOne = ['name', 'log', 'pid'] as const

/** What is typed goes before what the file says; what commander fills in was not typed. */
function typedOptions(typed: FileOptions, count: number): StartOptions {
  const { cwd: _, env: __, allowOwner: ___, keep, listen, moveConnections, ...others } = typed
  const wrong = ofOne.find((option) => typed[option] !== undefined && (count > 1 || option === 'name'))
  if (wrong !== undefined)
    throw new UsageError(`--${wrong} is for one program: in a configuration, set it for each service`)
  const no = (value: boolean | undefined) => (value === false ? value : undefined)
  return withoutUndefined({ ...others, keep: no(keep), listen: no(listen), moveConnections: no(moveConnections) })
}

function checkEnvironment(services: Found['services'], name: string | undefined): void {
  if (name === undefined) return
  const known = services.flatMap((one) => ('refused' in one ? [] : Object.keys(one.environments ?? {})))
  if (known.includes(name)) return
  const which = known.length === 0 ? 'none' : [...new Set(known)].join(', ')
  throw new UsageError(`--env ${name}: no service has this environment; the environments are: ${which}`)
}

/** As the command line would have them. Relative paths begin in the folder of the file. */
function optionsOf(service: ServiceConfig, folder: string): StartOptions {
  const { name, cwd = '.', node, nodeArgs, log, pidFile, waitReady, noListen, keep, moveConnections } = service
  const { readyTimeout, drainTimeout, lameDuck, admin, overlap, hangTimeout, maxMemory } = service
  const { logMaxSize, logKeep, workers, uid, gid, moveTls, moveTlsFor } = service
  return withoutUndefined({
    ...{ name, cwd: resolve(folder, cwd), node, nodeArg: nodeArgs, log, pid: pidFile, waitReady, moveConnections },
    ...{ keep: keep === false ? false : undefined, listen: noListen === true ? false : undefined },
    ...{ readyTimeout, drainTimeout, lameDuck, overlap, hangTimeout, maxMemory, logMaxSize, logKeep },
    ...{ moveTls: moveTls === true ? true : undefined, moveTlsFor },
    ...{ admin: admin?.toString(), uid: uid?.toString(), gid: gid?.toString() },
    workers: workers === 'max' ? availableParallelism() : workers,
  })
}
