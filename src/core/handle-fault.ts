/** Why a descriptor is not what the predecessor says of it: looked at before anything listens on it. */
import type { Stats } from 'node:fs'
import { factsOf } from '../node/sockets.ts'
import { unixSocketOf } from '../node/unix-table.ts'
import type { Inherited } from './handles.ts'

/** Undefined if it is what was said. `stat` is that of its descriptor. */
export function handleFault(handle: Inherited, stat: Stats | undefined): string | undefined {
  if (stat === undefined) return 'it is not open'
  if (stat.ino !== handle.inode) return 'it is another one'
  // A file may be anything; what a later version hands over nobody here can judge, nor claim.
  if (!Object.hasOwn(sockets, handle.kind)) return undefined
  if (!stat.isSocket()) return 'it is no socket'
  const facts = factsOf(handle.fd)
  const { kind } = facts
  if (kind !== handle.kind) return kind === 'none' ? 'it is a socket of another kind' : `it is ${sockets[kind]}`
  if (handle.kind === 'unix') return unixFaultOf(handle)
  if (!('address' in facts)) return undefined
  if (facts.isConnected) return 'it is connected'
  // Node of the old version may tell the interface of a link-local address, and ours not.
  const isSame = facts.port === handle.port && withoutZone(facts.address) === withoutZone(handle.address)
  return isSame ? undefined : `it is bound to ${facts.address} port ${facts.port}`
}

function unixFaultOf({ inode, path }: Extract<Inherited, { kind: 'unix' }>): string | undefined {
  const found = unixSocketOf(inode)
  // On another system than Linux, or of another network namespace: its kind is all that is known.
  if (found === undefined) return undefined
  if (!found.isListening) return 'it does not listen'
  // Bound under a private name of the process that opened it; systemd's and inherited ones have no path of their own.
  const isSame = path === '' || found.path === path || found.path.startsWith(`${path}.`)
  return isSame ? undefined : `it is bound to ${found.path}`
}

const sockets = { tcp: 'a TCP socket', unix: 'a Unix socket', udp: 'a UDP socket' }

function withoutZone(address: string): string {
  return address.replace(/%.*/, '')
}
