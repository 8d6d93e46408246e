/** A program of node:cluster under --workers: a worker, with the keeper in its primary's place. */
import type { Worker } from 'node:cluster'
import type { Server } from 'node:net'
import type { CookError } from '../errors.ts'
import { answerAsWorker, type Cluster, definePrimaryCalls, loadWorkerHalf } from '../node/cluster.ts'
import type { Service } from '../service.ts'

/** Bundled for itself: it is loaded under --workers alone, and shares no code with the rest. */
export type Refuse = (verb: string) => CookError

export function beClusterWorker(service: Service, refuse: Refuse): void {
  const cluster = loadWorkerHalf()
  definePrimaryCalls(cluster, (name) => {
    throw refuse(`cluster.${name}()`)
  })
  let worker: Worker | undefined
  answerAsWorker(cluster, () => {
    if (worker === undefined) {
      worker = makeWorker(cluster, service)
      giveChannel(worker, refuse)
      service.keeper?.among.usesCluster()
    }
    return worker
  })
}

/** As lib/internal/cluster/child.js makes it; the rest is in its prototype. */
function makeWorker(cluster: Cluster, service: Service): Worker {
  const worker = new cluster.Worker({ id: (service.keeper?.slot ?? 0) + 1, state: 'online' })
  let isEnding = false
  const disconnect = () => {
    if (isEnding) return worker
    isEnding = true
    Object.assign(worker, { exitedAfterDisconnect: true, state: 'disconnecting' })
    void untilClosed(service).then(() => {
      Object.assign(process, { connected: false })
      worker.emit('disconnect')
      // To the program's listeners alone: the `emit` of process itself watches our channel.
      process.getBuiltinModule('node:events').prototype.emit.call(process, 'disconnect')
    })
    return worker
  }
  /** Of no grace: in a drain what moves comes first. */
  const destroy = () => {
    Object.assign(worker, { exitedAfterDisconnect: true, state: 'destroying' })
    const over = service.departure === undefined ? Promise.resolve() : service.gone.promise
    void over.then(() => setImmediate(() => process.exit(0)))
  }
  return Object.assign(worker, { process, disconnect, destroy })
}

/** The servers of a process that leaves are closed by the drain. */
async function untilClosed(service: Service): Promise<void> {
  if (service.departure !== undefined) {
    await service.gone.promise
    return
  }
  const open = service.listeners.map(({ server }) => server).filter((server) => server.listening)
  await Promise.all(open.map((server: Server) => new Promise((done) => server.close(done))))
}

/**
 * What a worker has of its channel. `ready` is meant for whoever has started it (readiness.ts); all
 * else is for a primary. Thrown also where there is a callback: libraries give one that ignores
 * errors, and what they tell all workers would silently reach none.
 */
function giveChannel(worker: Worker, refuse: Refuse): void {
  const { send: before } = process
  const send = (message: unknown, ...rest: unknown[]): boolean => {
    if (message !== 'ready') throw refuse('process.send()')
    if (before !== undefined) return Reflect.apply(before, process, [message, ...rest])
    const done = rest.findLast((one) => typeof one === 'function')
    if (done !== undefined) process.nextTick(done as (error: null) => void, null)
    return true
  }
  Object.assign(process, { send, connected: true, disconnect: () => worker.kill() })
}
