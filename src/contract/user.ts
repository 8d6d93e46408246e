/** As whom a program serves that only its first start runs as root. Pure. */

/** As it was found when the service was started: nobody asks the system for it again. */
export type UserRecord = {
  readonly uid: number
  readonly gid: number
  /** All that the user is in. */
  readonly groups: readonly number[]
  /** Undefined: it has no entry, as of a number in a container. */
  readonly name?: string
  readonly home?: string
  readonly shell?: string
}

/** Highest of uid_t; the one above it means "as it is" for the system. */
const mostId = 2 ** 32 - 2

export function isId(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= mostId
}

export function isUser(value: unknown): value is UserRecord {
  if (typeof value !== 'object' || value === null) return false
  const { uid, gid, groups, name = '', home = '', shell = '' } = value as Readonly<Record<string, unknown>>
  const isText = (one: unknown) => typeof one === 'string'
  const areGroups = Array.isArray(groups) && groups.every(isId)
  // Root is nobody that a program is given to.
  return isId(uid) && uid !== 0 && isId(gid) && areGroups && isText(name) && isText(home) && isText(shell)
}

/** What a login would set: a program that looks there must not find root's. */
export function variablesOf({ name, home, shell }: UserRecord): Readonly<Record<string, string | undefined>> {
  return { HOME: home ?? '/', USER: name, LOGNAME: name, SHELL: shell }
}

/** As `www-data (33:33)`, or `1001:1001`. */
export function userText({ uid, gid, name }: UserRecord): string {
  return name === undefined ? `${uid}:${gid}` : `${name} (${uid}:${gid})`
}
