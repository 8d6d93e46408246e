/** TLS ticket keys: with those of the old version the new one lets clients come back to their sessions. */
import type { Server } from 'node:net'
import { isTls } from '../node/servers.ts'

type TicketServer = { getTicketKeys(): Buffer; setTicketKeys(keys: Buffer): void }

/** Those of the listeners with TLS, by their names, base64. */
export function ticketKeysOf(
  listeners: readonly { readonly name: string; readonly server: Server }[],
): Record<string, string> {
  const secure = listeners.filter(({ server }) => isTls(server))
  return Object.fromEntries(
    secure.map(({ name, server }) => [name, (server as unknown as TicketServer).getTicketKeys().toString('base64')]),
  )
}

export function setTicketKeys(server: Server, keys: string): void {
  ;(server as unknown as TicketServer).setTicketKeys(Buffer.from(keys, 'base64'))
}
