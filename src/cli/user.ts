/** `--uid` and `--gid`: who that is, and whether they can run the program. */
import { closeSync, constants, openSync } from 'node:fs'
import { userInfo } from 'node:os'
import { type UserRecord, userText } from '../contract/user.ts'
import { messageOf } from '../errors.ts'
import { actingAs, faultOfNode, findGroup, findUser, groupsOf } from '../node/as-user.ts'
import { attempt } from '../node/sessions.ts'
import type { Command } from '../node/system.ts'
import { scriptEndings } from '../process/command.ts'
import { UsageError } from './output.ts'

type Options = { readonly uid?: string; readonly gid?: string }

/** Undefined: it stays whoever starts it. Throws a usage error. */
export function userOf({ uid, gid }: Options): UserRecord | undefined {
  if (uid === undefined) {
    if (gid !== undefined) throw new UsageError('--gid needs --uid')
    return undefined
  }
  if (process.geteuid?.() !== 0) return demandSelf(uid, gid)
  let user: ReturnType<typeof findUser>
  try {
    user = findUser(uid)
  } catch (error) {
    throw new UsageError(`--uid ${uid}: root cannot switch to that user here: ${messageOf(error)}`)
  }
  if (user === undefined) throw new UsageError(`--uid: there is no user ${uid}`)
  if (user.uid === 0)
    throw new UsageError('--uid: the program already runs as root. Remove --uid, or name another user')
  const group = gid === undefined ? user.gid : findGroup(gid)
  if (group === undefined) {
    throw new UsageError(
      gid === undefined
        ? `--uid ${uid}: no user has this number, so its group must be named with --gid`
        : `--gid: there is no group ${gid}`,
    )
  }
  const { name } = user
  const groups = name === undefined ? [group] : groupsOf(name, group)
  return { ...user, gid: group, groups }
}

/** With the groups that the user is in now. */
export function foundAgain({ uid, gid, name }: UserRecord): UserRecord | undefined {
  return userOf({ uid: name ?? String(uid), gid: String(gid) })
}

/** Who is not root can become nobody else, and need not become who they are. */
function demandSelf(uid: string, gid: string | undefined): undefined {
  const [ownUid, ownGid] = [process.geteuid?.(), process.getegid?.()]
  const isOwn = uid === String(ownUid) || uid === nameOf()
  if (!isOwn) throw new UsageError(`--uid ${uid}: only root can run a program as another user`)
  if (gid !== undefined && attempt(() => findGroup(gid)) !== ownGid) {
    throw new UsageError(`--gid ${gid}: only root can run a program with another group than its own (${ownGid})`)
  }
}

function nameOf(): string | undefined {
  try {
    return userInfo().username
  } catch {
    // A number without an entry.
    return undefined
  }
}

/**
 * Each version but the first is read by that user alone: what it could not read would be found at
 * the first upgrade, or after the first crash.
 */
export function checkForUser(user: UserRecord, { execPath, execArgv, args: [file = ''], cwd }: Command): void {
  const who = userText(user)
  const node = faultOfNode(user, execPath)
  if (node !== undefined) throw new UsageError(`--uid: the user ${who} cannot run ${execPath}: ${node}`)
  const [, preload = file] = execArgv
  const fault = actingAs(user, () => faultOf(cwd, preload, file))
  if (fault !== undefined) throw new UsageError(`--uid: the user ${who} cannot read the program: ${fault}`)
}

function faultOf(cwd: string, preload: string, script: string): string | undefined {
  const { O_NONBLOCK, O_RDONLY } = constants
  try {
    for (const file of [`${cwd}/.`, preload]) closeSync(openSync(file, O_RDONLY | O_NONBLOCK))
  } catch (error) {
    return messageOf(error)
  }
  const faults = scriptEndings.map((ending) => {
    try {
      closeSync(openSync(script + ending, O_RDONLY | O_NONBLOCK))
      return undefined
    } catch (error) {
      return messageOf(error)
    }
  })
  return faults.includes(undefined) ? undefined : faults[0]
}
