/** What a cell of the fault matrix may leave: processes, zombies, descriptors, files. */
import { readdirSync, readFileSync } from 'node:fs'
import type { Puppet } from '../lab.ts'

type Found = { readonly pid: number; readonly words: string }

/** Processes that have `mark` in their environment, and zombies of theirs and of this process. */
export function processesOf(mark: string): readonly Found[] {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
  const marked = all.filter((pid) => pid !== process.pid && read(pid, 'environ').includes(mark))
  const parents = new Set([...marked, process.pid])
  return all.flatMap((pid) => {
    if (marked.includes(pid)) return [{ pid, words: `${pid}: ${read(pid, 'cmdline').replaceAll('\0', ' ')}` }]
    const [state, parent] = read(pid, 'stat')
      .replace(/^.*\) /s, '')
      .split(' ')
    return state === 'Z' && parents.has(Number(parent)) ? [{ pid, words: `zombie ${pid} of ${parent}` }] : []
  })
}

function read(pid: number, name: string): string {
  try {
    return readFileSync(`/proc/${pid}/${name}`, 'latin1')
  } catch {
    // Gone between two looks.
    return ''
  }
}

/** What a process has open, connections of clients apart. */
export async function descriptorsOf(puppet: Puppet): Promise<readonly string[]> {
  const found = await puppet.run(({ fs }) => {
    const handles = (process as unknown as { _getActiveHandles(): { _server?: unknown }[] })._getActiveHandles()
    const connections = handles.filter((handle) => handle._server != null).length
    const names = fs.readdirSync('/proc/self/fd').flatMap((fd) => {
      try {
        return [fs.readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, '')]
      } catch {
        // That of the listing itself.
        return []
      }
    })
    return { connections, names }
  })
  const sockets = found.names.filter((name) => name.startsWith('socket:')).length - found.connections
  // Node 24 reads the certificates of the system in a thread of its own, when it comes to it.
  const others = found.names.filter((name) => !name.startsWith('socket:') && !name.startsWith('/etc/')).sort()
  return [...others, `${sockets} sockets`]
}

/** Everything in a folder but what the lab itself put there. */
export function filesIn(folder: string): readonly string[] {
  return readdirSync(folder)
    .filter((name) => name !== 'bin' && name !== 'run')
    .sort()
}
