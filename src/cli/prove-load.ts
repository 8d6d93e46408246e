/** The load of `prove`: keep-alive clients that never retry, so that every failure is seen. */
import { proveHeader } from '../contract/environment.ts'
import type { Tape } from './prove-tape.ts'
import type { Target } from './prove-target.ts'

export type Load = {
  /** Resolves when the last answers have come. */
  stop(): Promise<void>
}

export type LoadOptions = {
  readonly clients: number
  /** How long an answer may take, in milliseconds. */
  readonly patience: number
  readonly tape: Tape
}

/**
 * After a failure a client waits, in milliseconds: a service that is gone is no reason to ask ever
 * faster.
 */
export const rest = 50

export function startLoad({ isTls, request: options }: Target, { clients, patience, tape }: LoadOptions): Load {
  const { Agent, get } = process.getBuiltinModule(isTls ? 'node:https' : 'node:http')
  let isStopped = false

  /** Gives the version that has answered, as far as it says so. */
  function ask(agent: InstanceType<typeof Agent>, onSocket: (socket: object) => void): Promise<number | undefined> {
    return new Promise((done, failed) => {
      const request = get({ ...options, agent, timeout: patience }, (response) => {
        const { [proveHeader]: version } = response.headers
        response
          .on('end', () =>
            response.complete
              ? done(version === undefined ? undefined : Number(version))
              : failed(new Error('incomplete answer')),
          )
          .on('error', failed)
        response.resume()
        if ((response.statusCode ?? 0) >= 500) failed(new Error(`status ${response.statusCode}`))
      })
      request.once('socket', (socket) => {
        if (!request.reusedSocket) onSocket(socket)
      })
      request.once('timeout', () => request.destroy(new Error(`no answer within ${patience} ms`)))
      request.once('error', failed)
    })
  }

  async function client(): Promise<void> {
    // A certificate that nobody signed is as good: it is the program's own.
    const agent = new Agent({ keepAlive: true, maxSockets: 1, ...(isTls && { rejectUnauthorized: false }) })
    const sockets = new WeakSet<object>()
    let isFirst = true
    const onSocket = (socket: object) => {
      if (sockets.has(socket)) return
      sockets.add(socket)
      // The first connection is no reconnect.
      if (!isFirst) tape.reconnect(false)
      isFirst = false
    }
    while (!isStopped) {
      try {
        tape.answer(await ask(agent, onSocket))
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException
        tape.failure(code ?? message)
        await new Promise((done) => setTimeout(done, rest))
      }
    }
    agent.destroy()
  }

  const running = Promise.all(Array.from({ length: clients }, client))
  return {
    async stop() {
      isStopped = true
      await running
    },
  }
}
