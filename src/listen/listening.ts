/** Making a server listen: unseen by the preload, and without accepting before the commit. */
import { errorMonitor } from 'node:events'
import type { Server } from 'node:net'
import { messageOf } from '../errors.ts'
import { holdClients, isTls, listenWithoutAccepting } from '../node/listeners.ts'
import { isRootForNow } from '../process/user.ts'
import type { Service } from '../service.ts'
import { deferred } from '../waiting.ts'

let depth = 0

/** Whether a call of listen() is the library's own: the preload takes up the program's only. */
export function isOwnListen(): boolean {
  return depth > 0
}

/** Runs a call that makes a server listen; rejects with what keeps it from that. */
export function listening(server: Server, call: () => void): Promise<void> {
  return new Promise((done, failed) => {
    const settle = (error?: Error) => {
      server.removeListener('error', settle)
      server.removeListener('listening', settle)
      if (error === undefined) done()
      else failed(error)
    }
    server.once('error', settle).once('listening', settle)
    depth++
    try {
      call()
    } finally {
      depth--
    }
  })
}

/**
 * Runs a listen() of a server on a listener of the predecessor, and has it accept nobody before
 * this process may: as long as the predecessor owns the service, whoever met a version that then
 * fails would be lost with it.
 */
export function acceptFromCommit<Result>({ predecessor }: Service, server: Server, listen: () => Result): Result {
  if (predecessor === undefined) return listen()
  const { accept, cancel } = listenWithoutAccepting(server)
  const over = deferred<false>()
  const giveUp = () => {
    cancel()
    over.resolve(false)
  }
  const look = () => {
    if (!server.listening) giveUp()
  }
  // Seen without being handled: what nobody handles must still end the program.
  const failed = errorMonitor as unknown as 'error'
  server.on('close', look).on(failed, look)
  void predecessor.mayAccept(over.promise).then((may) => {
    server.removeListener('close', look).removeListener(failed, look)
    if (may) accept()
  })
  try {
    const result = listen()
    if (result instanceof Promise) result.catch(giveUp)
    return result
  } catch (error) {
    giveUp()
    throw error
  }
}

/** As root a process serves nobody: who connects before it has become its user waits. */
export function holdWhileRoot({ state, hearing }: Service, server: Server): void {
  if (!isRootForNow(state)) return
  let release: (() => void) | undefined = holdClients(server)
  hearing.push((event) => {
    if (event.type !== 'phase' || event.phase !== 'ready') return
    release?.()
    release = undefined
  })
}

type TicketServer = { getTicketKeys(): Buffer; setTicketKeys(keys: Buffer): void }

/**
 * TLS ticket keys of this service's listeners, by their names, base64: with these a new version
 * lets clients come back to their sessions.
 */
export function ticketKeys({ listeners }: Service): Record<string, string> {
  const secure = listeners.filter(({ server }) => isTls(server))
  return Object.fromEntries(
    secure.map(({ name, server }) => [name, (server as unknown as TicketServer).getTicketKeys().toString('base64')]),
  )
}

/**
 * Those of the predecessor, which come with its first answer, before anybody is accepted here. A
 * server that does not take them costs clients a whole handshake, and nobody the service.
 */
export async function takeTicketKeys(service: Service, server: Server, name: string): Promise<void> {
  const { predecessor } = service
  if (!isTls(server) || predecessor === undefined) return
  const tickets = await predecessor.tickets()
  // A listener may be called `constructor`.
  const keys = Object.hasOwn(tickets, name) ? tickets[name] : undefined
  try {
    if (keys !== undefined) (server as unknown as TicketServer).setTicketKeys(Buffer.from(keys, 'base64'))
  } catch (error) {
    const text = `clients of ${name} cannot resume their TLS sessions: ${messageOf(error)}`
    service.emit({ type: 'warning', about: 'tickets', text })
  }
}
