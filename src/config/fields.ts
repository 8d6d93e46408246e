/** Every field of a service in a configuration: what it takes, and a sentence for editors. */

import { everyService, isDaemonName, longestDuration } from '../check.ts'
import { adminAddressOf } from '../contract/admin-address.ts'
import { envHome, isFields, ownVariables } from '../contract/environment.ts'
import { isId } from '../contract/user.ts'
import { mostWorkers } from '../keeper/plan.ts'
import { ConfigFault, type ServiceConfig } from './service.ts'
import { bytesOf, sizePattern } from './sizes.ts'

/** What a field takes: how it is read, in words, and for a JSON schema. */
type Kind = {
  /** Undefined: it is something else. */
  readonly read: (value: unknown) => unknown
  readonly what: string
  readonly schema: object
}

const such = (isIt: (value: unknown) => boolean) => (value: unknown) => (isIt(value) ? value : undefined)

const isText = (value: unknown) => typeof value === 'string' && value !== '' && !value.includes('\0')
const isCount = (value: unknown, least: number) => Number.isSafeInteger(value) && Number(value) >= least

const text: Kind = {
  read: such(isText),
  what: 'a string that is not empty',
  schema: { type: 'string', minLength: 1 },
}
const texts: Kind = {
  read: such((value) => Array.isArray(value) && value.every((one) => typeof one === 'string' && !one.includes('\0'))),
  what: 'an array of strings',
  schema: { type: 'array', items: { type: 'string' } },
}
const flag: Kind = {
  read: such((value) => typeof value === 'boolean'),
  what: 'true or false',
  schema: { type: 'boolean' },
}
const duration: Kind = {
  read: such((value) => typeof value === 'number' && value >= 0 && value <= longestDuration),
  what: `a number of milliseconds from 0 to ${longestDuration}`,
  schema: { type: 'number', minimum: 0, maximum: longestDuration },
}
const size: Kind = {
  read: bytesOf,
  what: 'a size as "512M" or "2G", or a number of bytes',
  schema: {
    anyOf: [
      { type: 'string', pattern: sizePattern },
      { type: 'number', exclusiveMinimum: 0 },
    ],
  },
}
const count: Kind = {
  read: such((value) => isCount(value, 0)),
  what: 'a whole number',
  schema: { type: 'integer', minimum: 0 },
}
const account: Kind = {
  read: such((value) => isText(value) || isId(value)),
  what: 'a name or a number',
  schema: {
    anyOf: [
      { type: 'string', minLength: 1 },
      { type: 'integer', minimum: 0 },
    ],
  },
}
const admin: Kind = {
  read: such((value) => (typeof value === 'number' || isText(value)) && adminAddressOf(value) !== undefined),
  what: 'a port, or "HOST:PORT"',
  schema: {
    anyOf: [
      { type: 'string', minLength: 1 },
      { type: 'integer', minimum: 0, maximum: 65_535 },
    ],
  },
}
const workers: Kind = {
  read: such((value) => value === 'max' || (isCount(value, 1) && Number(value) <= mostWorkers)),
  what: `a whole number from 1 to ${mostWorkers}, or "max"`,
  schema: { anyOf: [{ type: 'integer', minimum: 1, maximum: mostWorkers }, { const: 'max' }] },
}
const name: Kind = {
  read: such((value) => isDaemonName(value)),
  what: `a name of letters, digits, '.', '_' and '-', at most 64, that begins with a letter or digit, and is not ${everyService}`,
  schema: { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$', not: { const: everyService } },
}
const variables: Kind = {
  read: readVariables,
  what: 'an object of strings, numbers, true or false, by the names of variables',
  schema: { type: 'object', additionalProperties: { type: ['string', 'number', 'boolean'] } },
}
const environments: Kind = {
  read: readEnvironments,
  what: 'an object of such objects as env takes, by the names of environments',
  schema: { type: 'object', additionalProperties: { $ref: '#/definitions/service/properties/env' } },
}

type Field = { readonly kind: Kind; readonly says: string }

type Name = Exclude<keyof ServiceConfig, 'mayListen'>

/** In the order in which they are shown. */
export const serviceFields: Readonly<Record<Name, Field>> = {
  name: { kind: name, says: 'Name of the service. Without it, that of the script without its extension.' },
  script: { kind: text, says: 'The program, relative to cwd.' },
  args: { kind: texts, says: 'Arguments of the program.' },
  cwd: { kind: text, says: 'Working directory, relative to the folder of this file. Without it, that folder.' },
  node: { kind: text, says: 'The Node that runs it: a path, or a name in $PATH.' },
  nodeArgs: { kind: texts, says: 'Arguments for Node itself.' },
  workers: { kind: workers, says: 'How many workers: a number, or "max" for one on each core. 1 without it.' },
  env: { kind: variables, says: 'Variables that are added to the environment of the command.' },
  environments: { kind: environments, says: 'Variables that are added by --env NAME, by that name.' },
  log: { kind: text, says: 'File for stdout and stderr, relative to cwd.' },
  logMaxSize: { kind: size, says: 'Size at which the log is rotated, as "50M".' },
  logKeep: { kind: count, says: 'How many rotated logs are kept.' },
  pidFile: { kind: text, says: 'File for the pid of the keeper, relative to cwd.' },
  waitReady: { kind: flag, says: "The program says itself when it is ready: process.send('ready')." },
  noListen: { kind: flag, says: 'It has no server: it is up when it says so, or has lived for 3 s.' },
  keep: { kind: flag, says: 'False: without a keeper, and a crash stays down.' },
  moveConnections: { kind: flag, says: 'False: connections close with their next answer instead of moving.' },
  moveTls: { kind: flag, says: 'Connections of TLS 1.3 move too: their keys go to the new version.' },
  moveTlsFor: {
    kind: duration,
    says: 'Time after which one that has moved ends with its next answer, in milliseconds. 300000 without it.',
  },
  readyTimeout: { kind: duration, says: 'Time until it must serve, in milliseconds. 60000 without it.' },
  drainTimeout: { kind: duration, says: 'Time to finish what was accepted, in milliseconds. 30000 without it.' },
  lameDuck: {
    kind: duration,
    says: 'At SIGTERM: how long it still serves and sends its clients elsewhere, in milliseconds. 0 without it.',
  },
  admin: { kind: admin, says: 'Port for /livez, /readyz and /metrics: a number, or "HOST:PORT". None without it.' },
  overlap: { kind: duration, says: 'How long both versions accept at an upgrade, in milliseconds. 0 without it.' },
  hangTimeout: { kind: duration, says: 'Its event loop must turn within this time, in milliseconds, or it is killed.' },
  maxMemory: { kind: size, says: 'Above this size, as "512M", it is replaced by an upgrade to itself.' },
  uid: { kind: account, says: 'As root: the user as whom it serves. Only its first start is root, until it is ready.' },
  gid: { kind: account, says: 'With uid: the group. Without it, that of the user.' },
}

/** Throws a `ConfigFault` that names the field. */
export function readService(fields: Readonly<Record<string, unknown>>): ServiceConfig {
  const read: Record<string, unknown> = {}
  for (const [field, value] of Object.entries(fields)) {
    if (!Object.hasOwn(serviceFields, field)) {
      throw new ConfigFault(`${field} is not a field; the fields are ${Object.keys(serviceFields).join(', ')}`)
    }
    if (value !== undefined) read[field] = readField(field as Name, value)
  }
  if (read.script === undefined) throw new ConfigFault('script is missing: which program it runs')
  return read as ServiceConfig
}

export function readField(field: Name, value: unknown): unknown {
  const { kind } = serviceFields[field]
  const read = kind.read(value)
  if (read === undefined) throw new ConfigFault(`${field} must be ${kind.what}`)
  return read
}

function readVariables(value: unknown): Readonly<Record<string, string>> | undefined {
  if (!isFields(value)) return undefined
  for (const [variable, one] of Object.entries(value)) {
    const own = [...ownVariables, envHome] as readonly string[]
    if (own.includes(variable)) throw new ConfigFault(`env cannot set ${variable}, which cook-daemon sets itself`)
    const isSimple = ['string', 'number', 'boolean'].includes(typeof one)
    if (!isSimple || variable === '' || /[=\0]/.test(variable) || String(one).includes('\0')) return undefined
  }
  return Object.fromEntries(Object.entries(value).map(([variable, one]) => [variable, String(one)]))
}

function readEnvironments(value: unknown): unknown {
  if (!isFields(value)) return undefined
  const read = Object.entries(value).map(([environment, one]) => [environment, readVariables(one)] as const)
  return read.some(([, one]) => one === undefined) ? undefined : Object.fromEntries(read)
}
