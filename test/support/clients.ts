/** Clients that never retry: what they see is what a user sees. */
import dgram from 'node:dgram'
import { once } from 'node:events'
import { connect, type NetConnectOpts } from 'node:net'
import { within } from './waiting.ts'

/**
 * Connects once and gives what the server says until it closes; rejects on a refused or reset
 * connection.
 */
export async function ask(where: NetConnectOpts): Promise<string> {
  const socket = connect(where)
  let said = ''
  socket.setEncoding('utf8').on('data', (text) => {
    said += text
  })
  await within(`an answer at ${JSON.stringify(where)}`, once(socket, 'close'))
  return said.trim()
}

/** Sends one datagram and gives the answer. */
export async function askUdp(port: number): Promise<string> {
  const socket = dgram.createSocket('udp4')
  try {
    socket.send('?', port, '127.0.0.1')
    const [answer] = await within(`a datagram from port ${port}`, once(socket, 'message'))
    return String(answer)
  } finally {
    socket.close()
  }
}

export type LoadResult = {
  /** Answers by what was answered: the pid of the server. */
  readonly answers: ReadonlyMap<string, number>
  readonly failures: readonly string[]
}

/** Several clients, each opening one connection after the other, until told to stop. */
export function connectAllTheTime(
  where: NetConnectOpts,
  clients: number,
): { stop(): Promise<LoadResult>; answers: number } {
  const answers = new Map<string, number>()
  const failures: string[] = []
  let isStopped = false
  const load = { answers: 0, stop }

  async function client(): Promise<void> {
    while (!isStopped) {
      const answer = await ask(where).catch((error: Error) => void failures.push(error.message))
      if (answer === '') failures.push('closed without an answer')
      else if (answer !== undefined) answers.set(answer, (answers.get(answer) ?? 0) + 1)
      load.answers++
    }
  }

  const running = Promise.all(Array.from({ length: clients }, client))

  async function stop(): Promise<LoadResult> {
    isStopped = true
    await running
    return { answers, failures }
  }

  return load
}
