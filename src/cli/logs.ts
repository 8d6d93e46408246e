/** `logs`: what the program wrote, as it was written. */
import { closeSync, existsSync, fstatSync, openSync, readSync, statSync } from 'node:fs'
import { type Client, clientOf } from '../control/client.ts'
import { CookError } from '../errors.ts'
import { statTarget } from '../node/stat.ts'
import { logFolders } from '../process/log-dir.ts'
import { logPath, namesIn, runDirectory } from '../process/run-dir.ts'
import { checkedName, ifNotRunning, silentOf, which } from './find-service.ts'
import { exitCodes, print } from './output.ts'

export type LogsOptions = {
  readonly follow?: boolean
  readonly lines: number
  readonly path?: boolean
}

export async function logs(name: string | undefined, options: LogsOptions): Promise<number> {
  const file = await logOf(name)
  if (options.path === true) {
    print(file)
    return exitCodes.done
  }
  const from = printLast(file, options.lines)
  if (options.follow === true) await follow(file, from)
  return exitCodes.done
}

/** The log of a service, also of one that does not run any more. */
async function logOf(name: string | undefined): Promise<string> {
  const folder = runDirectory(process.env)
  namesIn(folder)
  const client = name === undefined ? await which(name) : clientOf(folder, checkedName(name))
  // The log of a service that does not respond is known from its owner file.
  const status = await client.status().catch((error: unknown) => {
    const silent = silentOf(client, error) && client.owners().at(-1)
    return silent === undefined ? ifNotRunning(error) : { logFile: silent.program?.logFile }
  })
  const file = status?.logFile ?? logOfDead(client) ?? lastLog(folder, client.name)
  if (file !== undefined && existsSync(file)) return file
  if (status === undefined) throw new CookError('ERR_COOK_NOT_RUNNING', { name: client.name })
  throw new Error(`the daemon named ${client.name} knows no log file: it writes where it was started to write`)
}

function logOfDead(client: Client): string | undefined {
  const { logFile, program } = client.lastDead() ?? {}
  return logFile ?? program?.logFile
}

/** Wherever it was started from: a start leaves a link in the run directory, if it is not there. */
function lastLog(runFolder: string, name: string): string | undefined {
  const found = logFolders(process.env, runFolder).flatMap((folder) => {
    const file = logPath(folder, name)
    const stat = statTarget(file)
    return stat?.isFile === true ? [{ file, mtimeMs: stat.mtimeMs }] : []
  })
  return found.sort((one, other) => other.mtimeMs - one.mtimeMs)[0]?.file
}

const piece = 64 * 1024

/** Prints the last lines and returns where the file ended. */
function printLast(file: string, lines: number): number {
  const fd = openSync(file, 'r')
  try {
    const { size } = fstatSync(fd)
    let from = size
    let text = Buffer.alloc(0)
    while (from > 0 && count(text) <= lines) {
      const step = Math.min(piece, from)
      from -= step
      text = Buffer.concat([readPiece(fd, from, step), text])
    }
    const all = text.toString('utf8').split('\n')
    // Behind the last line end there is nothing.
    const last = all.at(-1) === '' ? all.slice(-lines - 1) : all.slice(-lines)
    if (lines > 0) process.stdout.write(last.join('\n'))
    return size
  } finally {
    closeSync(fd)
  }
}

function count(text: Buffer): number {
  let lines = 0
  for (const byte of text) if (byte === 10) lines++
  return lines
}

function readPiece(fd: number, from: number, length: number): Buffer {
  const bytes = Buffer.alloc(length)
  return bytes.subarray(0, readSync(fd, bytes, 0, length, from))
}

/**
 * As `tail -F`: by its name, so that a log that was rotated is followed in its new file. Until it
 * is interrupted, or nobody reads any more.
 */
async function follow(file: string, start: number): Promise<void> {
  let fd = openSync(file, 'r')
  let at = start
  const copy = () => {
    for (;;) {
      const bytes = readPiece(fd, at, piece)
      at += bytes.length
      process.stdout.write(bytes)
      if (bytes.length < piece) return
    }
  }
  const look = () => {
    copy()
    const now = statSync(file, { throwIfNoEntry: false })
    const open = fstatSync(fd)
    // It was cut in place.
    if (open.size < at) at = 0
    if (now === undefined || (now.ino === open.ino && now.dev === open.dev)) return
    closeSync(fd)
    fd = openSync(file, 'r')
    at = 0
    copy()
  }
  // inotify does not see what goes on behind a symlink, nor on every file system.
  const looking = setInterval(look, 100)
  await new Promise((gone) => process.stdout.once('error', gone))
  clearInterval(looking)
}
