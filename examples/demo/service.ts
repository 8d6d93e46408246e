/**
 * The service of the demo as its operator has it: releases in a folder, a link to the current one,
 * and the processes that it becomes.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { system } from '../../src/node/system.ts'
import type { Told } from './server.ts'

export type Line = Told & { readonly by: number; readonly version: string }

const serverModule = new URL('server.js', import.meta.url).href

export class Service {
  /** The process that serves. */
  pid = 0
  port = 0
  /** The last of its processes has ended. */
  isOver = false
  readonly #folder = mkdtempSync(join(tmpdir(), 'cook-daemon-demo-'))
  readonly #processes = new Map<number, string>()
  #running: Promise<void> | undefined
  #isEnding = false

  /** A release is a file, and `current.mjs` leads to the newest. */
  deploy(version: string, isBroken = false): void {
    const prices = `import { readFileSync } from 'node:fs'\nreadFileSync('${version}-prices.json')\n`
    const serve = `import { start } from '${serverModule}'\nawait start('${version}')\n`
    writeFileSync(join(this.#folder, `${version}.mjs`), `${isBroken ? prices : ''}${serve}`)
    symlinkSync(`${version}.mjs`, join(this.#folder, 'next'))
    renameSync(join(this.#folder, 'next'), join(this.#folder, 'current.mjs'))
  }

  /** Resolves when the last of its processes has ended. */
  run(onLine: (line: Line) => void): Promise<void> {
    this.#running = this.#run(onLine)
    return this.#running
  }

  /** Sends a signal to the process that serves. */
  signal(name: NodeJS.Signals): void {
    system.kill([this.pid, this.#processes.get(this.pid) ?? ''], name)
  }

  /** What its processes wrote to stderr. */
  get log(): string {
    return readFileSync(join(this.#folder, 'log'), 'utf8')
  }

  /** However far it came: leaves no process and no file. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isEnding = true
    for (const pid of this.#processes.keys()) this.#kill(pid)
    await this.#running
    rmSync(this.#folder, { recursive: true })
  }

  async #run(onLine: (line: Line) => void): Promise<void> {
    const log = openSync(join(this.#folder, 'log'), 'a')
    // In a process group of its own: ^C is for the demo, which then ends the service.
    const child = spawn(process.execPath, ['current.mjs'], {
      cwd: this.#folder,
      detached: true,
      stdio: ['ignore', 'pipe', log],
    })
    closeSync(log)
    const exited = once(child, 'exit')
    if (child.pid !== undefined) this.#know(child.pid)
    // All generations write to the one pipe, which ends with the last of them.
    for await (const text of createInterface({ input: child.stdout as Readable })) {
      const line = JSON.parse(text) as Line
      this.#know(line.by)
      if (line.type === 'serving') {
        this.pid = line.by
        this.port = line.port
      }
      onLine(line)
    }
    await exited
    this.isOver = true
  }

  #know(pid: number): void {
    if (this.#processes.has(pid)) return
    this.#processes.set(pid, system.startTime(pid) ?? '')
    // A version that was about to come up when its predecessor was killed.
    if (this.#isEnding) this.#kill(pid)
  }

  #kill(pid: number): void {
    system.kill([pid, this.#processes.get(pid) ?? ''], 'SIGKILL')
  }
}
