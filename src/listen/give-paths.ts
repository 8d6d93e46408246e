/** Unix sockets that this process has opened as root go to the user as whom it serves. */
import { chownSync, closeSync, constants, openSync } from 'node:fs'
import type { UserRecord } from '../contract/user.ts'
import { attempt } from '../node/sessions.ts'
import { statDescriptor } from '../node/stat.ts'
import type { Service } from '../service.ts'

/** But for those whose owner the program has chosen. */
export function givePaths({ listeners, handles }: Service, user: UserRecord): void {
  for (const { server } of listeners) {
    const { path, file } = handles.paths.get(server) ?? {}
    // It serves all the same: who could connect before still can.
    if (path !== undefined && file !== undefined) attempt(() => give(path, file, user))
  }
}

/**
 * Not by its name, under which somebody may have put another file meanwhile: what is open has the
 * identity of the socket that we have bound, and nothing else has it as long as we listen there.
 */
function give(path: string, file: string, { uid, gid }: UserRecord): void {
  // O_PATH, which Node has no name for.
  const fd = openSync(path, 0o10000000 | constants.O_NOFOLLOW)
  try {
    const stat = statDescriptor(fd)
    if (stat?.id === file && stat.isSocket && stat.uid === 0) {
      chownSync(`/proc/self/fd/${fd}`, uid, stat.gid === 0 ? gid : stat.gid)
    }
  } finally {
    closeSync(fd)
  }
}
