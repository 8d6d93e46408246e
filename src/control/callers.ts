/** Who is connected to the control socket, and who makes room when there are too many. */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'

/**
 * So many are waited for, and so many are being answered: the oldest one makes room for the next,
 * so that whoever asks is heard, and memory is bounded. Only our own user and root get here.
 */
const most = 64

/** Milliseconds in which a process that is done still answers. */
const lastWords = 1_000

export class Callers {
  /** Oldest first, as a Set keeps them. */
  readonly #silent = new Set<Socket>()
  readonly #heard = new Set<Socket>()

  /** It may ask, or say nothing for as long as nobody else needs its place. */
  add(socket: Socket): void {
    enter(this.#silent, socket)
    socket.once('close', () => {
      this.#silent.delete(socket)
      this.#heard.delete(socket)
    })
  }

  /** From the end of its request on it makes room only for others that have asked. */
  hear(request: IncomingMessage): void {
    const { socket } = request
    request.once('end', () => {
      if (this.#silent.delete(socket)) enter(this.#heard, socket)
    })
  }

  /** Resolves when all have an answer, also those that have not asked yet, or a moment later. */
  get idle(): Promise<void> {
    const all = [...this.#silent, ...this.#heard].map((socket) => new Promise((done) => socket.once('close', done)))
    const late = new Promise((done) => setTimeout(done, lastWords).unref())
    return Promise.race([Promise.all(all), late]).then(() => {})
  }
}

function enter(sockets: Set<Socket>, socket: Socket): void {
  sockets.add(socket)
  if (sockets.size <= most) return
  const [oldest] = sockets
  oldest?.destroy()
}
