/** Where the page of a proof goes: a file that may be replaced, and nobody else's. */
import { accessSync, constants, readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { messageOf } from '../errors.ts'
import { fileAt, type Stat, statPath, statTarget } from '../node/stat.ts'
import { faultAt, faultOnTheWay } from '../process/trust.ts'
import { UsageError } from './output.ts'
import { reportMark } from './prove-report.ts'
import { writeWhole } from './whole-file.ts'

/** Throws if it could not be written: before anything runs for it. */
export function checkReport(file: string): void {
  const fault = faultOf(file)
  if (fault !== undefined) throw new UsageError(`the report cannot be written to ${file}: ${fault}`)
}

/** It has the mode of the one that it replaces. */
export function writeReport(file: string, text: string): void {
  const fault = faultOf(file)
  if (fault !== undefined) throw new Error(`the report was not written to ${file}: ${fault}`)
  try {
    const { mode } = fileAt(file) ?? {}
    writeWhole(file, text, mode === undefined ? undefined : mode & 0o666)
  } catch (cause) {
    throw new Error(`the report was not written to ${file}: ${messageOf(cause)}`, { cause })
  }
}

function faultOf(file: string): string | undefined {
  const folder = dirname(file)
  try {
    if (statTarget(folder)?.isFolder !== true) return `${folder} is not a folder`
    // What is written anew needs a place beside it, also where the file itself may be written.
    accessSync(folder, constants.W_OK | constants.X_OK)
    return faultOnTheWay(file) ?? faultOfOne(file, statPath(file))
  } catch (error) {
    return messageOf(error)
  }
}

function faultOfOne(file: string, stat: Stat | undefined): string | undefined {
  if (stat === undefined) return undefined
  if (stat.isFolder) return 'it is a folder'
  if (!stat.isFile)
    return `it is ${stat.isSymlink ? 'a symlink' : 'not a regular file'}, and is neither followed nor replaced`
  // A name that was typed wrongly must not cost somebody his program.
  const isOwn = stat.size === 0 || readFileSync(file, 'utf8').startsWith(reportMark)
  return (
    faultAt(file) ?? (isOwn ? undefined : 'the file there was not written by prove; remove it, or choose another name')
  )
}
