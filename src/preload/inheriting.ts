/** How an unmodified program listens on what its predecessor listens on. */
import type { Server } from 'node:net'
import type { Inherited } from '../listen/handles.ts'
import { listenBehind } from '../listen/listen-behind.ts'
import { setTicketKeys } from '../listen/tickets.ts'
import { ownUnixPath, restoreUnixPath } from '../listen/unix-path.ts'
import { isTls } from '../node/servers.ts'
import { type KeptListener, keepListener } from '../node/sockets.ts'
import type { EnteredState } from '../process/state.ts'
import { listenFields } from './listen-arguments.ts'

/** A listen() of the program, and how it is called with other arguments. */
type Listen = {
  readonly args: readonly unknown[]
  readonly backlog: number | undefined
  call(args: readonly unknown[]): Server
}

export function inheriting(state: EnteredState) {
  const { claims, succession } = state.entered
  /** Claimed, and given up again before this version is up: programs try a port out before they use it. */
  const kept = new Map<Inherited, KeptListener>()

  /** They come with the predecessor's first answer, before anybody is accepted here. */
  async function takeTickets(server: Server, name: string): Promise<void> {
    const keys = (await succession?.tickets())?.[name]
    if (keys !== undefined) setTicketKeys(server, keys)
  }

  function keep(server: Server, inherited: Inherited): void {
    const isKept = () => state.phase === 'starting' && state.program?.release?.includes(inherited.name) !== true
    keepListener(server, isKept, (listener) => {
      kept.set(inherited, listener)
      claims.putBack(inherited)
    })
  }

  return (server: Server, inherited: Inherited, { args, backlog, call }: Listen): void => {
    claims.claimHandle(inherited)
    const { signal } = listenFields(args)
    const done = args.at(-1)
    const again = kept.get(inherited)
    kept.delete(inherited)
    const where = again === undefined ? { fd: inherited.fd, signal } : { handle: again.handle, signal }
    const listen = () => call([where, backlog, ...(typeof done === 'function' ? [done] : [])])
    listenBehind(succession, server, listen)
    if (again !== undefined) server.once('listening', () => again.resume())
    if (isTls(server)) void takeTickets(server, inherited.name)
    if (inherited.kind === 'tcp') keep(server, inherited)
    if (inherited.kind !== 'unix') return
    // Programs remove the file of a dead process before they listen; that of the living one was just removed so.
    restoreUnixPath(inherited.path)
    ownUnixPath(state, server, inherited.path)
  }
}
