/** The file that a dead process has left at its Unix path. */
import { linkSync } from 'node:fs'
import { CookError } from '../errors.ts'
import { removeFile, type Stat, statPath } from '../node/stat.ts'
import { faultAt, faultOnTheWay, removeOwn } from '../process/trust.ts'

/** Removes the file of a dead owner; throws if somebody lives there, or if it is no socket. */
export async function clearDead(file: string): Promise<void> {
  const stat = statPath(file)
  if (stat === undefined) return
  if (!stat.isSocket) throw new CookError('ERR_COOK_PATH_IN_USE', { path: file, why: 'it is not a socket' })
  const fault = faultOnTheWay(file) ?? faultAt(file, { mayHaveNames: true })
  if (fault !== undefined) throw new CookError('ERR_COOK_PATH_IN_USE', { path: file, why: fault })
  const answer = await knock(file)
  if (answer === 'ENOENT') return
  if (answer !== 'ECONNREFUSED') {
    const why = answer === 'connected' ? 'another process listens there' : `connecting to it gave ${answer}`
    throw new CookError('ERR_COOK_PATH_IN_USE', { path: file, why })
  }
  removeDead(file, stat)
}

/**
 * A start takes microseconds for this; a claim that is older, in milliseconds, is of one that was
 * killed in them.
 */
const claimAge = 5_000

/**
 * Removes the very file that was seen dead, and no other that stands there by now. A second name of
 * it, which link(2) gives to one process only, is the right to remove the first: as long as the
 * dead one is there nobody can publish another. (Moving it aside to look at it took the path from
 * living ones.)
 */
function removeDead(file: string, dead: Stat): void {
  const claim = `${file}.dead-${dead.ino}`
  const claimed = statPath(claim)
  if (claimed !== undefined && Date.now() - claimed.ctimeMs > claimAge) removeOwn(claim)
  try {
    linkSync(file, claim)
  } catch (error) {
    // Another start has just removed it: which of us publishes is for link(2) to decide.
    if (isCode(error, 'ENOENT')) return
    throw isCode(error, 'EEXIST') ? justBound(file, error) : error
  }
  try {
    const found = statPath(claim)
    // File systems give a freed inode number again at once: the time belongs to it.
    if (found?.ino !== dead.ino || found.mtimeMs !== dead.mtimeMs) throw justBound(file)
    removeFile(file)
  } finally {
    removeFile(claim)
  }
}

export function justBound(path: string, cause?: unknown): CookError {
  return new CookError('ERR_COOK_PATH_IN_USE', { path, why: 'another process has just bound it' }, { cause })
}

/** `connected`, or the code of the error: a path without a living owner refuses. */
function knock(file: string): Promise<string> {
  const { connect } = process.getBuiltinModule('node:net')
  return new Promise((answer) => {
    const socket = connect(file, () => {
      socket.destroy()
      answer('connected')
    })
    socket.once('error', (error: NodeJS.ErrnoException) => answer(error.code ?? error.message))
  })
}

export function isCode(error: unknown, code: string): boolean {
  return (error as NodeJS.ErrnoException)?.code === code
}
