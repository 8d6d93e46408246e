/** The demo of the original Go API, run as its text runs it: the log is the transcript there. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { system } from '../../src/node/system.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

const demo = fileURLToPath(new URL('../../examples/documents-demo.js', import.meta.url))

const start = [
  'launcher running environ: stage =  living_upgrade= ',
  'daemon running environ: stage = daemon living_upgrade= ',
  'launcher daemonized success. parent will exit',
  'daemon daemonized success. child-daemon begin running',
]

const upgrade = [
  'daemon receive signal: user defined signal 1',
  'daemon add listener to inherit file',
  'upgrade-parent running environ: stage = parent living_upgrade= listen:1',
  'upgrade-daemon running environ: stage = daemon living_upgrade= listen:1',
  'upgrade-parent daemonized success. parent will exit',
  'upgrade-daemon daemonized success. child-daemon begin running',
  'daemon execute upgrade',
]

const secondUpgrade = [
  'upgrade-daemon receive signal: user defined signal 1',
  'upgrade-daemon add listener to inherit file',
  'upgrade-parent 2 running environ: stage = parent living_upgrade= listen:1',
  'upgrade-daemon 2 running environ: stage = daemon living_upgrade= listen:1',
  'upgrade-parent 2 daemonized success. parent will exit',
  'upgrade-daemon 2 daemonized success. child-daemon begin running',
  'upgrade-daemon execute upgrade',
]

test('the demo of the original Go API writes the transcript of the original, and both processes accept', async () => {
  await using lab = await Lab.open()
  await using run = await Demo.start(lab)
  run.signal('daemon')
  await run.logs('daemon execute upgrade')
  assert.deepEqual(run.transcript(), [...start, ...upgrade])
  await run.acceptsFrom('daemon normal', 'upgrade-daemon upgrade')
})

test('the upgraded daemon of the original Go API is upgraded by the same signal', async () => {
  await using lab = await Lab.open()
  await using run = await Demo.start(lab)
  run.signal('daemon')
  await run.logs('daemon execute upgrade')
  await run.acceptsFrom('upgrade-daemon upgrade')
  run.signal('upgrade-daemon')
  await run.logs('upgrade-daemon execute upgrade')
  assert.deepEqual(run.transcript(), [...start, ...upgrade, ...secondUpgrade])
  await run.acceptsFrom('upgrade-daemon upgrade', 'upgrade-daemon 2 upgrade')
})

/** The running demo, known by its log alone: its processes do not report to the lab. */
class Demo {
  readonly #lab: Lab
  readonly #port: number
  /** By pid, in the order of their first lines. */
  readonly #roles = new Map<number, string>()
  readonly #startTimes = new Map<number, string | undefined>()

  private constructor(lab: Lab, port: number) {
    this.#lab = lab
    this.#port = port
  }

  static async start(lab: Lab): Promise<Demo> {
    const port = await freePort()
    const run = new Demo(lab, port)
    lab.spawn(demo, { env: { DEMO_LOG: lab.path('log'), DEMO_PORT: String(port) } })
    // It listens a moment after its line, and catches the signal from then on.
    const isHeard = () =>
      knock(port).then(
        () => true,
        () => undefined,
      )
    await run.logs('daemon daemonized success. child-daemon begin running')
    await eventually(`a listener on port ${port}`, isHeard)
    return run
  }

  /** The log with roles in place of pids. */
  lines(): string[] {
    if (!existsSync(this.#lab.path('log'))) return []
    const lines = this.#lab.read('log').split('\n').slice(0, -1)
    return lines.map((line) => {
      const [, pid, words = ''] = /^(\d+) (.*)$/.exec(line) ?? []
      return `${this.#roleOf(Number(pid), words)} ${words}`
    })
  }

  /** The log without the connections, which come at any time. */
  transcript(): string[] {
    return this.lines().filter((line) => !line.includes(' accept from: '))
  }

  async logs(line: string): Promise<void> {
    await eventually(`the line "${line}" in the log`, () => this.lines().includes(line) || undefined).catch((error) => {
      throw new Error(`${error.message}; there are:\n${this.lines().join('\n')}`)
    })
  }

  /** Connects until each of these has accepted a connection from now on. */
  async acceptsFrom(...acceptors: readonly string[]): Promise<void> {
    const before = this.lines().length
    const hasAccepted = (acceptor: string) =>
      this.lines().some(
        (line, index) => index >= before && line.startsWith(`${acceptor} listener accept from: 127.0.0.1:`),
      )
    const bothAccepted = async () => {
      while (!acceptors.every(hasAccepted)) await Promise.all(Array.from({ length: 8 }, () => knock(this.#port)))
    }
    await within(`connections accepted by ${acceptors}`, bothAccepted())
  }

  /** The original's `kill -s SIGUSR1`. */
  signal(role: string): void {
    const pid = [...this.#roles].find(([, name]) => name === role)?.[0]
    assert.ok(pid !== undefined, role)
    this.#kill(pid, 'SIGUSR1')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Once more while there are new ones: a process that is killed may just have started another.
    for (let known = -1; known < this.#roles.size; ) {
      known = this.#roles.size
      this.lines()
      for (const pid of this.#roles.keys()) this.#kill(pid, 'SIGKILL')
      for (const [pid, startTime] of this.#startTimes) {
        if (startTime === undefined) continue
        await eventually(`the end of process ${pid}`, () => system.startTime(pid) !== startTime || undefined)
      }
    }
  }

  #roleOf(pid: number, words: string): string {
    const known = this.#roles.get(pid)
    if (known !== undefined) return known
    const [, stage = '', living = ''] = /^running environ: stage = (.*) living_upgrade= (.*)$/.exec(words) ?? []
    const role = `${living && 'upgrade-'}${stage || 'launcher'}`
    const sameRole = [...this.#roles.values()].filter((name) => name.startsWith(role)).length
    const name = sameRole === 0 ? role : `${role} ${sameRole + 1}`
    this.#roles.set(pid, name)
    this.#startTimes.set(pid, system.startTime(pid))
    return name
  }

  #kill(pid: number, signal: NodeJS.Signals): void {
    const startTime = this.#startTimes.get(pid)
    if (startTime !== undefined) system.kill([pid, startTime], signal)
  }
}

/** The original's `echo "" | nc 127.0.0.1 2021`. */
async function knock(port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  socket.resume().end('\n')
  await within(`a connection to port ${port}`, once(socket, 'close'))
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await new Promise((closed) => server.close(closed))
  return port
}
