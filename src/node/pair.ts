/** Two connected Unix sockets, each for another process. Node has no socketpair(2). */
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What has a descriptor, and is closed here once another process has it. */
export type End = { readonly fd: number; readonly handle: Handle; close(): void }

type Handle = { readonly fd: number; close(): void }

/** In the first place that this user can write to, and that has room. */
export async function makePair(base?: string): Promise<Pair> {
  const [first = '/tmp', ...others] = [...(base === undefined ? [] : [base]), tmpdir(), '/tmp', '/dev/shm']
  let pair = makePairIn(first)
  for (const other of others) pair = pair.catch(() => makePairIn(other))
  return pair
}

type Pair = readonly [accepted: End, connected: End]

/** For both ends to be there, in milliseconds. */
const longestConnect = 2_000

/** In a folder of its own, which nobody else can look into, and which is gone at once. */
async function makePairIn(base: string): Promise<Pair> {
  const { createServer, Socket } = process.getBuiltinModule('node:net')
  const folder = mkdtempSync(join(base, '.cook-'))
  const path = join(folder, 'pair')
  const server = createServer({ pauseOnConnect: true })
  const socket = new Socket()
  socket.pause()
  try {
    server.listen(path)
    await once(server, 'listening')
    // Where no descriptor is left for it, nobody is told of a connection.
    const signal = AbortSignal.timeout(longestConnect)
    const accepted = once(server, 'connection', { signal })
    socket.connect({ path })
    const [[other]] = await Promise.all([accepted, once(socket, 'connect', { signal })])
    return [endOf(other as Socket), endOf(socket)]
  } catch (error) {
    socket.destroy()
    throw error
  } finally {
    server.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

function endOf(socket: Socket): End {
  const { _handle: handle } = socket as unknown as { readonly _handle: Handle }
  return { fd: handle.fd, handle, close: () => socket.destroy() }
}
