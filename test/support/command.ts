/**
 * The command `cook-daemon` as an operator types it, in a run directory of its own; what it started
 * does not outlive the test.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { lstatSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { Identity } from '../../src/contract/environment.ts'
import type { Status } from '../../src/control/status.ts'
import { isAlive, system } from '../../src/node/system.ts'
import { statusOf } from './control.ts'
import type { Lab } from './lab.ts'
import { eventually, within } from './waiting.ts'

/** The command itself. */
export const bin = fileURLToPath(new URL('../../bin/cook-daemon.js', import.meta.url))
const library = import.meta.resolve('cook-daemon')

export type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string }

type Options = {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** What the shell is told before it, as `ulimit -f 0`. */
  readonly before?: string
  /** The command that runs it. */
  readonly under?: readonly string[]
}

export class Operator {
  /** What a program imports. */
  readonly library = library
  readonly #lab: Lab
  readonly #started = new Map<string, Identity>()
  readonly #children: ChildProcess[] = []

  constructor(lab: Lab) {
    this.#lab = lab
  }

  /** Types a command, and waits for its end. */
  async types(args: readonly string[], options: Options = {}): Promise<Ended> {
    const child = this.begins(args, options)
    const [stdout, stderr] = [readAll(child.stdout), readAll(child.stderr)]
    const [code] = await within(`the end of cook-daemon ${args.join(' ')}`, once(child, 'close'))
    await this.#note()
    return { code, stdout: await stdout, stderr: await stderr }
  }

  /** The same, and expects that it is done. */
  async does(args: readonly string[], options: Options = {}): Promise<string> {
    const { code, stdout, stderr } = await this.types(args, options)
    if (code !== 0) throw new Error(`cook-daemon ${args.join(' ')} ended with ${code}: ${stdout}${stderr}`)
    return stdout
  }

  begins(
    args: readonly string[],
    { cwd = this.#lab.folder, env = {}, before, under = [] }: Options = {},
  ): ChildProcess {
    const command = before === undefined ? [] : ['sh', '-c', `${before}; exec "$@"`, 'sh']
    const [first = '', ...rest] = [...command, ...under, process.execPath, bin, ...args]
    const child = spawn(first, rest, {
      cwd,
      env: { ...process.env, ...this.#lab.environment(), PWD: cwd, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#children.push(child)
    return child
  }

  socket(name: string): string {
    return this.#lab.path('run', `${name}.sock`)
  }

  async status(name: string): Promise<Status> {
    const status = await statusOf(this.socket(name))
    // The keeper first: it would start again what ends before it.
    const { keeper, generations } = status
    for (const { pid, startTime } of keeper === undefined ? generations : [keeper, ...generations]) {
      this.#started.set(`${pid} ${startTime}`, [pid, startTime])
    }
    return status
  }

  /** What a daemon answers on its first listener. */
  async asks(name: string, path = '/'): Promise<string> {
    const port = portOf(await this.status(name))
    const [response] = await once(get({ port, host: '127.0.0.1', path, agent: false }), 'response')
    return text(response)
  }

  /**
   * Until the program of this name has printed `asked` as often: a connection that is counted may
   * not have said anything yet.
   */
  async untilAsked(name: string, times = 1): Promise<void> {
    const log = this.#lab.path(`run/${name}.log`)
    const count = () => readFileSync(log, 'utf8').split('asked\n').length - 1
    await eventually('the request', () => count() >= times || undefined)
  }

  async #note(): Promise<void> {
    const folder = this.#lab.path('run')
    if (!lstatSync(folder, { throwIfNoEntry: false })?.isDirectory()) return
    const names = readdirSync(folder).filter((name) => name.endsWith('.sock'))
    await Promise.all(names.map((name) => within('its status', this.status(name.slice(0, -5)), 1_000).catch(() => {})))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#note()
    for (const child of this.#children) child.kill('SIGKILL')
    const identities = [...this.#started.values()]
    for (const identity of identities) system.kill(identity, 'SIGKILL')
    await eventually('the end of what was started', () => !identities.some((one) => isAlive(one)) || undefined)
  }
}

/** That of its first listener. */
export function portOf({ listeners }: Status): number {
  return Number(/:(\d+)$/.exec(listeners[0]?.address ?? '')?.[1])
}

/**
 * Writes a program that serves with this library: what it says to a request, and what it does
 * before that.
 */
export function writeProgram(lab: Lab, file: string, answer: string, before = ''): string {
  writeFileSync(
    lab.path(file),
    `import { createServer } from 'node:http'
import { serve, createDaemon } from '${library}'
const server = createServer((request, response) => response.end(${JSON.stringify(answer)} + ' ' + process.pid))
// Clients of a machine without a core to spare pause for longer than the default.
server.keepAliveTimeout = 60_000
${before}
await serve(server, { host: '127.0.0.1', port: 0 })
console.log(${JSON.stringify(answer)} + ' serves')
`,
  )
  return lab.path(file)
}

function readAll(stream: ChildProcess['stdout']): Promise<string> {
  return stream === null ? Promise.resolve('') : text(stream)
}
