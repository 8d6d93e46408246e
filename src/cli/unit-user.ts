/** Who runs a unit, and whether they can read what it runs. */
import { realpathSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import type { UnitUser } from '../host/unit.ts'
import { type Account, accountOf, isGroup } from '../node/accounts.ts'
import { UsageError } from './output.ts'
import type { UnitOptions } from './unit-options.ts'

/** --uid, else the owner of the script; root's script gets a user that owns nothing. */
export function unitUser(script: string, { userManager, uid, gid }: UnitOptions): UnitUser {
  if (userManager === true) {
    if (uid === undefined && gid === undefined) return { kind: 'manager' }
    throw new UsageError('--uid and --gid are for a unit of the machine: the manager of a user starts it as that user')
  }
  if (gid !== undefined && !isGroup(gid)) throw new UsageError(`--gid: there is no group ${gid}`)
  if (uid !== undefined) {
    if (accountOf(uid) === undefined) throw new UsageError(`--uid: there is no user ${uid}`)
    return { kind: 'named', user: uid, group: gid }
  }
  const owner = statSync(script).uid
  if (owner !== 0) {
    const user = accountOf(owner)
    if (user !== undefined) return { kind: 'named', user: user.name, group: gid }
    throw new UsageError(
      `${script} belongs to user ${owner}, who does not exist: name one with --uid, or give it to root`,
    )
  }
  if (gid === undefined) return { kind: 'dynamic' }
  throw new UsageError(
    '--gid needs --uid here: the script belongs to root, so the unit has a user and a group of its own',
  )
}

/** The first of these that they cannot read, by the modes of files and folders; undefined: none. */
export function unreadable(paths: readonly string[], user: UnitUser): string | undefined {
  if (user.kind === 'manager') return undefined
  const ids = user.kind === 'dynamic' ? nobody : accountOf(user.user)
  if (ids === undefined || ids.uid === 0) return undefined
  return paths.flatMap((path) => [path, realpathSync(path)]).find((path) => !mayReach(path, ids))
}

type Ids = Pick<Account, 'uid' | 'groups'>

/** Nothing belongs to a user that was not there before. */
const nobody: Ids = { uid: -1, groups: [] }

/** Folders must be entered; a file be read. */
function mayReach(path: string, ids: Ids): boolean {
  for (let at = path; ; at = dirname(at)) {
    const stat = statSync(at)
    if (!may(stat, stat.isDirectory() ? 1 : 4, ids)) return false
    if (at === dirname(at)) return true
  }
}

function may({ uid, gid, mode }: { uid: number; gid: number; mode: number }, bit: 1 | 4, ids: Ids): boolean {
  const shift = uid === ids.uid ? 6 : ids.groups.includes(gid) ? 3 : 0
  return ((mode >> shift) & bit) !== 0
}
