/**
 * The service of the demo as its operator has it: releases in a folder, a link to the current one,
 * and the command line.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, realpathSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { clientOf } from '../../src/control/client.ts'
import type { Status } from '../../src/control/status.ts'
import { system } from '../../src/node/system.ts'

const command = fileURLToPath(new URL('../../bin/cook-daemon.js', import.meta.url))
const serverModule = new URL('server.js', import.meta.url).href
export const serviceName = 'shop'

export class Service {
  readonly #folder = mkdtempSync(join(realpathSync(tmpdir()), 'cook-daemon-demo-'))
  readonly #client = clientOf(join(this.#folder, 'run'), serviceName)
  /** The command that runs, and all before it. */
  #typing: Promise<unknown> = Promise.resolve()

  /** A release is a file, and `current.mjs` leads to the newest. */
  deploy(version: string, isBroken = false): void {
    const prices = `import { readFileSync } from 'node:fs'\nreadFileSync('${version}-prices.json')\n`
    const serve = `import { start } from '${serverModule}'\nawait start('${version}')\n`
    writeFileSync(join(this.#folder, `${version}.mjs`), `${isBroken ? prices : ''}${serve}`)
    symlinkSync(`${version}.mjs`, join(this.#folder, 'next'))
    renameSync(join(this.#folder, 'next'), join(this.#folder, 'current.mjs'))
  }

  /** Types a command; each line of its output is told as it comes. Resolves with its exit code. */
  types(args: readonly string[], onLine: (line: string) => void): Promise<number | null> {
    const typing = this.#typing.then(() => this.#run(args, onLine))
    this.#typing = typing.catch(() => {})
    return typing
  }

  status(): Promise<Status> {
    return this.#client.status()
  }

  /** What nobody types on purpose. */
  kill(pid: number): void {
    const startTime = system.startTime(pid)
    if (startTime !== undefined) system.kill([pid, startTime], 'SIGKILL')
  }

  /** However far it came: leaves no process and no file. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.types(['stop', serviceName, '--kill-after', '5000'], () => {})
    rmSync(this.#folder, { recursive: true })
  }

  async #run(args: readonly string[], onLine: (line: string) => void): Promise<number | null> {
    // In a process group of its own: ^C is for the demo, which then stops the service.
    const child = spawn(process.execPath, [command, ...args], {
      cwd: this.#folder,
      env: { ...process.env, COOK_DAEMON_HOME: join(this.#folder, 'run'), PWD: this.#folder, NO_COLOR: '1' },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const input of [child.stdout, child.stderr]) {
      createInterface({ input }).on('line', (line) => onLine(line.replaceAll(`${this.#folder}/`, '')))
    }
    const [code] = (await once(child, 'close')) as [number | null]
    return code
  }
}
