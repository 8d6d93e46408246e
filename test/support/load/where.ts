/** Where a load connects to, with TLS or without. */
import { connect, type NetConnectOpts, type Socket } from 'node:net'
import { type ConnectionOptions, connect as connectTls } from 'node:tls'

export type Where = NetConnectOpts & { readonly tls?: ConnectionOptions }

/** The event after which something can be sent. */
export function readyEvent({ tls }: Where): 'connect' | 'secureConnect' {
  return tls === undefined ? 'connect' : 'secureConnect'
}

export function connectTo({ tls, ...where }: Where, options: object): Socket {
  const whole = { ...where, noDelay: true, ...options } as NetConnectOpts
  if (tls === undefined) return connect(whole)
  // Nobody signed it.
  return connectTls({ ...whole, rejectUnauthorized: false, ...tls } as ConnectionOptions)
}
