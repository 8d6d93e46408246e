/** The file of a Unix listener: its second name, and its end. */
import type { UnixPath } from '../contract/environment.ts'
import { fileAt, removeFile } from '../node/stat.ts'

/** A name of the same file, from which its path is put back if a program removes it. */
export function spareOf(path: string): string {
  return `${path}.spare`
}

/**
 * Removes the file, under both names, if it is this very one. A predecessor of an earlier version
 * does not say which it is.
 */
export function removeUnixFile({ path, file, isActivated }: UnixPath): void {
  if (isActivated === true) return
  const id = file ?? fileAt(path)?.id
  for (const name of [path, spareOf(path)]) {
    // Absent is not the same: somebody has removed it, or it never was there.
    if (id === undefined || fileAt(name)?.id !== id) continue
    try {
      removeFile(name)
    } catch {
      // Its folder is not ours any more. Nobody who closes a server expects an error, and the next
      // start replaces the file of a dead process.
    }
  }
}
