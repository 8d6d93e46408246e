/** Where something listens, as people read it and type it. */
import type { AddressInfo } from 'node:net'
import type { Inherited } from '../process/handles.ts'

/** As `*:8080`, `127.0.0.1:8080`, `[::1]:8080`, or a path. */
export function placeOf(address: AddressInfo | string | null): string {
  if (address === null || typeof address === 'string') return address ?? ''
  const { address: host, port } = address
  if (host === '::') return `*:${port}`
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

export function placeOfHandle(handle: Inherited): string {
  if (handle.kind === 'unix') return handle.path
  if (handle.kind === 'file') return handle.name
  return handle.kind === 'udp' ? `${placeOf(handle)} (UDP)` : placeOf(handle)
}

/** Whether a word of `--release` means this handle: its name, its port, its address or its path. */
export function isMeant(handle: Inherited, word: string): boolean {
  if (word === handle.name || word === placeOfHandle(handle)) return true
  if (handle.kind === 'unix' || handle.kind === 'file') return false
  return word === `${handle.port}` || word === `:${handle.port}` || word === placeOf(handle)
}

/** Whether the system chose the port: the program asked for 0 (process/handles.ts, tcpName). */
export function isChosenPort({ kind, name }: Inherited): boolean {
  return kind === 'tcp' && /:0(#\d+)?$/.test(name)
}
