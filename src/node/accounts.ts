/** Users and groups as the system knows them: in /etc/passwd, LDAP or another directory. */

export type Account = { readonly name: string; readonly uid: number; readonly groups: readonly number[] }

/** By name or number; undefined: there is no such user. */
export function accountOf(user: string | number): Account | undefined {
  const ask = (what: string) => linesOf('id', [what, '--', String(user)])
  const [name, uid, groups] = [ask('-un'), ask('-u'), ask('-G')]
  if (name === undefined || uid === undefined || groups === undefined) return undefined
  return { name, uid: Number(uid), groups: groups.split(' ').map(Number) }
}

export function isGroup(group: string): boolean {
  return linesOf('getent', ['group', '--', group]) !== undefined
}

function linesOf(program: string, args: readonly string[]): string | undefined {
  const { spawnSync } = process.getBuiltinModule('node:child_process')
  const { status, stdout } = spawnSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  return status === 0 ? stdout.trim() : undefined
}
