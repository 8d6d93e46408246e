/** What other processes listen on, as /proc shows it. Nothing is found elsewhere. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename } from 'node:path'
import { addressText } from '../contract/admin-address.ts'
import type { Identity } from '../contract/environment.ts'
import { attempt, sessionOf } from './sessions.ts'

/** A process that a program has started, and that serves in its place. */
export type Served = { readonly pid: number; readonly command: string; readonly address: string }

/**
 * Who listens in the place of a process that does not, as under npm or tsx; undefined if that
 * listens itself, or none of its session does. `inherited` are sockets that it was handed.
 */
export function servedBy(leader: Identity, inherited: readonly number[] = []): Served | undefined {
  const started = sessionOf(leader).filter(([pid]) => pid !== leader[0])
  if (started.length === 0) return undefined
  const served = (pid: number) => listenersOf(pid).find(({ inode }) => !inherited.includes(inode))
  if (served(leader[0]) !== undefined) return undefined
  for (const [pid] of started) {
    const listener = served(pid)
    if (listener !== undefined) return { pid, command: commandOf(pid), address: listener.address }
  }
  return undefined
}

/** Whether somebody listens on a TCP port, there or at all addresses, in this network namespace. */
export function isTcpPortTaken(host: string | undefined, port: number): boolean {
  const everywhere = ['0.0.0.0', '::']
  const taken = [...socketsByInode().values()].filter(
    (one) => one.kind === 'tcp' && one.isListening && one.port === port,
  )
  if (host === undefined || everywhere.includes(host)) return taken.length > 0
  const own = host === 'localhost' ? ['127.0.0.1', '::1'] : [host]
  return taken.some(({ address }) => [...everywhere, ...own].includes(address))
}

/** Whether anybody listens on a Unix path, in this network namespace. */
export function isListenedOn(path: string): boolean {
  return unixListeners('self').some(({ address }) => address === path)
}

/**
 * Whether a Unix path can be of no use to anybody but this process and its children: in a folder
 * for temporary files, with this pid in its name, as the pipes of tsx.
 */
export function isPrivatePath(path: string, pid: number): boolean {
  const isTemporary = [tmpdir(), '/tmp', '/var/tmp'].some((folder) => path.startsWith(`${folder}/`))
  return isTemporary && basename(path).split(/\D+/).includes(String(pid))
}

export type FoundSocket = {
  readonly kind: 'tcp' | 'udp' | 'unix'
  readonly isListening: boolean
  /** A path, or where it is bound. */
  readonly address: string
  readonly port?: number
}

/** What this process could listen on, by the inodes of its descriptors, if it has such. */
export function socketsByInode(): ReadonlyMap<number, FoundSocket> {
  const inet = (['tcp', 'tcp6', 'udp', 'udp6'] as const).flatMap((table) =>
    rows(`/proc/self/net/${table}`).flatMap((column) => {
      const [host, port] = partsOf(column[1] ?? '')
      if (host === '') return []
      const kind = table.startsWith('tcp') ? ('tcp' as const) : ('udp' as const)
      return [[Number(column[9]), { kind, isListening: column[3] === listens, address: host, port }] as const]
    }),
  )
  const unix = rows('/proc/self/net/unix').flatMap(([, , , flags, type, , inode, address = '']) =>
    type === stream
      ? [[Number(inode), { kind: 'unix' as const, isListening: flags === accepts, address }] as const]
      : [],
  )
  return new Map<number, FoundSocket>([...inet, ...unix])
}

/** State of a TCP socket, type and flags (__SO_ACCEPTCON) of a Unix socket (proc_pid_net(5)). */
const listens = '0A'
const stream = '0001'
const accepts = '00010000'

type Listener = { readonly inode: number; readonly address: string }

function listenersOf(pid: number): readonly Listener[] {
  const inodes = new Set(names(`/proc/${pid}/fd`).map((fd) => inodeOf(link(`/proc/${pid}/fd/${fd}`))))
  const tables = [...tcpListeners(pid, 'tcp'), ...tcpListeners(pid, 'tcp6'), ...unixListeners(pid)]
  return tables.filter(({ inode }) => inodes.has(inode))
}

function inodeOf(socket: string): number | undefined {
  const [, inode] = /^socket:\[(\d+)\]$/.exec(socket) ?? []
  return inode === undefined ? undefined : Number(inode)
}

/** Local address in column 2, state in 4, inode in 10 (proc_pid_net(5)). */
function tcpListeners(pid: number, table: 'tcp' | 'tcp6'): Listener[] {
  return rows(`/proc/${pid}/net/${table}`).flatMap((column) =>
    column[3] === listens ? [{ inode: Number(column[9]), address: addressOf(column[1] ?? '') }] : [],
  )
}

/** Flags in column 4, inode in 7, path in 8. */
function unixListeners(pid: number | 'self'): Listener[] {
  return rows(`/proc/${pid}/net/unix`).flatMap(([, , , flags, , , inode, path]) =>
    flags === accepts && path !== undefined && !isPrivatePath(path, Number(pid))
      ? [{ inode: Number(inode), address: path }]
      : [],
  )
}

function addressOf(hex: string): string {
  const [host, port] = partsOf(hex)
  return addressText({ host, port })
}

/** `0100007F:1F90` is 127.0.0.1 and 8080: words in the byte order of the machine. */
function partsOf(hex: string): [host: string, port: number] {
  const [host = '', port = ''] = hex.split(':')
  const bytes = (host.match(/.{8}/g) ?? []).flatMap((word) => [...Buffer.from(word, 'hex')].reverse())
  const number = Number.parseInt(port, 16)
  if (bytes.length <= 4) return [bytes.join('.'), number]
  const groups = (Buffer.from(bytes).toString('hex').match(/.{4}/g) ?? []).map((one) => one.replace(/^0+(?=.)/, ''))
  // As everybody writes it, and as a program does.
  return [new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1), number]
}

const longestCommand = 200

function commandOf(pid: number): string {
  const words = read(`/proc/${pid}/cmdline`).split('\0').join(' ').trim()
  return words.length > longestCommand ? `${words.slice(0, longestCommand)}…` : words
}

function rows(file: string): string[][] {
  return read(file)
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
}

function names(folder: string): readonly string[] {
  return attempt(() => readdirSync(folder)) ?? []
}

function read(file: string): string {
  return attempt(() => readFileSync(file, 'utf8')) ?? ''
}

function link(file: string): string {
  return attempt(() => readlinkSync(file)) ?? ''
}
