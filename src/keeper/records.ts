/** The record of a service, a file beside its control socket: it outlives the service. */
import { readdirSync, readFileSync, renameSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { messageOf } from '../errors.ts'
import { attempt } from '../node/sessions.ts'
import { removeFile, statPath } from '../node/stat.ts'
import { parseJson } from '../process/json-lines.ts'
import { say } from './log-lines.ts'
import { readRecord, type ServiceRecord } from './plan.ts'

const suffix = '.service'

function recordPath(folder: string, name: string): string {
  return join(folder, `${name}${suffix}`)
}

/** Whole or not at all. It has the environment in it: nobody else may read it. */
export function writeRecord(folder: string, record: ServiceRecord): void {
  const file = recordPath(folder, record.plan.name)
  const temporary = `${file}.${process.pid}.tmp`
  const text = `${JSON.stringify(record)}\n`
  try {
    writeFileSync(temporary, text, { mode: 0o600, flag: 'w' })
    renameSync(temporary, file)
  } catch (error) {
    removeFile(temporary)
    // On a full disk there is room in the file itself. It is not whole meanwhile, which costs a
    // service that has stopped nothing.
    if (record.state !== 'stopped') throw error
    writeFileSync(file, text, { flag: 'r+' })
    truncateSync(file, Buffer.byteLength(text))
  }
}

/** Writes the record down whenever it may have changed. */
export class Recorder {
  readonly #look: () => ServiceRecord
  #isOpen = false
  #isDue = false
  #fault = ''
  /** What a start that is under way has taken the place of; undefined: nothing was known. */
  #before: ServiceRecord | undefined

  constructor(look: () => ServiceRecord) {
    this.#look = look
  }

  /** Before the first worker serves: if this keeper dies then, another one finds what to keep. */
  open(): void {
    if (this.#isOpen) return
    const { plan } = this.#look()
    this.#before = plan.folder === undefined ? undefined : recordOf(plan.folder, plan.name)
    this.#isOpen = true
    this.write()
  }

  /** The start has failed: what was known before is known again. */
  undo(): void {
    const { name, folder } = this.#look().plan
    if (!this.#isOpen || folder === undefined) return
    this.#isOpen = false
    attempt(() => (this.#before === undefined ? removeRecord(folder, name) : writeRecord(folder, this.#before)))
  }

  /** In a turn of its own: several things change at once. */
  changed(): void {
    if (!this.#isDue) setImmediate(() => this.write())
    this.#isDue = true
  }

  /** What keeps it from being written keeps nobody from serving, and is said once. */
  write(): void {
    this.#isDue = false
    const record = this.#look()
    const { folder } = record.plan
    if (!this.#isOpen || folder === undefined) return
    try {
      writeRecord(folder, record)
      this.#fault = ''
    } catch (error) {
      const { code = messageOf(error) } = error as NodeJS.ErrnoException
      if (code !== this.#fault) say(`the record of the service could not be written: ${messageOf(error)}`)
      this.#fault = code
    }
  }
}

/** Undefined: there is none, or none that this version of the library can read. */
export function recordOf(folder: string, name: string): ServiceRecord | undefined {
  const file = recordPath(folder, name)
  try {
    const stat = statPath(file)
    // What it says is started with this user's rights.
    if (stat?.isFile !== true || stat.uid !== process.getuid?.()) return undefined
    return readRecord(parseJson(readFileSync(file, 'utf8')))
  } catch {
    return undefined
  }
}

export function hasRecord(folder: string, name: string): boolean {
  return statPath(recordPath(folder, name)) !== undefined
}

export function removeRecord(folder: string, name: string): void {
  removeFile(recordPath(folder, name))
}

/** Names of all services of which there is a record. */
export function recordedNames(folder: string): string[] {
  try {
    return readdirSync(folder)
      .filter((file) => file.endsWith(suffix))
      .map((file) => file.slice(0, -suffix.length))
  } catch {
    // There is no run directory yet.
    return []
  }
}
