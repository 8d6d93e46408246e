/**
 * What the descriptors of a process are, by kind: to see whether one generation holds more than
 * another. Linux only.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'

/** How many there are of each kind. */
export type Descriptors = Readonly<Record<string, number>>

/**
 * The fewest of each kind in many looks: connections of clients that come and go are in some of
 * them, what is kept is in all.
 */
export async function keptDescriptors(pid: number, looks = 60): Promise<Descriptors> {
  // Once: the kernel's tables are those of the whole machine, and reading them again and again
  // would starve the clients in this process.
  const sockets = socketsOf(pid)
  let fewest = descriptorsOf(pid, sockets)
  for (let look = 1; look < looks; look++) {
    await new Promise((done) => setTimeout(done, 5))
    const now = descriptorsOf(pid, sockets)
    fewest = Object.fromEntries(
      Object.keys({ ...fewest, ...now })
        .sort()
        .map((kind) => [kind, Math.min(fewest[kind] ?? 0, now[kind] ?? 0)] as const)
        .filter(([, count]) => count > 0),
    )
  }
  return fewest
}

function descriptorsOf(pid: number, sockets: ReadonlyMap<string, string>): Descriptors {
  const counts: Record<string, number> = {}
  for (const fd of readdirSync(`/proc/${pid}/fd`)) {
    const target = targetOf(pid, fd)
    if (target === undefined) continue
    const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1]
    const kind = inode === undefined ? target.replace(/:\[\d+\]$/, '') : (sockets.get(inode) ?? 'later socket')
    counts[kind] = (counts[kind] ?? 0) + 1
  }
  return counts
}

function targetOf(pid: number, fd: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/fd/${fd}`)
  } catch {
    // Closed since the folder was read.
    return undefined
  }
}

/**
 * proc_pid_net(5): of tcp, state 0A = LISTEN in column 4 and inode in column 10; of unix,
 * __SO_ACCEPTCON in flags (4) and inode in 7.
 */
function socketsOf(pid: number): ReadonlyMap<string, string> {
  const rows = (table: string) =>
    readFileSync(`/proc/${pid}/net/${table}`, 'latin1')
      .split('\n')
      .map((line) => line.trim().split(/\s+/))
  const tcp = rows('tcp').map((row) => [row[9] ?? '', row[3] === '0A' ? 'TCP listener' : 'TCP connection'] as const)
  const unix = rows('unix').map(
    (row) => [row[6] ?? '', row[3] === '00010000' ? 'Unix listener' : 'Unix connection'] as const,
  )
  return new Map([...tcp, ...unix])
}
