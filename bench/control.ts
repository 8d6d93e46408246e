/**
 * Where each generation of a bench program reports, and is told what to do: a Unix socket that
 * outlives them all.
 */
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { UpgradePhases } from 'cook-daemon'
import { know, startNode, untilGone } from './processes.ts'
import type { Answers, Command } from './programs/control.ts'

/** A bench program that is up. */
export type Generation = {
  readonly pid: number
  /** Rejects with what went wrong in the program. */
  ask<Name extends Command['do']>(command: Extract<Command, { do: Name }>): Promise<Answers[Name]>
  /** Resolves when its process is gone. */
  gone(): Promise<void>
  end(): Promise<void>
}

export type Control = {
  readonly path: string
  /** The next one to come up. */
  next(): Promise<Generation>
  close(): void
}

const patience = 30_000
const rest = 50

export async function openControl(path: string): Promise<Control> {
  const server = createServer()
  const sockets = new Set<Socket>()
  // A program whose control ends, ends: nothing outlives this process, not even if that is killed.
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).once('close', () => sockets.delete(socket))
  })
  server.listen(path)
  await once(server, 'listening')
  return {
    path,
    async next() {
      const [socket] = (await within('come up', once(server, 'connection'))) as [Socket]
      return meet(socket)
    },
    close() {
      server.close()
      for (const socket of sockets) socket.destroy()
    },
  }
}

/** Starts the first generation. */
export async function startFirst(control: Control, file: string, stage: 'daemon' | 'parent'): Promise<Generation> {
  const env = { BENCH_CONTROL: control.path, BENCH_WAY: stage }
  // Without a channel: by that the programs know a plain start.
  const child = startNode(file, { env, channel: false })
  const [generation] = await Promise.all([control.next(), stage === 'parent' ? once(child, 'exit') : undefined])
  return generation
}

/** One upgrade, after which the old process has left by itself. */
export async function upgradeOnce(
  control: Control,
  current: Generation,
  stage: 'daemon' | 'parent',
): Promise<{ phases: UpgradePhases; next: Generation }> {
  const coming = control.next()
  const [phases, next] = await Promise.all([current.ask({ do: 'upgrade', stage }), coming])
  await current.gone()
  // Who upgrades has been up for days; one that has just started still collects and compiles beside
  // what is measured next.
  await sleep(rest)
  return { phases, next }
}

async function meet(socket: Socket): Promise<Generation> {
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]()
  const hear = async () => {
    const { value, done } = await lines.next()
    if (done) throw new Error('a bench program ended before it answered')
    return JSON.parse(value) as { pid: number; value?: unknown; error?: string }
  }
  const { pid } = await within('say its pid', hear())
  know(pid)
  return {
    pid,
    async ask<Name extends Command['do']>(command: Extract<Command, { do: Name }>) {
      socket.write(`${JSON.stringify(command)}\n`)
      const { value, error } = await within(command.do, hear())
      if (error !== undefined) throw new Error(`${command.do} failed in a bench program: ${error}`)
      return value as Answers[Name]
    },
    gone: () => untilGone(pid),
    end() {
      socket.destroy()
      return untilGone(pid)
    },
  }
}

async function within<Value>(what: string, promise: Promise<Value>): Promise<Value> {
  const over = new AbortController()
  const late = sleep(patience, undefined, { signal: over.signal, ref: false }).then(() => {
    throw new Error(`a bench program took more than ${patience} ms to ${what}`)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    // The timer's own rejection has nobody to hear it.
    late.catch(() => {})
    over.abort()
  }
}
