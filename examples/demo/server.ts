/**
 * The server of the demo: what every release of it runs. It prints what happens to it, a line of
 * JSON each.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type DaemonEvent, serve } from 'cook-daemon'
import { loadHandler } from '../../test/fixtures/load-server-handler.ts'

/** What a server prints. */
export type Told =
  | { readonly type: 'serving'; readonly port: number; readonly generation: number }
  | Exclude<DaemonEvent, { readonly error: Error }>
  | { readonly type: 'upgrade-failed' | 'hook-failed'; readonly message: string }

export async function start(version: string): Promise<void> {
  const tell = (told: object) => console.log(JSON.stringify({ ...told, by: process.pid, version }))
  const onEvent = (event: DaemonEvent) => tell('error' in event ? { ...event, message: event.error.message } : event)
  const server = createServer(loadHandler(version))
  const daemon = await serve(server, { host: '127.0.0.1', port: 0, onEvent })
  const { port } = server.address() as AddressInfo
  tell({ type: 'serving', port, generation: daemon.generation })
}
