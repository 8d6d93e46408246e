/** Which unit of systemd a process belongs to, as the kernel says it. */
import { readFileSync, readlinkSync } from 'node:fs'
import { attempt } from './sessions.ts'

export type Unit = {
  /** As `web.service`. */
  readonly name: string
  /** Of the manager of this user; absent: of the system's. */
  readonly user?: number
}

/**
 * The service unit of a process, by its control group; undefined: it is in none. The outermost one:
 * below its own, a unit with Delegate= or a user may make groups of any name.
 */
export function unitOf(pid: number): Unit | undefined {
  const text = attempt(() => readFileSync(`/proc/${pid}/cgroup`, 'utf8')) ?? ''
  const lines = text.split('\n').map((line) => /^(\d+):([^:]*):(.*)$/.exec(line) ?? [])
  // Of version 2, and of systemd's own hierarchy beside it.
  const paths = lines.flatMap(([, number, what, path]) =>
    path !== undefined && (number === '0' || what === 'name=systemd') ? [path] : [],
  )
  return paths.flatMap((path) => unitIn(path) ?? [])[0]
}

/** Of the path of a control group. */
export function unitIn(path: string): Unit | undefined {
  const [first = '', ...below] = withoutSlices(path.split('/').filter(Boolean))
  const [, user] = /^user@(\d+)\.service$/.exec(first) ?? []
  const name = user === undefined ? first : (withoutSlices(below)[0] ?? '')
  if (!isServiceUnit(name)) return undefined
  return { name, ...(user !== undefined && { user: Number(user) }) }
}

function withoutSlices(names: readonly string[]): readonly string[] {
  const at = names.findIndex((name) => !name.endsWith('.slice'))
  // A name that could be one of the kernel's files has a mark before it.
  return at < 0 ? [] : names.slice(at).map((name) => name.replace(/^_/, ''))
}

/** Without what a pattern of systemctl and journalctl is made of. */
export function isServiceUnit(name: string): boolean {
  return /^[\w:.@\\-]{1,240}\.service$/.test(name) && !name.startsWith('-')
}

/** Its unit, if its output goes to a socket, as that of a unit to the journal. */
export function journalOf(pid: number): Unit | undefined {
  const output = attempt(() => readlinkSync(`/proc/${pid}/fd/1`))
  return output?.startsWith('socket:') === true ? unitOf(pid) : undefined
}
