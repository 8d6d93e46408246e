/** Why a descriptor is not what the predecessor says of it: looked at before anything listens on it. */

import { envLink } from '../contract/messages.ts'
import { CookError } from '../errors.ts'
import { factsOf } from '../node/sockets.ts'
import { unixSocketOf } from '../node/unix-table.ts'
import { type Inherited, statOf, wordOf } from './handles.ts'

/** Throws `ERR_COOK_ENVIRONMENT` unless it is what was said. */
export function checkHandle(handle: Inherited): void {
  const fault = faultOf(handle)
  if (fault === undefined) return
  const why = `descriptor ${handle.fd} is not the ${wordOf(handle.kind)} named ${JSON.stringify(handle.name)}: ${fault}`
  throw new CookError('ERR_COOK_ENVIRONMENT', { variable: envLink, why })
}

function faultOf(handle: Inherited): string | undefined {
  const stat = statOf(handle.fd)
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
