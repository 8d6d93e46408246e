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
  what: 'a size such as "512M" or "2G", or a number of bytes',
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
  what: `a name of 1 to 64 letters, digits, '.', '_' and '-' that begins with a letter or digit and is not ${everyService}`,
  schema: { type: 'string', pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$', not: { const: everyService } },
}
const variables: Kind = {
  read: readVariables,
  what: 'an object with strings, numbers, true or false, by the names of variables',
  schema: { type: 'object', additionalProperties: { type: ['string', 'number', 'boolean'] } },
}
const environments: Kind = {
  read: readEnvironments,
  what: 'an object of env objects, by the names of environments',
  schema: { type: 'object', additionalProperties: { $ref: '#/definitions/service/properties/env' } },
}

type Field = { readonly kind: Kind; readonly says: string }

type Name = Exclude<keyof ServiceConfig, 'mayListen'>

/** In the order in which they are shown. */
export const serviceFields: Readonly<Record<Name, Field>> = {
  name: { kind: name, says: "Name of the service. Default: the script's name without its extension." },
  script: { kind: text, says: 'The program, relative to cwd.' },
  args: { kind: texts, says: 'Arguments of the program.' },
  cwd: { kind: text, says: 'Working directory, relative to the folder of this file. Default: that folder.' },
  node: { kind: text, says: 'The Node that runs it: a path, or a name in $PATH.' },
  nodeArgs: { kind: texts, says: 'Arguments for Node itself.' },
  workers: { kind: workers, says: 'Number of workers, or "max": one for each core. Default: 1.' },
  env: { kind: variables, says: 'Variables added to the environment of the command.' },
  environments: { kind: environments, says: 'Variables added by --env NAME, by that name.' },
  log: { kind: text, says: 'File for stdout and stderr, relative to cwd.' },
  logMaxSize: { kind: size, says: 'Size at which the log is rotated, for example "50M".' },
  logKeep: { kind: count, says: 'Number of rotated logs to keep.' },
  pidFile: { kind: text, says: 'File for the pid of the keeper, relative to cwd.' },
  waitReady: { kind: flag, says: "The program reports that it is ready: process.send('ready')." },
  noListen: { kind: flag, says: 'It has no server: it is ready when it reports so, or after 3 s.' },
  keep: { kind: flag, says: 'False: without a keeper; nothing restarts it after a crash.' },
  moveConnections: { kind: flag, says: 'False: connections close after their next answer instead of moving.' },
  moveTls: { kind: flag, says: 'TLS 1.3 connections move too: their keys go to the new process.' },
  moveTlsFor: {
    kind: duration,
    says: 'Time after which a moved TLS connection closes after its next answer, in milliseconds. Default: 300000.',
  },
  readyTimeout: { kind: duration, says: 'Time it has to become ready, in milliseconds. Default: 60000.' },
  drainTimeout: { kind: duration, says: 'Time it has to finish what it accepted, in milliseconds. Default: 30000.' },
  lameDuck: {
    kind: duration,
    says: 'At SIGTERM: time in which it still serves and sends its clients elsewhere, in milliseconds. Default: 0.',
  },
  admin: { kind: admin, says: 'Port for /livez, /readyz and /metrics: a number, or "HOST:PORT". Default: none.' },
  overlap: {
    kind: duration,
    says: 'Time in which both versions accept during an upgrade, in milliseconds. Default: 0.',
  },
  hangTimeout: {
    kind: duration,
    says: 'It is killed and restarted if its event loop is blocked for this long, in milliseconds. Default: never.',
  },
  maxMemory: {
    kind: size,
    says: 'It is upgraded to itself when it uses more memory than this size, for example "512M". Default: never.',
  },
  uid: { kind: account, says: 'As root: the user to serve as. Only the first start is root, until it is ready.' },
  gid: { kind: account, says: 'With uid: the group. Default: the group of the user.' },
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
  if (read.script === undefined) throw new ConfigFault('script is missing: the program to run')
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
