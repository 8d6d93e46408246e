/** Which files the log of a service is: its own, those of its workers, and what was rotated. */
import { readdirSync } from 'node:fs'
import { parse } from 'node:path'
import { statTarget } from '../node/stat.ts'
import { workerLog } from './log-dir.ts'
import { faultAt, faultOnTheWay } from './trust.ts'

export type WorkerLog = { readonly slot: number; readonly file: string }

/** Those that are there, by slot; also of slots that are gone. */
export function workerLogs(logFile: string): WorkerLog[] {
  const { dir, name, ext } = parse(logFile)
  const isSlot = (text: string) => /^(?:0|[1-9]\d{0,4})$/.test(text)
  return namesIn(dir || '.')
    .filter((one) => one.startsWith(`${name}@`) && one.endsWith(ext))
    .map((one) => one.slice(name.length + 1, one.length - ext.length))
    .filter(isSlot)
    .map((slot) => ({ slot: Number(slot), file: workerLog(logFile, Number(slot)) }))
    .sort((one, other) => one.slot - other.slot)
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    // It is gone, or not for us to read.
    return []
  }
}

/** What a log has become that was rotated so often. */
export function rotatedLog(file: string, times: number): string {
  return `${file}.${times}`
}

/** The copy that becomes `web.log.1`: as long as it is there, names of older ones may change. */
export function copyInMaking(file: string): string {
  return `${file}.rotating`
}

/** A file, and none that another user may have put in its place. */
export function isSafeLog(file: string): boolean {
  try {
    return statTarget(file)?.isFile === true && (faultOnTheWay(file) ?? faultAt(file)) === undefined
  } catch {
    // It has gone in between.
    return false
  }
}
