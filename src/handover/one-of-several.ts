/** A worker beside others: all are upgraded as one, and connections go from one to another. */
import { keepPathAtClose } from '../listen/unix-path.ts'
import { adoptChannel } from '../node/channel.ts'
import { isHttp } from '../node/listeners.ts'
import { livesOn } from '../node/processes.ts'
import type { DaemonUpgradeOptions } from '../options.ts'
import type { Service } from '../service.ts'
import type { Among, OtherWorker } from '../service-parts.ts'
import { type LinkEvent, openLink } from '../upgrade/link.ts'
import type { HowAsked } from '../upgrade/replace.ts'
import { type Deferred, deferred } from '../waiting.ts'
import { idleOf, isMovable } from './http.ts'
import { idleTime } from './keep-alive.ts'
import { type DaemonReport, Leaving, replaceAndLeave } from './leave.ts'
import { moveRule } from './move-rule.ts'
import { Mover } from './mover.ts'
import { Arrivals } from './receive.ts'

/** Programs that have asked for an upgrade of all: they wait for their own part in it. */
const waiting = new WeakMap<Service, Deferred<DaemonReport>>()

/** As `replaceAndLeave`; of several workers each gets its part from the keeper. */
export async function upgradeService(
  service: Service,
  options: DaemonUpgradeOptions,
  asked: HowAsked = {},
): Promise<DaemonReport> {
  const { among } = service.keeper ?? {}
  if (among?.isOneOfSeveral !== true || asked.isSame === true) return replaceAndLeave(service, options, asked)
  if (asked.isHeld !== true) return askForAll(service, among, options)
  among.beginPart()
  const report = replaceAndLeave(service, options, asked)
  // Why all have failed, whoever of them it was, the keeper tells.
  void report.then(
    (done) => waiting.get(service)?.resolve(done),
    () => {},
  )
  return report
}

async function askForAll(
  service: Service,
  among: Among,
  { signal, ...options }: DaemonUpgradeOptions,
): Promise<DaemonReport> {
  const part = deferred<DaemonReport>()
  waiting.set(service, part)
  const giveUp = () => service.stopUpgrade('caller')
  signal?.addEventListener('abort', giveUp)
  try {
    // The wish only rejects: this process has its part as all others have.
    return await Promise.race([part.promise, among.wish(options)])
  } finally {
    signal?.removeEventListener('abort', giveUp)
    waiting.delete(service)
  }
}

/** This worker goes for good: its connections move to another one, as at an upgrade. */
export function retire(service: Service, to: OtherWorker): void {
  const hearing = deferred<(event: LinkEvent) => void>()
  const heard = deferred()
  const link = openLink(adoptChannel(to.fd), (event) => {
    heard.resolve()
    void hearing.promise.then((hear) => hear(event))
  })
  // What is named here, a path or a pid file, is that of the others.
  service.hasSuccessor = true
  for (const server of service.handles.unixListeners()) keepPathAtClose(server, String(server.address()))
  service.takeStep('stop')
  const handed = new Set(service.listeners.map(({ name }) => name))
  const phases = { spawn: 0, boot: 0, ready: 0, commit: 0 }
  const committed = { identity: to.identity, generation: service.generation, phases, handed, left: new Set<string>() }
  const hear = (listener: (event: LinkEvent) => void) => hearing.resolve(listener)
  const leave = () => void new Leaving(service, service.drainTimeout, { ...committed, link, hear }).ended
  if (service.tls === undefined) leave()
  // Whether it takes TLS it says first of all; one that says nothing takes nothing else either.
  else void Promise.race([heard.promise, new Promise((late) => setTimeout(late, longestSilence))]).then(leave)
}

/** How long another worker is waited for that says nothing, in milliseconds. */
const longestSilence = 1_000

/** Takes what comes from another worker, until that says bye or ends. */
export function takeFrom(service: Service, { fd }: OtherWorker): void {
  const link = openLink(adoptChannel(fd), (event) => {
    if (event.type !== 'message' || typeof event.message !== 'object') return
    if (event.message.type === 'connection') arrivals.take(event.message, event.handle)
    else if (event.message.type === 'bye') link.close()
  })
  const arrivals = new Arrivals(service, link)
  if (service.tls !== undefined) link.send({ type: 'takesTls', key: service.tls.publicKey })
  // It goes for good, or not at all: of ours it needs nothing.
  link.send({ type: 'spares', names: [] })
}

/** For how long connections move to even out, in milliseconds: what is left then stays. */
const longestMove = 5_000

/** So many idle connections go to another worker. Resolves to how many have moved. */
export async function give(service: Service, to: OtherWorker, count: number): Promise<number> {
  const ended = deferred()
  const heard = deferred()
  const link = openLink(adoptChannel(to.fd), (event) => {
    mover.onLink(event)
    heard.resolve()
    if (event.type !== 'closed') return
    ended.resolve()
    void livesOn(to.identity).then((lives) => mover.end(!lives))
  })
  const mover = new Mover(link, performance.now() + longestMove, service.tls)
  const late = setTimeout(() => mover.stop(), longestMove)
  // Whether it takes TLS it says first of all.
  await heard.promise
  const rule = moveRule(service)
  const idle = service.listeners
    .filter(({ server }) => isHttp(server))
    .flatMap(({ name, server }) => {
      const sockets = idleOf(server).filter((socket) => mover.carries(socket) && isMovable(socket, server, rule))
      return sockets.map((socket) => ({ name, socket }))
    })
    .slice(0, count)
  const moves = idle.map(async ({ name, socket }) => {
    const { bytesRead } = socket
    const isFree = () => socket.bytesRead === bytesRead && socket.writableLength === 0
    const proof = deferred<boolean>()
    const options = { isFree, onProof: proof.resolve }
    const moved = await mover.move(socket, { to: name, idle: idleTime(socket) }, options)
    // Of TLS it may be here again in a moment.
    return moved === 'moved' && !('encrypted' in socket && (await proof.promise))
  })
  const moved = await Promise.all(moves)
  clearTimeout(late)
  mover.end(false)
  link.send({ type: 'bye' })
  await ended.promise
  return moved.filter((isMoved) => isMoved).length
}
