/**
 * Clients of protocols whose connections do not move: they ask one thing after the other, never
 * again what was lost, and count how often they had to connect.
 */
import { once } from 'node:events'
import { connect as connectHttp2 } from 'node:http2'
import { Agent, get } from 'node:https'
import { text } from 'node:stream/consumers'
import { io } from 'socket.io-client'
import { WebSocket } from 'ws'
import { within } from './waiting.ts'

export type Caller = {
  /** Times that it has connected. */
  connections: number
  /** The last answer: a pid first. */
  answer: string
  answers: number
  readonly failures: string[]
}

type Ask = (caller: Caller) => Promise<string>

export class Callers {
  readonly all: readonly Caller[]
  readonly #running: Promise<unknown>
  readonly #ends: (() => void)[] = []
  #isStopping = false

  constructor(count: number, open: (caller: Caller) => { readonly ask: Ask; end(): void }) {
    this.all = Array.from({ length: count }, () => ({ connections: 0, answer: '', answers: 0, failures: [] }))
    this.#running = Promise.all(
      this.all.map(async (caller) => {
        const { ask, end } = open(caller)
        this.#ends.push(end)
        // Without a pause: over TLS the one GOAWAY refuses what is sent while it is on its way
        // (docs/limits.md).
        while (!this.#isStopping) {
          try {
            caller.answer = await within('an answer', ask(caller))
            caller.answers++
          } catch (error) {
            caller.failures.push(String(error))
          }
        }
      }),
    )
  }

  /** Whether all have an answer of this process. */
  haveReached(pid: number): boolean {
    return this.all.every(({ answer }) => answer.startsWith(`${pid}`))
  }

  get failures(): readonly string[] {
    return this.all.flatMap(({ failures }) => failures)
  }

  /** The most that one of them has connected. */
  get mostConnections(): number {
    return Math.max(...this.all.map(({ connections }) => connections))
  }

  async stop(): Promise<void> {
    this.#isStopping = true
    await this.#running
    for (const end of this.#ends) end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

export function httpsCallers(port: number, count: number): Callers {
  return new Callers(count, () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1, rejectUnauthorized: false })
    let last: unknown
    return {
      async ask(caller) {
        const asked = get({ host: 'localhost', port, agent, path: '/load?id=1&size=10&place=0' })
        const [response] = await once(asked, 'response')
        await text(response)
        if (asked.socket !== last) caller.connections++
        last = asked.socket
        return `${response.headers['x-generation']}`
      },
      end: () => agent.destroy(),
    }
  })
}

export function http2Callers(port: number, count: number): Callers {
  return new Callers(count, (caller) => {
    const open = () => {
      caller.connections++
      return connectHttp2(`https://localhost:${port}`, { rejectUnauthorized: false }).once('goaway', () => {
        session = open()
      })
    }
    let session = open()
    return {
      // One that was told to go away may have been told while we ask: its answer still comes.
      ask: () => text(session.request({ ':path': '/' })),
      end: () => session.close(),
    }
  })
}

/** Asks again in a new connection when one is closed with 1012; anything else is a failure. */
export function webSocketCallers(port: number, count: number): Callers {
  return new Callers(count, (caller) => {
    let socket: WebSocket | undefined
    let isEnding = false
    const open = async (): Promise<WebSocket> => {
      const opened = new WebSocket(`ws://localhost:${port}`)
      await once(opened, 'open')
      caller.connections++
      opened.once('close', (code) => {
        socket = undefined
        if (code !== 1012 && !isEnding) caller.failures.push(`closed with ${code}`)
      })
      return opened
    }
    return {
      async ask(): Promise<string> {
        for (;;) {
          socket ??= await open()
          const closed = once(socket, 'close').then(() => undefined)
          const answered = once(socket, 'message').then(([message]) => String(message))
          answered.catch(() => {})
          if (socket.readyState === WebSocket.OPEN) socket.send('hello')
          const answer = await Promise.race([answered, closed])
          if (answer !== undefined) return answer
        }
      },
      end() {
        isEnding = true
        socket?.close()
      },
    }
  })
}

export function socketIoCallers(port: number, count: number, transports?: string[]): Callers {
  return new Callers(count, (caller) => {
    const socket = io(`http://localhost:${port}`, {
      forceNew: true,
      reconnectionDelay: 50,
      ...(transports && { transports }),
    })
    socket.on('connect', () => caller.connections++)
    // A connect_error is no failure: the requests of one handshake by polling may reach two
    // versions while both accept, and the client tries again.
    return {
      // What a disconnect takes with it is asked again, as every program of socket.io has to.
      async ask(): Promise<string> {
        for (;;) {
          const lost = new Promise<undefined>((done) => socket.once('disconnect', () => done(undefined)))
          const answer = await Promise.race([socket.emitWithAck('ask', 'hello') as Promise<string>, lost])
          if (answer !== undefined) return answer
        }
      },
      end: () => socket.close(),
    }
  })
}
