/** Who runs a unit, and whether they can read what it runs. */
import { realpathSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import type { UnitUser } from '../host/unit.ts'
import { isGroup, nameOfUser } from '../node/accounts.ts'
import type { Command } from '../node/system.ts'
import { UsageError } from './output.ts'
import type { UnitOptions } from './unit-options.ts'
import { checkForUser, userOf } from './user.ts'

/** --uid, else the owner of the script; root's script gets a user that owns nothing. */
export function unitUser(script: string, { userManager, uid, gid }: UnitOptions): UnitUser {
  if (userManager === true) {
    if (uid === undefined && gid === undefined) return { kind: 'manager' }
    throw new UsageError('--uid and --gid are for units of the machine: a user manager starts services as its own user')
  }
  if (gid !== undefined && !isGroup(gid)) throw new UsageError(`--gid: there is no group ${gid}`)
  if (uid !== undefined) {
    const user = nameOfUser(uid)
    if (user !== undefined) return { kind: 'named', user, group: gid }
    throw new UsageError(`--uid: there is no user ${uid}`)
  }
  const owner = statSync(script).uid
  if (owner !== 0) {
    const user = nameOfUser(String(owner))
    if (user !== undefined) return { kind: 'named', user, group: gid }
    throw new UsageError(
      `${script} belongs to user ${owner}, who does not exist: name a user with --uid, or make root its owner`,
    )
  }
  if (gid === undefined) return { kind: 'dynamic' }
  throw new UsageError(
    '--gid needs --uid here: the script belongs to root, so systemd gives the unit its own user and group',
  )
}

/** Throws a usage error where they cannot; of another user only root can know. */
export function demandReadable(
  user: UnitUser,
  { execPath, args: [script = ''], cwd }: Command,
  bin: string,
  paths: readonly string[],
): void {
  if (user.kind === 'named' && user.user !== 'root' && process.geteuid?.() === 0) {
    const found = userOf({ uid: user.user, ...(user.group !== undefined && { gid: user.group }) })
    if (found !== undefined) checkForUser(found, { execPath, execArgv: ['--require', bin], args: [script], cwd })
  }
  if (user.kind !== 'dynamic') return
  const closed = paths.flatMap((path) => [path, realpathSync(path)]).find(isClosed)
  if (closed === undefined) return
  throw new UsageError(
    `the user of the unit (DynamicUser=) cannot read ${closed} or enter a folder above it: change the mode, move it (for example to /srv), or name a user with --uid`,
  )
}

/** Folders must be open for everybody to enter; a file to be read. */
function isClosed(path: string): boolean {
  for (let at = path; ; at = dirname(at)) {
    const stat = statSync(at)
    if ((stat.mode & (stat.isDirectory() ? 0o001 : 0o004)) === 0) return true
    if (at === dirname(at)) return false
  }
}
