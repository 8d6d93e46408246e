/** The WebSockets of `prove`: each is pinged all the time, and comes back when it is told to. */
import { WebSocket } from 'ws'
import { closeCodes } from '../handover/close-slowly.ts'
import { type Load, type LoadOptions, rest } from './prove-load.ts'
import type { Target } from './prove-target.ts'

/** Between a pong and the next ping, in milliseconds. */
const pause = 20
/** How long the other end may take to say goodbye at the end, in milliseconds. */
const goodbye = 1_000

/** Until each has failed or come to an end, it is in here. */
type Ended = { readonly why?: string }

export function startWebSockets(target: Target, { clients, patience, tape }: LoadOptions): Load {
  const open = new Set<WebSocket>()
  let isStopped = false

  /** One connection, from its handshake to its end. */
  function hold(): Promise<Ended> {
    const socket = connect(target, patience)
    open.add(socket)
    let timer: NodeJS.Timeout | undefined
    let why: string | undefined
    const ping = () => {
      if (socket.readyState !== WebSocket.OPEN) return
      socket.ping()
      timer = setTimeout(() => {
        why = `WebSocket: no pong within ${patience} ms`
        socket.terminate()
      }, patience)
    }
    socket.on('open', ping)
    socket.on('pong', () => {
      clearTimeout(timer)
      tape.ping()
      timer = setTimeout(ping, pause)
    })
    socket.on('error', (error: NodeJS.ErrnoException) => {
      why ??= `WebSocket: ${error.code ?? error.message}`
    })
    return new Promise((ended) => {
      socket.on('close', (code) => {
        clearTimeout(timer)
        open.delete(socket)
        if (isStopped || (code === closeCodes.restart && why === undefined)) ended({})
        else ended({ why: why ?? `WebSocket closed with ${code}` })
      })
    })
  }

  async function client(): Promise<void> {
    for (let times = 0; !isStopped; times++) {
      if (times > 0) tape.reconnect(true)
      const { why } = await hold()
      if (why === undefined) continue
      tape.failure(why)
      await new Promise((done) => setTimeout(done, rest))
    }
  }

  const running = Promise.all(Array.from({ length: clients }, client))
  return {
    async stop() {
      isStopped = true
      for (const socket of open) socket.close(1000)
      const timer = setTimeout(() => {
        for (const socket of open) socket.terminate()
      }, goodbye)
      await running
      clearTimeout(timer)
    },
  }
}

function connect({ isTls, request }: Target, patience: number): WebSocket {
  const { connect: plain } = process.getBuiltinModule('node:net')
  const { connect: secure } = process.getBuiltinModule('node:tls')
  const { host, port, socketPath, path, headers } = request
  const where = socketPath ? { path: socketPath } : { host: host ?? 'localhost', port: Number(port) }
  // The address in the URL is of no account: where it connects to is said here.
  return new WebSocket(`${isTls ? 'wss' : 'ws'}://localhost${path}`, {
    createConnection: () => (isTls ? secure({ ...where, rejectUnauthorized: false }) : plain(where)),
    headers: headers as Record<string, string>,
    handshakeTimeout: patience,
    perMessageDeflate: false,
  })
}
