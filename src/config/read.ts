/** Reads what a configuration file says, in our own form or in PM2's. */
import { basename, extname } from 'node:path'
import { isFields } from '../contract/environment.ts'
import { readField, readService } from './fields.ts'
import { pm2Apps, readPm2, type Surroundings } from './pm2.ts'
import { ConfigFault, type Configuration, type ServiceConfig } from './service.ts'

/** Throws a `ConfigFault` that names service and field. */
export function readConfiguration(value: unknown, around: Surroundings): Configuration {
  const apps = pm2Apps(value)
  const read = apps === undefined ? readOwn(value) : readPm2(value, apps, around)
  const names = read.services.map(({ name }) => name)
  const twice = names.find((name, at) => names.indexOf(name) < at)
  if (twice !== undefined) throw new ConfigFault(`two services have the name ${twice}`)
  if (names.length === 0) throw new ConfigFault('it has no service')
  return read
}

function readOwn(value: unknown): Configuration {
  if (!isFields(value)) throw new ConfigFault('it is not an object with a list of services')
  const { $schema: _, services, ...others } = value
  if (Object.keys(value).length === 0) throw new ConfigFault('it has neither services nor apps')
  const [other] = Object.keys(others)
  if (other !== undefined)
    throw new ConfigFault(`${other} is not a field of a configuration; its only field is services`)
  if (!Array.isArray(services)) throw new ConfigFault('services must be an array')
  return { services: services.map(serviceAt), notes: [] }
}

function serviceAt(value: unknown, at: number): ServiceConfig {
  if (!isFields(value)) throw new ConfigFault(`service ${at + 1}: must be an object`)
  const called = typeof value.name === 'string' && value.name !== '' ? value.name : at + 1
  try {
    const service = readService(value)
    const name = readField('name', service.name ?? basename(service.script, extname(service.script))) as string
    return { ...service, name }
  } catch (error) {
    throw error instanceof ConfigFault ? new ConfigFault(`service ${called}: ${error.message}`) : error
  }
}
