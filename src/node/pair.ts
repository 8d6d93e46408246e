/** Two connected Unix sockets, each for another process. Node has no socketpair(2). */
import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** What has a descriptor, and is closed here once another process has it. */
export type End = { readonly fd: number; readonly handle: Handle; close(): void }

type Handle = { readonly fd: number; close(): void }

/** In a folder of its own, which nobody else can look into, and which is gone at once. */
export async function makePair(base?: string): Promise<readonly [accepted: End, connected: End]> {
  const { createServer, connect } = process.getBuiltinModule('node:net')
  const folder = makeFolder([base ?? tmpdir(), tmpdir(), '/tmp', '/dev/shm'])
  try {
    const path = join(folder, 'pair')
    const server = createServer({ pauseOnConnect: true })
    const accepted = new Promise<Socket>((done, failed) => server.once('connection', done).once('error', failed))
    await new Promise<void>((done, failed) => server.once('error', failed).listen(path, done))
    const socket = connect({ path })
    socket.pause()
    await new Promise((done, failed) => socket.once('connect', done).once('error', failed))
    const other = await accepted
    server.close()
    return [endOf(other), endOf(socket)]
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** In the first place that this user can write to. */
function makeFolder([base = '/tmp', ...others]: readonly string[]): string {
  try {
    return mkdtempSync(join(base, '.cook-'))
  } catch (error) {
    if (others.length > 0) return makeFolder(others)
    throw error
  }
}

function endOf(socket: Socket): End {
  const { _handle: handle } = socket as unknown as { readonly _handle: Handle }
  return { fd: handle.fd, handle, close: () => socket.destroy() }
}
