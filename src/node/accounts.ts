/** Users and groups as the system knows them, for whoever asks: /etc/passwd, LDAP or another. */

/** By name or number; undefined: there is no such user. */
export function nameOfUser(user: string): string | undefined {
  return answerOf('id', ['-un', '--', user])
}

export function isGroup(group: string): boolean {
  return answerOf('getent', ['group', '--', group]) !== undefined
}

function answerOf(program: string, args: readonly string[]): string | undefined {
  const { spawnSync } = process.getBuiltinModule('node:child_process')
  const { status, stdout } = spawnSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] })
  return status === 0 ? stdout.trim() : undefined
}
