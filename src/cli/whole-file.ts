/** A file that is there whole or not at all, also if the machine stops meanwhile. */
import { randomUUID } from 'node:crypto'
import { closeSync, constants, fchmodSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { removeFile } from '../node/stat.ts'

/**
 * Replaces what stands at the path; a symlink there is replaced, not followed. Without a mode it
 * gets that of a new file.
 */
export function writeWhole(path: string, text: string, mode?: number): void {
  const folder = dirname(path)
  // Hidden, and with an ending that nobody reads, as systemd does not.
  const temporary = join(folder, `.${basename(path)}.${randomUUID()}.tmp`)
  const fd = openSync(
    temporary,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    mode ?? 0o644,
  )
  try {
    writeFileSync(fd, text)
    if (mode !== undefined) fchmodSync(fd, mode)
    fsyncSync(fd)
    renameSync(temporary, path)
  } catch (error) {
    removeFile(temporary)
    throw error
  } finally {
    closeSync(fd)
  }
  const place = openSync(folder, 'r')
  fsyncSync(place)
  closeSync(place)
}
