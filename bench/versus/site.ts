/**
 * The place in which one system runs once: a folder, a port, the version on disk, and everything
 * that was started there.
 */

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findMarked, removeLeftovers } from '../../scripts/leftovers.ts'
import type { Identity } from '../../src/contract/environment.ts'
import { system } from '../../src/node/system.ts'
import { freePort } from '../../test/support/free-port.ts'
import { eventually, within } from '../../test/support/waiting.ts'

const open = new Set<Site>()
/** Milliseconds for a command of any system, on a machine that has much else to do. */
const patience = 120_000
/**
 * Milliseconds for one answer, before another one is asked for: a primary may have passed the
 * connection on to a worker that was dead by then, and nobody ever closes it.
 */
const answerPatience = 2_000
let areOver = false

/** Whether the bench is interrupted: nothing is started any more. */
export function sitesAreOver(): boolean {
  return areOver
}

/** Ends everything, for a bench that is interrupted. */
export async function endAllSites(): Promise<void> {
  areOver = true
  await Promise.all([...open].map((site) => site[Symbol.asyncDispose]()))
}

export function programPath(name: string): string {
  return fileURLToPath(new URL(`../programs/versus/${name}.js`, import.meta.url))
}

export class Site implements AsyncDisposable {
  readonly folder: string
  readonly port: number
  readonly env: NodeJS.ProcessEnv
  #isOver = false

  private constructor(folder: string, port: number) {
    this.folder = folder
    this.port = port
    // By the folder's name, which is in the environment of all, everything is found and ended.
    this.env = {
      ...process.env,
      BENCH_VERSION: this.path('version'),
      BENCH_STARTED: this.path('started'),
      COOK_DAEMON_HOME: this.path('run'),
      PM2_HOME: this.path('pm2'),
      // Nothing here talks to anybody but this machine.
      PM2_DISABLE_VERSION_CHECK: '1',
      PM2_DISCRETE_MODE: '1',
      PORT: String(port),
      PWD: folder,
    }
  }

  static async open(): Promise<Site> {
    if (areOver) throw new Error('the bench is over')
    const site = new Site(mkdtempSync(join(realpathSync(tmpdir()), 'cook-daemon-bench-')), await freePort())
    open.add(site)
    return site
  }

  path(...names: readonly string[]): string {
    return join(this.folder, ...names)
  }

  /** Puts a version on disk. */
  deploy(version: string): void {
    writeFileSync(this.path('version'), version)
  }

  /** Starts something that stays; what it writes goes to the log. */
  spawn(
    command: string,
    args: readonly string[],
    env: Readonly<Record<string, string>> = {},
    channel: 'ignore' | 'ipc' = 'ignore',
  ): ChildProcess {
    if (this.#isOver) throw new Error('the bench is over')
    const log = openSync(this.path('log'), 'a')
    const child = spawn(command, args, {
      cwd: this.folder,
      env: { ...this.env, ...env },
      stdio: ['ignore', log, log, channel],
    })
    closeSync(log)
    child.on('error', () => {
      // A command that is not there: whoever waits for it says so.
    })
    return child
  }

  /** A Node program that reports over a channel. */
  spawnWithChannel(file: string, args: readonly string[]): ChildProcess {
    if (this.#isOver) throw new Error('the bench is over')
    return spawn(process.execPath, [file, ...args], {
      cwd: this.folder,
      env: this.env,
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
  }

  /** Runs a command to its end, as an operator types it. */
  async run(command: string, args: readonly string[]): Promise<void> {
    const code = await this.exitCode(command, args)
    if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${this.log()}`)
  }

  /** The same of a command that may fail. */
  async exitCode(command: string, args: readonly string[]): Promise<number | null> {
    const ended = once(this.spawn(command, args), 'exit')
    const [code] = await within(`the end of ${command} ${args.join(' ')}`, ended, patience)
    return code as number | null
  }

  /** Who answers now: the process of the service, also behind a proxy. */
  async serving(port = this.port): Promise<{ readonly version: string; readonly identity: Identity }> {
    return eventually(`an answer of the service (log: ${this.log()})`, async () => {
      const answer = await ask(port)
      const startTime = answer && system.startTime(answer.pid)
      return answer && startTime !== undefined
        ? { version: answer.version, identity: [answer.pid, startTime] }
        : undefined
    })
  }

  /** The living processes of the service that run this version. */
  running(version: string): Identity[] {
    const lines = readFileSync(this.path('started'), 'utf8').split('\n')
    return lines.flatMap((line): Identity[] => {
      const [started, pid] = line.split(' ')
      const startTime = started === version ? system.startTime(Number(pid)) : undefined
      return startTime === undefined ? [] : [[Number(pid), startTime]]
    })
  }

  log(): string {
    try {
      return readFileSync(this.path('log'), 'utf8').slice(-2_000)
    } catch {
      // Nothing has been written yet.
      return ''
    }
  }

  /** Every process that was started here and has not ended, but for the clients. */
  processes(clients?: ChildProcess): number[] {
    return findMarked(basename(this.folder)).flatMap(({ pid }) => (pid === clients?.pid ? [] : [pid]))
  }

  /** Also ends what the system has left, and says that it has. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true
    if (!open.delete(this)) return
    const left = await removeLeftovers(basename(this.folder), this.folder)
    for (const what of left) if (/^(process|zombie) /.test(what)) console.log(`  ended: ${what}`)
  }
}

function ask(port: number): Promise<{ readonly version: string; readonly pid: number } | undefined> {
  return new Promise((answered) => {
    const asked = get({ host: '127.0.0.1', port, path: '/load?id=0&size=1&place=0', agent: false }, (response) => {
      const { 'x-generation': version, 'x-pid': pid } = response.headers
      response.resume()
      answered(response.statusCode === 200 ? { version: String(version), pid: Number(pid) } : undefined)
    })
    asked.setTimeout(answerPatience, () => asked.destroy())
    asked.on('error', () => answered(undefined))
  })
}
