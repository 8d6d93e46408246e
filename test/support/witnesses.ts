/**
 * Clients of a service whose processes die: they never ask again for what was lost, and know what
 * that was. Half of them keep their connection, half have one for each request.
 */
import { connect, type NetConnectOpts, type Socket } from 'node:net'
import { isGone } from '../../src/node/system.ts'
import { eventually } from './waiting.ts'

type Loss = {
  /** By performance.now(): when it was asked. */
  readonly asked: number
  /** Nobody listened; it was connected, and had no whole answer; or nothing came of it at all. */
  readonly how: 'refused' | 'lost' | 'hung'
  readonly words: string
}

/** Milliseconds after which an answer does not come any more. */
const longest = 20_000

export class Witnesses {
  readonly losses: Loss[] = []
  /** Who has answered, by what stands in the answer. */
  readonly bodies = new Map<string, number>()
  answers = 0
  readonly count: number
  readonly #where: NetConnectOpts
  #isStopping = false
  readonly #running: Promise<unknown>

  constructor(where: number | NetConnectOpts, count = 10) {
    this.#where = typeof where === 'number' ? { port: where, host: '127.0.0.1' } : where
    this.count = count
    this.#running = Promise.all(Array.from({ length: count }, (_, index) => this.#ask(index % 2 === 0)))
  }

  async #ask(keepsAlive: boolean): Promise<void> {
    let socket: Socket | undefined
    while (!this.#isStopping) {
      const asked = performance.now()
      const exchange = new Exchange(socket ?? connect(this.#where), keepsAlive)
      const outcome = await exchange.answer
      if ('body' in outcome) {
        this.answers++
        this.bodies.set(outcome.body, (this.bodies.get(outcome.body) ?? 0) + 1)
      } else this.losses.push({ asked, ...outcome })
      // What has come for all connections by now is read before anything more is asked.
      await new Promise((done) => setTimeout(done, 1))
      await new Promise(setImmediate)
      socket =
        'body' in outcome && keepsAlive && !exchange.isOver && !exchange.socket.closed ? exchange.socket : undefined
      if (socket === undefined) exchange.socket.destroy()
    }
    socket?.destroy()
  }

  /** Until this has answered. */
  async untilAnswered(by: RegExp): Promise<void> {
    const before = new Map(this.bodies)
    const isBy = ([body, count]: readonly [string, number]) => by.test(body) && count > (before.get(body) ?? 0)
    await eventually(
      () => `an answer of ${by}, not ${[...this.bodies.keys()]}, ${JSON.stringify(this.losses.slice(0, 3))}`,
      () => [...this.bodies].some(isBy) || undefined,
    )
  }

  /** Until as many more answers have come. */
  async untilMore(count = 3 * this.count): Promise<void> {
    const wanted = this.answers + count
    await eventually('more answers', () => this.answers >= wanted || undefined)
  }

  /** Resolves to the time from which on nothing may be lost any more: a process is gone. */
  async untilGone(pid: number, startTime: string): Promise<number> {
    await eventually(`the end of ${pid}`, () => isGone([pid, startTime]) || undefined)
    // Ends of connections that are known to the kernel are read first.
    for (let turns = 0; turns < 3; turns++) await new Promise((done) => setTimeout(done, 1))
    return performance.now()
  }

  of(how: Loss['how']): readonly Loss[] {
    return this.losses.filter((one) => one.how === how)
  }

  async stop(): Promise<readonly Loss[]> {
    this.#isStopping = true
    await this.#running
    return this.losses
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }
}

type Outcome = { readonly body: string } | { readonly how: Loss['how']; readonly words: string }

/** Between two requests: that it has ended is seen by who looks. */
function ignore(): void {}

/** One request and its answer. */
class Exchange {
  readonly socket: Socket
  isOver = false
  readonly answer: Promise<Outcome>
  #text = ''

  constructor(socket: Socket, keepsAlive: boolean) {
    this.socket = socket
    this.answer = new Promise((settle) => {
      let error: NodeJS.ErrnoException | undefined
      const timer = setTimeout(() => done({ how: 'hung', words: this.#text }), longest)
      const done = (outcome: Outcome) => {
        clearTimeout(timer)
        socket.off('data', onData).off('error', onError).off('close', onClose).on('error', ignore)
        settle(outcome)
      }
      const onError = (thrown: NodeJS.ErrnoException) => {
        error = thrown
      }
      const onClose = () => {
        this.isOver = true
        const how = error?.code === 'ECONNREFUSED' || error?.code === 'ENOENT' ? 'refused' : 'lost'
        done({ how, words: `${error?.code ?? 'closed'} ${this.#text}` })
      }
      const onData = (text: string) => {
        this.#text += text
        const [, head = '', body = ''] = /^(.*?)\r\n\r\n(.*)$/s.exec(this.#text) ?? []
        const length = /^content-length: (\d+)/im.exec(head)?.[1]
        if (head === '' || length === undefined || body.length < Number(length)) return
        if (/^connection: close/im.test(head)) this.isOver = true
        done({ body })
      }
      socket.off('error', ignore).setEncoding('utf8').on('data', onData).on('error', onError).on('close', onClose)
      const connection = keepsAlive ? '' : 'connection: close\r\n'
      socket.write(`GET / HTTP/1.1\r\nhost: test\r\n${connection}\r\n`)
    })
  }
}
