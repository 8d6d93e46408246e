/** What the keeper remembers of workers that have come and gone. */
import assert from 'node:assert/strict'
import { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { Server, Socket } from 'node:net'
import { test } from 'node:test'
import { queryObjects } from 'node:v8'
import type { Status } from '../../src/control/status.ts'
import { collectSoon } from '../../src/keeper/garbage.ts'
import { Past } from '../../src/keeper/past.ts'
import { Spawns } from '../../src/keeper/spawns.ts'
import type { Worker } from '../../src/keeper/worker.ts'
import { adoptChannel } from '../../src/node/channel.ts'
import { makePair } from '../../src/node/pair.ts'
import { identify } from '../../src/node/system.ts'
import { eventually } from '../support/waiting.ts'

type Parent = ConstructorParameters<typeof Spawns>[0]
type Exit = Parameters<Worker['onExit']>[0]

test('a worker that is gone is let go of, however many have come after it', async () => {
  const place = new PlaceOfNothing()
  const spawns = new Spawns(place as unknown as Parent)
  let worker = newWorker(1)
  const gone: WeakRef<Worker>[] = []
  for (let generation = 2; generation <= 8; generation++) {
    const young = await place.successorOf(worker, spawns, generation)
    spawns.count(young, 'succeeded')
    place.end(worker)
    gone.push(new WeakRef(worker))
    worker = young
  }
  assert.equal(place.home.past.news.upgrades.succeeded, gone.length)
  // The end of a process is told to the one that has started it, which may be gone by then.
  gone.pop()
  collectSoon(0)
  const left = () => gone.filter((one) => one.deref() !== undefined).length
  await eventually(
    () => `the end of all that is gone: ${left()} are there`,
    () => left() === 0 || undefined,
    5_000,
  )
})

test('an upgrade of several workers counts once, whatever they say of it and whoever of them has died', () => {
  const past = new Past()
  const told = (succeeded: number, failed = 0) => ({ upgrades: { succeeded, failed } }) as Status
  past.begin()
  // Each of the two has its successor, and one of them was asked meanwhile.
  past.count(past.before, 'succeeded')
  past.hear([told(1)])
  past.count(past.before, 'succeeded')
  past.end()
  assert.deepEqual(past.news.upgrades, { succeeded: 1, failed: 0 })
  // Of one that has just taken over nothing is known.
  past.hear([told(0), told(1, 1)])
  past.hear([told(0)])
  past.hear([])
  assert.deepEqual(past.news.upgrades, { succeeded: 1, failed: 1 })
  past.count(past.before, 'failed')
  assert.deepEqual(past.news.upgrades, { succeeded: 1, failed: 2 })
  past.keepRestarts(1, { crash: 2, hang: 0, memory: 0 })
  assert.deepEqual([past.restartsOf(1).crash, past.restartsOf(2).crash], [2, 0])
})

/** It starts no process. */
class PlaceOfNothing {
  readonly workers = new Map<number, Worker>()
  readonly home = {
    plan: { program: {} },
    past: new Past(),
    targetOf: () => undefined,
  }
  #born: (worker: Worker) => void = () => {}

  successorOf(worker: Worker, spawns: Spawns, generation: number): Promise<Worker> {
    const record = { protocol: 1, nonce: 'nonce', predecessor: worker.identity, generation, handles: [] }
    const command = { execPath: process.execPath, execArgv: [], args: [], cwd: '/' }
    const born = new Promise<Worker>((resolve) => {
      this.#born = resolve
    })
    spawns.hear(worker, { type: 'spawn', id: 1, record, command, environment: {} })
    return born
  }

  async birth({ link: { generation } }: { readonly link: { readonly generation: number } }): Promise<Worker> {
    const worker = newWorker(generation)
    this.workers.set(generation, worker)
    // Its keeper does its own part first.
    setImmediate(() => this.#born(worker))
    return worker
  }

  end({ generation, ended }: Worker): void {
    this.workers.delete(generation)
    ended({ code: 0, signal: null })
  }
}

/** What the keeper knows of a process, without one. */
function newWorker(generation: number): Worker {
  const hearing: Exit[] = []
  const worker: Partial<Worker> = {
    identity: [...identify()],
    generation,
    station: { isOpen: true, send: (_message, _handle, done = () => {}) => done(), close() {} },
    onExit: (hear) => void hearing.push(hear),
    ended: (exit) => hearing.splice(0).forEach((hear) => void hear(exit)),
  }
  return worker as Worker
}

test('a channel over a pair of sockets that has ended leaves no object behind that made it', async () => {
  const makers = [ChildProcess, Socket, Server]
  const count = () => makers.reduce((sum, one) => sum + Number(queryObjects(one, { format: 'count' })), 0)
  const before = count()
  for (let made = 0; made < 20; made++) {
    const [own, other] = await makePair()
    const channel = adoptChannel(own.fd)
    own.detach()
    const ended = once(channel, 'disconnect')
    other.close()
    await ended
  }
  let left = 0
  await eventually(
    () => `the end of what made them: ${left} are there`,
    () => {
      left = count() - before
      return left < 5 || undefined
    },
    5_000,
  )
})
