/**
 * Runs the tests that need a systemd, a container engine, a Prometheus or an Ansible, whole; or
 * others, by their names. As root on a Debian it installs what they need; what is not there then,
 * they skip.
 */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'

/** A program, the package that has it, and the unit that Debian starts with that. */
const needed: readonly (readonly [program: string, name: string, unit?: string])[] = [
  ['podman', 'podman'],
  ['runc', 'runc'],
  ['catatonit', 'catatonit'],
  ['docker-compose', 'docker-compose'],
  ['prometheus', 'prometheus', 'prometheus'],
  ['ansible-playbook', 'ansible-core'],
  ['sshd', 'openssh-server', 'ssh'],
  ['haproxy', 'haproxy', 'haproxy'],
]

function isThere(program: string): boolean {
  return spawnSync('sh', ['-c', `command -v ${program}`]).status === 0
}

function apt(...args: readonly string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' }
  return spawnSync('apt-get', args, { env, stdio: ['ignore', 'ignore', 'inherit'] }).status === 0
}

const missing = needed.filter(([program]) => !isThere(program))
if (missing.length > 0 && process.getuid?.() === 0 && isThere('apt-get')) {
  // One after the other: one that is not to be had keeps no other away.
  const isFresh = apt('update')
  for (const [, name] of isFresh ? missing : []) {
    const isDone = apt('install', '--yes', '--no-install-recommends', name)
    console.log(isDone ? `installed ${name}` : `${name} cannot be installed: tests that need it are skipped`)
  }
  // Tests start them themselves: those of the machine are nobody's wish.
  const units = missing.flatMap(([, , unit]) => unit ?? [])
  if (units.length > 0 && existsSync('/run/systemd/system')) spawnSync('systemctl', ['disable', '--now', ...units])
  if (!isFresh) console.log('apt-get reaches no network: tests that need more than is here are skipped')
}
process.env.COOK_TEST_HOST = '1'
if (process.argv.length === 2) process.argv.push('host-')
await import('./test.ts')
