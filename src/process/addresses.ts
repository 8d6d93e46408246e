/** Addresses: as a program asks for them, as handles are bound there, and as people read them. */
import type { AddressInfo } from 'node:net'
import { addressText } from '../contract/admin-address.ts'
import type { HandleRecord, HandleShape } from '../contract/environment.ts'
import { attempt } from '../node/sessions.ts'

/** As the program gave it: the same words in the next version get the same listener. */
export type Ask =
  | { readonly kind: 'tcp'; readonly name: string; readonly host: string | undefined; readonly port: number }
  | { readonly kind: 'unix'; readonly name: string; readonly path: string }
  | {
      readonly kind: 'udp'
      readonly name: string
      readonly host: string | undefined
      readonly port: number
      readonly family: 'IPv4' | 'IPv6'
    }

type Bound = HandleShape & { readonly isActivated?: boolean }

/**
 * Whether what is bound is what is asked for, in other words: a new version may say 127.0.0.1 where
 * the old one said localhost. What systemd has opened has no other words than its address.
 */
export function isAskedFor(ask: Ask, bound: Bound): boolean {
  if (bound.kind === 'file' || ask.kind !== bound.kind) return false
  if (ask.kind === 'unix') return bound.isActivated === true && bound.kind === 'unix' && ask.path === bound.path
  if (bound.kind === 'unix' || ask.port === 0 || ask.port !== bound.port) return false
  if (ask.kind === 'tcp') return isHost(ask.host, bound)
  // A socket of the other family cannot take such a descriptor.
  return bound.isActivated === true && ask.family === bound.family && isHost(ask.host, bound)
}

function isHost(host: string | undefined, { address, isActivated = false }: Bound & { readonly address: string }) {
  if (host === undefined) return address === '::' || address === '0.0.0.0'
  if (host === 'localhost') return address === '::1' || address === '127.0.0.1'
  // ListenStream=8080 is [::]:8080, which takes clients of IPv4 too.
  if (host === '0.0.0.0' && isActivated && address === '::') return true
  return host === address || (host.includes(':') && plain(host) === address)
}

/** An address of IPv6 can be written in many ways. */
function plain(host: string): string {
  const [address] = host.split('%')
  return attempt(() => new URL(`http://[${address}]`).hostname.slice(1, -1)) ?? host
}

/** As `*:8080`, `127.0.0.1:8080`, `[::1]:8080`, or a path. */
export function placeOf(address: AddressInfo | string | null): string {
  if (address === null || typeof address === 'string') return address ?? ''
  const { address: host, port } = address
  return host === '::' ? `*:${port}` : addressText({ host, port })
}

export function placeOfHandle(handle: HandleRecord): string {
  if (handle.kind === 'unix') return handle.path
  if (handle.kind === 'file') return handle.name
  return handle.kind === 'udp' ? `${placeOf(handle)} (UDP)` : placeOf(handle)
}
