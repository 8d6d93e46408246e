/** Two connected Unix sockets, each for another process. Node has no socketpair(2). */
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { disown } from './private.ts'

/** What has a descriptor, and is closed here once another process has it. */
export type End = {
  readonly fd: number
  readonly handle: Handle
  close(): void
  /**
   * A channel has its descriptor now (channel.ts), which a close here would close: what is left of
   * this is the bare handle.
   */
  detach(): void
}

type Handle = { readonly fd: number; readStop(): number; close(): void }

/** In the first place that this user can write to, and that has room; or in none. */
export async function makePair(base?: string): Promise<Pair> {
  const [first = '/tmp', ...others] = [...(base === undefined ? [] : [base]), tmpdir(), '/tmp', '/dev/shm']
  let pair = makePairIn(first)
  for (const other of others) pair = pair.catch(() => makePairIn(other))
  return pair.catch((error) => makePairNowhere().catch(() => Promise.reject(error)))
}

type Pair = readonly [accepted: End, connected: End]

/** For both ends to be there, in milliseconds. */
const longestConnect = 2_000

/** In a folder of its own, which nobody else can look into, and which is gone at once. */
async function makePairIn(base: string): Promise<Pair> {
  const meeting = await openMeeting(base)
  try {
    return await Promise.all([meeting.accepted, connectTo(meeting.path)])
  } finally {
    meeting.close()
  }
}

/**
 * By a name that is in no folder, for an image that is read-only throughout. Whoever shares our
 * network could connect to it, but does not know what we say there.
 */
async function makePairNowhere(): Promise<Pair> {
  const { createServer } = process.getBuiltinModule('node:net')
  const [name, secret] = [randomBytes(16).toString('hex'), randomBytes(16)]
  const path = `\0cook-${name}`
  const strangers = new Set<Socket>()
  const server = createServer()
  try {
    server.listen(path)
    await once(server, 'listening')
    const accepted = new Promise<End>((found, failed) => {
      AbortSignal.timeout(longestConnect).addEventListener('abort', () => failed(new Error('nobody came')))
      server.on('connection', (socket) => {
        strangers.add(socket)
        socket.on('error', () => socket.destroy())
        socket.once('data', (said: Buffer) => {
          if (!said.equals(secret)) return socket.destroy()
          strangers.delete(socket)
          const end = endOf(socket.pause())
          // A pause alone would still take in what comes next.
          end.handle.readStop()
          found(end)
        })
      })
    })
    return await Promise.all([accepted, connectTo(path, secret)])
  } finally {
    server.close()
    for (const socket of strangers) socket.destroy()
  }
}

export type Meeting = {
  readonly path: string
  /** Rejects if nobody has come in time. */
  readonly accepted: Promise<End>
  /** What was accepted stays open. */
  close(): void
}

/** A path to which one other process connects. */
export async function openMeeting(base: string): Promise<Meeting> {
  const { createServer } = process.getBuiltinModule('node:net')
  const folder = mkdtempSync(join(base, '.cook-'))
  const path = join(folder, 'pair')
  const server = createServer({ pauseOnConnect: true })
  const close = () => {
    server.close()
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    server.listen(path)
    await once(server, 'listening')
  } catch (error) {
    close()
    throw error
  }
  // Where no descriptor is left for it, nobody is told of a connection.
  const accepted = once(server, 'connection', { signal: AbortSignal.timeout(longestConnect) })
  const end = accepted.then(([socket]) => endOf(socket as Socket))
  // Whoever waits hears it, also later.
  end.catch(() => {})
  return { path, accepted: end, close }
}

export async function connectTo(path: string, says?: Buffer): Promise<End> {
  const { Socket } = process.getBuiltinModule('node:net')
  const socket = new Socket()
  socket.pause()
  try {
    const connected = once(socket, 'connect', { signal: AbortSignal.timeout(longestConnect) })
    socket.connect({ path })
    await connected
    if (says !== undefined) await new Promise<unknown>((sent) => socket.write(says, sent))
    return endOf(socket)
  } catch (error) {
    socket.destroy()
    throw error
  }
}

function endOf(socket: Socket): End {
  const { _handle: handle } = socket as unknown as { readonly _handle: Handle }
  return {
    fd: handle.fd,
    handle,
    close: () => socket.destroy(),
    detach() {
      disown(handle)
      Object.assign(handle, { onread: nothing })
      Object.assign(socket, { _handle: null })
      socket.destroy()
    },
  }
}

/** No closure: it is held for as long as the handle. */
function nothing(): void {}
