/**
 * A lab for one test: a temporary folder, real processes that report to it, and a disposer that
 * leaves nothing of either.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { isAlive, system } from '../../src/node/system.ts'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import { eventually, within } from './waiting.ts'

/** What a process of ours wrote to the lab. */
type Line =
  | { readonly hello: { readonly pid: number; readonly stage: string; readonly living: string } }
  | Answer
  | { readonly event: string; readonly value?: unknown }

type Answer = { readonly answer: number; readonly value?: unknown; readonly error?: RemoteError }

type RemoteError = { readonly message: string; readonly code?: string; readonly values?: Record<string, unknown> }

/** A process that reports to the lab. */
export class Puppet {
  readonly pid: number
  /** What the environment said before the first verb. */
  readonly stage: string
  readonly living: string
  /** Resolves when the process is gone. */
  readonly gone: Promise<unknown>
  readonly startTime: string | undefined
  readonly events: { readonly event: string; readonly value?: unknown }[] = []
  readonly #socket: Socket
  readonly #answers = new Map<number, (answer: Answer) => void>()
  #runs = 0

  constructor(socket: Socket, hello: { pid: number; stage: string; living: string }, lines: AsyncIterator<string>) {
    this.#socket = socket
    this.pid = hello.pid
    this.stage = hello.stage
    this.living = hello.living
    this.startTime = system.startTime(hello.pid)
    this.gone = this.#read(lines)
  }

  /**
   * Runs a function in the process and gives what it returns; what it throws rejects here, with its
   * code.
   */
  async run<Arg, Value>(task: (scope: PuppetScope, arg: Arg) => Value, arg?: Arg): Promise<Awaited<Value>> {
    const answer = ++this.#runs
    const answered = new Promise<Answer>((settle) => this.#answers.set(answer, settle))
    this.#socket.write(`${JSON.stringify({ run: answer, code: String(task), arg })}\n`)
    const gone = this.gone.then(
      (): Answer => ({
        answer,
        error: { message: `process ${this.pid} ended during run ${answer}: ${task}`, code: 'ENDED' },
      }),
    )
    const { value, error } = await within(`an answer of process ${this.pid} to ${task}`, Promise.race([answered, gone]))
    if (error !== undefined) throw Object.assign(new Error(error.message), error)
    return value as Awaited<Value>
  }

  /** Waits for something that the process tells by itself. */
  async event(name: string): Promise<unknown> {
    const found = await eventually(`the event ${name} of process ${this.pid}`, () => {
      const index = this.events.findIndex(({ event }) => event === name)
      return index < 0 ? undefined : this.events.splice(index, 1)[0]
    })
    return found.value
  }

  kill(signal: NodeJS.Signals): void {
    if (this.startTime !== undefined) system.kill([this.pid, this.startTime], signal)
  }

  async #read(lines: AsyncIterator<string>): Promise<void> {
    for await (const text of { [Symbol.asyncIterator]: () => lines }) {
      const line = JSON.parse(text) as Line
      if ('answer' in line) this.#answers.get(line.answer)?.(line)
      if ('event' in line) this.events.push(line)
    }
    const identity = [this.pid, this.startTime ?? ''] as const
    await eventually(`the end of process ${this.pid}`, () => !isAlive(identity) || undefined)
  }
}

export type StartOptions = {
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly execPath?: string
  readonly execArgv?: readonly string[]
  readonly cwd?: string
}

export class Lab {
  readonly folder: string
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #waiting: Puppet[] = []
  readonly #all: Puppet[] = []
  readonly #children: ChildProcess[] = []
  #isClosing = false
  /** What the processes that the lab started itself wrote to stdout and stderr. */
  output = ''

  private constructor(folder: string, server: Server) {
    this.folder = folder
    this.#server = server
    server.on('connection', (socket) => void this.#onConnection(socket))
  }

  static async open(): Promise<Lab> {
    const parent = process.env.COOK_TEST_TMP ?? tmpdir()
    const folder = mkdtempSync(join(parent, 'cook-'))
    const server = createServer().listen(join(folder, 'lab'))
    await once(server, 'listening')
    return new Lab(folder, server)
  }

  path(...names: readonly string[]): string {
    return join(this.folder, ...names)
  }

  makeFolder(name: string): string {
    mkdirSync(this.path(name))
    return this.path(name)
  }

  read(name: string): string {
    return readFileSync(this.path(name), 'utf8')
  }

  /** Starts a compiled fixture, by its name or an absolute path. */
  spawn(fixture: string, options: StartOptions = {}): ChildProcess {
    const script = fixture.startsWith('/') ? fixture : fixturePath(fixture)
    const child = spawn(
      options.execPath ?? process.execPath,
      [...(options.execArgv ?? []), script, ...(options.args ?? [])],
      {
        cwd: options.cwd ?? this.folder,
        env: { ...process.env, ...this.environment(), ...options.env },
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    )
    this.#children.push(child)
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text
      })
    }
    return child
  }

  /** Starts a fixture and waits until it, or the daemon that it becomes, reports. */
  async start(fixture = 'puppet', options: StartOptions = {}): Promise<Puppet> {
    this.spawn(fixture, options)
    return this.next()
  }

  /** The next process that reports. */
  async next(): Promise<Puppet> {
    return eventually(
      () => `a process that reports (output: ${this.output})`,
      () => this.#waiting.shift(),
    )
  }

  environment(): Record<string, string> {
    return { LAB_SOCKET: this.path('lab'), PWD: this.folder, COOK_DAEMON_HOME: this.path('run') }
  }

  async #onConnection(socket: Socket): Promise<void> {
    this.#sockets.add(socket)
    socket.on('error', () => {}).once('close', () => this.#sockets.delete(socket))
    const lines = linesOf(socket)
    const first = await lines.next()
    if (first.done === true) return
    const line = JSON.parse(first.value) as Line
    if (!('hello' in line)) return
    const puppet = new Puppet(socket, line.hello, lines)
    this.#all.push(puppet)
    this.#waiting.push(puppet)
    // Its predecessor has been killed meanwhile, and nobody else would end it.
    if (this.#isClosing) puppet.kill('SIGKILL')
    socket.write('{"welcome":true}\n')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true
    for (const child of this.#children) child.kill('SIGKILL')
    // A process that is killed may have started another that reports only now: as long as one is
    // there, so are we.
    while (this.#sockets.size > 0) {
      for (const puppet of this.#all) puppet.kill('SIGKILL')
      await Promise.race([...this.#sockets].map((socket) => new Promise((closed) => socket.once('close', closed))))
    }
    await Promise.all(this.#all.map(({ gone }) => gone))
    await Promise.all(this.#children.map((child) => child.exitCode ?? child.signalCode ?? once(child, 'exit')))
    this.#server.close()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/**
 * Ends with the process at the other end, however that ended: one that is killed with something
 * unread resets the socket, and one that is told something then breaks the pipe.
 */
async function* linesOf(socket: Socket): AsyncGenerator<string> {
  try {
    for await (const line of createInterface({ input: socket })) yield line
  } catch (error) {
    if (!['ECONNRESET', 'EPIPE'].includes(String((error as NodeJS.ErrnoException).code))) throw error
  }
}

export function fixturePath(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}.js`, import.meta.url))
}
