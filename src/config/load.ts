/** Takes a configuration file from disk: whether it may be believed, and what it says. */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs'
import { availableParallelism, homedir } from 'node:os'
import { dirname, extname, join } from 'node:path'
import { CookError, messageOf } from '../errors.ts'
import { fileAt } from '../node/stat.ts'
import { faultOfSource, type OtherOwner } from '../process/trust.ts'
import { evaluate } from './evaluate.ts'
import type { Package } from './package-script.ts'
import type { Surroundings } from './pm2.ts'
import { readConfiguration } from './read.ts'
import { ConfigFault, type Configuration } from './service.ts'

/** `owner`: who may write in it besides this user and root; its code runs as that user. */
export async function loadConfiguration(file: string, owner?: OtherOwner): Promise<Configuration> {
  try {
    if (fileAt(file) === undefined) throw new ConfigFault('no such file')
    const fault = faultOfSource(file, owner)
    if (fault !== undefined) throw new CookError('ERR_COOK_CONFIG_OWNER', { file, why: fault })
    const value = extname(file) === '.json' ? readJson(file) : await evaluate(file, owner)
    return readConfiguration(value, surroundingsOf(file))
  } catch (error) {
    throw error instanceof ConfigFault ? configError(file, error) : error
  }
}

export function configError(file: string, cause: Error): CookError {
  return new CookError('ERR_COOK_CONFIG', { file, why: cause.message }, { cause })
}

const mostBytes = 1024 * 1024

function readJson(file: string): unknown {
  const text = readText(file)
  try {
    return JSON.parse(text.replace(/^\uFEFF/, ''))
  } catch (error) {
    throw new ConfigFault(`it is not valid JSON (JSON has no comments): ${messageOf(error)}`)
  }
}

function readText(file: string): string {
  // A pipe in its place would never end.
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stat = fstatSync(fd)
    if (!stat.isFile()) throw new ConfigFault('it is not a file')
    if (stat.size > mostBytes) throw new ConfigFault(`it has more than ${mostBytes} bytes`)
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}

function surroundingsOf(file: string): Surroundings {
  return { folder: dirname(file), home: homedir(), cores: availableParallelism(), packageIn }
}

function packageIn(folder: string): Package | undefined {
  try {
    return JSON.parse(readText(join(folder, 'package.json')))
  } catch {
    // None, or none that can be read: then it has no script of that name.
    return undefined
  }
}
