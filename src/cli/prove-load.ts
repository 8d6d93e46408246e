/** The load of `prove`: keep-alive clients that never retry, so that every failure is seen. */
import type { Target } from './prove-target.ts'

export type Load = {
  readonly counts: { readonly answered: number; readonly failed: number; readonly reconnected: number }
  /** How many failed, by what was seen. */
  readonly failures: ReadonlyMap<string, number>
  /** Resolves when the last answers have come. */
  stop(): Promise<void>
}

/**
 * After a failure a client waits, in milliseconds: a service that is gone is no reason to ask ever
 * faster.
 */
const rest = 50

export function startLoad({ isTls, request: options }: Target, clients: number, patience: number): Load {
  const { Agent, get } = process.getBuiltinModule(isTls ? 'node:https' : 'node:http')
  const counts = { answered: 0, failed: 0, reconnected: 0 }
  const failures = new Map<string, number>()
  let isStopped = false

  async function ask(agent: InstanceType<typeof Agent>, sockets: WeakSet<object>): Promise<void> {
    await new Promise<void>((done, failed) => {
      const request = get({ ...options, agent, timeout: patience }, (response) => {
        response.on('end', () => (response.complete ? done() : failed(new Error('half an answer')))).on('error', failed)
        response.resume()
        if ((response.statusCode ?? 0) >= 500) failed(new Error(`status ${response.statusCode}`))
      })
      request.once('socket', (socket) => {
        if (sockets.has(socket)) return
        if (request.reusedSocket) return
        sockets.add(socket)
        counts.reconnected++
      })
      request.once('timeout', () => request.destroy(new Error(`no answer within ${patience} ms`)))
      request.once('error', failed)
    })
  }

  async function client(): Promise<void> {
    // A certificate that nobody signed is as good: it is the program's own.
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ...(isTls && { rejectUnauthorized: false }) })
    const sockets = new WeakSet<object>()
    // The first connection is no reconnect.
    counts.reconnected--
    while (!isStopped) {
      try {
        await ask(agent, sockets)
        counts.answered++
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException
        const why = code ?? message
        counts.failed++
        failures.set(why, (failures.get(why) ?? 0) + 1)
        await new Promise((done) => setTimeout(done, rest))
      }
    }
    agent.destroy()
  }

  const running = Promise.all(Array.from({ length: clients }, client))
  return {
    counts,
    failures,
    async stop() {
      isStopped = true
      await running
    },
  }
}
