/** Sockets that systemd has opened for this process (sd_listen_fds(3)), as handles to claim. */
import { envListenFds, envListenNames, envListenPid, isCount, listenVariables } from '../contract/environment.ts'
import { CookError } from '../errors.ts'
import { type FoundSocket, socketsByInode } from '../node/sockets.ts'
import { fileAt, statDescriptor } from '../node/stat.ts'
import type { Inherited } from './handles.ts'

/** The first of them, as sd_listen_fds(3) says. */
const firstFd = 3
/**
 * systemd has set the length of the queue, which nobody can ask for, and listen(2) sets it anew:
 * the kernel cuts this to net.core.somaxconn.
 */
const longestBacklog = 2 ** 31 - 1

export type Activation = {
  readonly handles: readonly Inherited[]
  /** What came with them and is not served, a sentence each. */
  readonly doubts: readonly string[]
}

const nothing: Activation = { handles: [], doubts: [] }

/**
 * Takes the variables out of an environment, so that they reach no child. Throws
 * `ERR_COOK_ACTIVATION` where a descriptor is not what a server can listen on.
 */
export function takeActivation(env: Record<string, string | undefined>): Activation {
  const { [envListenPid]: pid, [envListenFds]: fds, [envListenNames]: names = '' } = env
  for (const name of listenVariables) delete env[name]
  if (fds === undefined) return nothing
  const count = Number(fds)
  if (!isCount(count)) throw new CookError('ERR_COOK_ACTIVATION', { why: `${envListenFds} is ${JSON.stringify(fds)}` })
  if (pid !== `${process.pid}`) {
    const who = pid === undefined ? `${envListenPid} is missing` : `they are for pid ${pid}`
    const text = `systemd has opened ${count} sockets, but not for this process (pid ${process.pid}): ${who}. A shell in ExecStart= must run it with exec`
    return { handles: [], doubts: count === 0 ? [] : [text] }
  }
  const found = socketsByInode()
  const labels = names.split(':')
  const handles = Array.from({ length: count }, (_, index) => {
    const fd = firstFd + index
    return handleOf(fd, labels[index] || 'unknown', found)
  })
  return { handles, doubts: [] }
}

function handleOf(fd: number, name: string, found: ReadonlyMap<number, FoundSocket>): Inherited {
  const stat = statDescriptor(fd)
  const what = `descriptor ${fd} (${name})`
  const refuse = (why: string) => new CookError('ERR_COOK_ACTIVATION', { why: `${what} ${why}` })
  if (stat === undefined) throw refuse('is not open')
  const socket = found.get(stat.ino)
  if (socket === undefined) throw refuse('is neither a TCP, UDP nor Unix socket that a server can listen on')
  const { kind } = socket
  if (kind !== 'udp' && !socket.isListening) throw refuse('is a connection, not a listener: Accept= must be no')
  const common = { fd, name, inode: stat.ino, isActivated: true }
  if (kind === 'udp') return { ...common, kind, ...inet(socket) }
  const listener = { ...common, backlog: longestBacklog }
  if (kind === 'tcp') return { ...listener, kind, ...inet(socket) }
  const { address: path } = socket
  const file = fileAt(path)
  return { ...listener, kind, path, ...(file?.isSocket === true && { file: file.id }) }
}

function inet({ address, port = 0 }: FoundSocket) {
  return { address, port, family: address.includes(':') ? ('IPv6' as const) : ('IPv4' as const) }
}

/** What nobody has asked for. */
export function unaskedText(places: readonly string[]): string {
  return `systemd listens on ${places.join(' and ')} for this service, but the program does not: clients there wait forever`
}
