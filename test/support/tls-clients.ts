/** Clients of one test over TLS, each with a connection that it knows byte for byte. */
import { once } from 'node:events'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { HttpConnection } from './http-connection.ts'
import { within } from './waiting.ts'

export class TlsClients {
  readonly all: HttpConnection[] = []

  /** To a port of this machine, whoever signed its certificate. */
  async open(options: ConnectionOptions): Promise<HttpConnection & { readonly socket: TLSSocket }> {
    const socket = connect({ host: '127.0.0.1', rejectUnauthorized: false, ...options })
    const client = new HttpConnection(socket) as HttpConnection & { readonly socket: TLSSocket }
    this.all.push(client)
    await within('a handshake', once(socket, 'secureConnect'))
    return client
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { socket } of this.all) socket.destroy()
  }
}
