/** How a server of a daemon listens: on the predecessor's listener of its name, or a new one. */

import type { Server } from 'node:net'
import { resolve } from 'node:path'
import { checkListenOptions } from '../check.ts'
import { CookError, messageOf } from '../errors.ts'
import { currentContext } from '../node/context.ts'
import { watchExchanges } from '../node/exchanges.ts'
import { trackGuests } from '../node/guests.ts'
import { trackSessions } from '../node/http2-sessions.ts'
import { isTls } from '../node/listeners.ts'
import type { ListenOptions } from '../options.ts'
import { type Ask, isAskedFor } from '../process/addresses.ts'
import { checkName, type Inherited, tcpName, unixName } from '../process/handles.ts'
import { explainPort } from '../process/user.ts'
import type { Service } from '../service.ts'
import { acceptFromCommit, holdWhileRoot, listening, takeTicketKeys } from './listening.ts'
import { openUnixPath, ownUnixPath } from './unix-path.ts'

/**
 * Rejects with `ERR_COOK_LISTEN`, `ERR_COOK_OPTION`, `ERR_COOK_HANDLE_NAME`, and what a Unix path
 * may reject with.
 */
export async function listen(service: Service, server: Server, options: ListenOptions): Promise<void> {
  checkListenOptions(options)
  const name = options.name ?? addressName(options)
  checkName(name)
  if (service.hasAnswered) throw new CookError('ERR_COOK_LISTEN', { name, why: 'ready() was called already' })
  if (service.listeners.some((one) => one.name === name || one.server === server)) {
    throw new CookError('ERR_COOK_LISTEN', { name, why: 'another server has this name, or this server has another' })
  }
  const kind = options.path === undefined ? 'tcp' : 'unix'
  const inherited = claim(service, name, options)
  service.listeners.push({ name, server, oldName: inherited?.name, context: currentContext() })
  trackSessions(server)
  watchExchanges()
  trackGuests(server)
  if (isTls(server)) service.tls?.watch(server)
  try {
    await (inherited === undefined ? open(service, server, options) : listenOn(service, server, inherited, options))
    if (!server.listening) throw new Error('it was closed immediately after it listened')
    if (inherited === undefined) holdWhileRoot(service, server)
    service.handles.addListening(name, kind, server)
  } catch (cause) {
    service.forgetListener(server)
    if (cause instanceof CookError) throw cause
    explainPort(cause as Error, service.state)
    throw new CookError('ERR_COOK_LISTEN', { name, why: messageOf(cause) }, { cause })
  }
}

/** By its name; what systemd has opened by its address too. */
function claim({ claims }: Service, name: string, { port = 0, host, path }: ListenOptions): Inherited | undefined {
  const own = claims.claimOne(name, path === undefined ? 'tcp' : 'unix')
  if (own !== undefined) return own
  const ask: Ask = path === undefined ? { kind: 'tcp', name, host, port } : { kind: 'unix', name, path: resolve(path) }
  const found = claims.unclaimed.find((one) => one.isActivated === true && isAskedFor(ask, one))
  if (found !== undefined) claims.claimHandle(found)
  return found
}

async function open(service: Service, server: Server, options: ListenOptions): Promise<void> {
  const { path, port, host, backlog } = options
  if (backlog !== undefined) service.handles.backlogs.set(server, backlog)
  if (path === undefined) await listening(server, () => server.listen({ port, host, backlog }))
  else await openUnixPath(service, server, path, options)
}

async function listenOn(service: Service, server: Server, inherited: Inherited, options: ListenOptions): Promise<void> {
  const backlog = options.backlog ?? inherited.backlog
  if (backlog !== undefined) service.handles.backlogs.set(server, backlog)
  await takeTicketKeys(service, server, inherited.name)
  await acceptFromCommit(service, server, () => listening(server, () => server.listen(inherited, backlog)))
  if (inherited.kind === 'unix') ownUnixPath(service, server, inherited)
}

function addressName({ port, host, path }: ListenOptions): string {
  return path === undefined ? tcpName(host, port) : unixName(resolve(path))
}
