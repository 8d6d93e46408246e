/** The control socket of a service that is kept: the keeper answers, or has its worker answer. */
import { chmodSync } from 'node:fs'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { checkProgram } from '../check.ts'
import { type ProgramRecord, workerName } from '../contract/environment.ts'
import { type Client, clientOf } from '../control/client.ts'
import { removeLeftovers } from '../control/leftovers.ts'
import { metricsText } from '../control/metrics.ts'
import { demandName, forgetOwners, hasOwner, removeOwner, writeOwner } from '../control/owner-files.ts'
import { makeServer, objectIn, readBody, send, sendFailure, stream } from '../control/requests.ts'
import type { Status, WorkerStatus } from '../control/status.ts'
import { CookError, messageOf } from '../errors.ts'
import { clearDead } from '../listen/dead-path.ts'
import { listening } from '../listen/listening.ts'
import { fileAt, removeFile } from '../node/stat.ts'
import { identify } from '../node/system.ts'
import { nextCommand, type Retyped, typedOf } from '../process/command.ts'
import { controlPath, makeRunDirectory } from '../process/run-dir.ts'
import { version } from '../version.ts'
import type { Keeper } from './keeper.ts'
import { say } from './log-lines.ts'
import { type KeepOptions, readKeepOptions } from './plan.ts'
import { releaseOf, typedCommand } from './release.ts'
import type { Changes } from './spawns.ts'

/** How often it is looked whether the socket is still there, in milliseconds. */
const lookInterval = 1_000

/** How long a worker may take to answer, in milliseconds: less than whoever asks us waits. */
const workerPatience = 2_000

type Kept = Pick<Status, 'keeper' | 'workers' | 'pidFile' | 'release' | 'command' | 'program'>

export class KeeperControl {
  readonly #keeper: Keeper
  readonly #folder: string
  readonly #name: string
  readonly #path: string
  #server: Server
  #file: string | undefined
  #looking: NodeJS.Timeout | undefined
  /** What the worker said of itself last. */
  #last: Status | undefined

  constructor(keeper: Keeper, folder: string) {
    this.#keeper = keeper
    this.#folder = folder
    this.#name = keeper.plan.name
    this.#path = controlPath(folder, this.#name)
    this.#server = this.#makeServer()
  }

  /** Rejects with `ERR_COOK_NAME_TAKEN` if somebody else has the name. */
  async open(): Promise<void> {
    demandName(this.#folder, this.#name)
    await this.#listen()
    try {
      forgetOwners(this.#folder, this.#name, process.pid)
      this.#own()
    } catch (error) {
      this.close()
      throw error
    }
    // One that was killed could not take its file along, in which its environment is.
    this.#keeper.onGone = ({ identity: [pid] }) => removeOwner(this.#folder, workerName(this.#name, 0), pid)
    this.#looking = setInterval(() => void this.#putBack(), lookInterval).unref()
  }

  close(): void {
    clearInterval(this.#looking)
    this.#server.close()
    if (this.#file !== undefined && fileAt(this.#path)?.id === this.#file) removeFile(this.#path)
    removeOwner(this.#folder, this.#name, process.pid)
    void removeLeftovers(this.#folder, workerName(this.#name, 0))
  }

  /** Who the keeper is, for those whom it does not answer. */
  #own(): void {
    const [pid, startTime] = identify()
    const { plan, release, drainTimeout, serving } = this.#keeper
    const { program } = plan
    const command = typedCommand(release)
    const generation = serving?.generation ?? 1
    writeOwner(this.#folder, this.#name, { pid, startTime, generation, drainTimeout, command, program })
  }

  async #listen(): Promise<void> {
    try {
      await clearDead(this.#path)
      await listening(this.#server, () => this.#server.listen(this.#path))
    } catch (cause) {
      const why = `at ${this.#path}: ${messageOf(cause)}`
      throw new CookError('ERR_COOK_NAME_TAKEN', { name: this.#name, why }, { cause })
    }
    chmodSync(this.#path, 0o600)
    this.#file = fileAt(this.#path)?.id
  }

  async #putBack(): Promise<void> {
    try {
      if (!hasOwner(this.#folder, this.#name, process.pid)) {
        makeRunDirectory(this.#folder)
        this.#own()
        this.#keeper.recorder.write()
      }
      if (fileAt(this.#path) !== undefined) return
      this.#server.close()
      this.#server = this.#makeServer()
      await this.#listen()
    } catch (error) {
      say(`its control socket could not be put back: ${messageOf(error)}`)
    }
  }

  #makeServer(): Server {
    return makeServer((request, response) => void this.#answer(request, response))
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    response.on('error', () => {})
    try {
      await this.#route(request, response)
    } catch (error) {
      sendFailure(response, error)
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const asked = `${request.method} ${request.url}`
    switch (asked) {
      case 'GET /status':
        send(response, 'application/json', `${JSON.stringify(await this.status(), undefined, 2)}\n`)
        return
      case 'GET /metrics':
        send(response, 'text/plain; version=0.0.4; charset=utf-8', metricsText(await this.status()))
        return
      case 'POST /upgrade':
        await this.#upgrade(await readBody(request), response)
        return
      case 'POST /restart':
        await this.#restart(await readBody(request), response)
        return
      case 'POST /stop':
        await readBody(request)
        await this.#stop(response)
        return
      case 'POST /keeper':
        await this.#renew(await readBody(request), response)
        return
      default:
        sendFailure(response, new CookError('ERR_COOK_CONTROL', { why: `${asked} does not exist` }), 404)
    }
  }

  get #worker(): Client {
    return clientOf(this.#folder, workerName(this.#name, 0), workerPatience)
  }

  async status(): Promise<Status> {
    const { serving } = this.#keeper
    let fault: Error | undefined
    const found =
      serving === undefined
        ? undefined
        : await this.#ask(() => this.#worker.status()).catch((error) => {
            // One that has just been started, or is ending, has no socket of its own for a moment.
            fault = (error as CookError).code === 'ERR_COOK_STANDS_STILL' ? error : undefined
            return undefined
          })
    if (found !== undefined) {
      this.#last = found
      const { upgrades, lastUpgrade } = found
      this.#keeper.news = { generations: [], upgrades, ...(lastUpgrade && { last: lastUpgrade }) }
    }
    const told = found ?? this.#without(fault)
    const { warning } = this.#keeper.pidFile
    const { wentBack } = this.#keeper
    const own = [warning, wentBack].filter((one) => one !== undefined)
    const warnings = [...(told.warnings ?? []), ...own]
    return { ...told, ...this.#kept(found, fault), warnings }
  }

  /** A worker that does not respond is told by the name of the service. */
  async #ask<Answer>(ask: () => Promise<Answer>): Promise<Answer> {
    try {
      return await ask()
    } catch (error) {
      if (!(error instanceof CookError) || error.code !== 'ERR_COOK_STANDS_STILL') throw error
      const { who } = (error as CookError<'ERR_COOK_STANDS_STILL'>).values
      throw new CookError('ERR_COOK_STANDS_STILL', { name: this.#name, who })
    }
  }

  /** Of a service whose worker does not answer, or is none. */
  #without(fault: Error | undefined): Status {
    const { release, plan, lastExit, drainTimeout, serving, news, generation } = this.#keeper
    // Whoever signals the pid of a service means its keeper then; a 0 would mean themselves.
    const [pid, startTime] = serving?.identity ?? identify()
    const { upgrades, last } = news
    return {
      ...{ name: this.#name, version, node: this.#last?.node ?? process.version, pid, startTime },
      ...{ generation, phase: serving === undefined ? 'gone' : 'ready' },
      ...{ startedAt: this.#last?.startedAt ?? new Date(lastExit?.at ?? Date.now()).toISOString(), uptime: 0 },
      ...{ memory: { resident: 0, heapUsed: 0 }, connections: 0, listeners: this.#last?.listeners ?? [] },
      ...{ upgrades, ...(last && { lastUpgrade: last }), generations: [], drainTimeout },
      command: typedCommand(release),
      ...(plan.program.logFile !== undefined && { logFile: plan.program.logFile }),
      ...(fault && { warnings: [{ at: Date.now(), about: 'worker', text: fault.message }] }),
    }
  }

  /** What the keeper knows, and a worker that has given up root is not believed. */
  #kept(found: Status | undefined, fault: Error | undefined): Kept {
    const { restarts, lastExit, state, serving, startedAt, pidFile, release, generation, plan } = this.#keeper
    const [pid, startTime] = identify()
    const worker: WorkerStatus = {
      ...{ slot: 0, state: fault === undefined ? state : 'silent', generation: serving?.generation ?? generation },
      ...(serving && { pid: serving.identity[0] }),
      ...{ phase: found?.phase ?? 'gone', connections: found?.connections ?? 0, restarts },
      ...(lastExit && { lastExit }),
    }
    const { execPath, cwd, args } = release.command
    const memory = process.memoryUsage.rss()
    return {
      keeper: { pid, startTime, startedAt: new Date(startedAt).toISOString(), memory, node: process.version, version },
      workers: [worker],
      command: typedCommand(release),
      program: plan.program,
      release: { script: args[0] ?? '', cwd, execPath },
      ...(pidFile.file !== undefined && { pidFile: pidFile.file }),
    }
  }

  /** What the worker says of it, passed on word by word. */
  async #upgrade(body: string, response: ServerResponse): Promise<void> {
    const { keep: told, ...options } = objectIn(body)
    const keep = keepOf(told)
    const asked = changesOf(options)
    const { pidFile } = asked.program
    if (pidFile !== undefined) this.#keeper.pidFile.check(pidFile)
    if (this.#keeper.serving === undefined) {
      const { state } = this.#keeper
      throw new CookError('ERR_COOK_NO_WORKER', { name: this.#name, state })
    }
    // One whose event loop is blocked would never begin.
    await this.#ask(() => this.#worker.status())
    this.#keeper.asked = asked
    await stream(response, async (onProgress) => {
      let ms = 0
      for await (const progress of this.#worker.progress('upgrade', options)) {
        onProgress(progress)
        if ('ms' in progress) ({ ms } = progress)
        if (progress.type === 'serves') this.#keeper.keepBy(keep)
      }
      const { warning } = this.#keeper.pidFile
      if (warning !== undefined) onProgress({ type: 'warning', ms, ...warning })
    }).finally(() => {
      this.#keeper.asked = undefined
    })
  }

  async #restart(body: string, response: ServerResponse): Promise<void> {
    const { keep: told, killAfter, ...options } = objectIn(body)
    const { env, program, retyped } = changesOf(options)
    const keep = keepOf(told)
    const command = nextCommand(typedCommand(this.#keeper.release), retyped)
    const environment = this.#keeper.environmentFor(env, program)
    const failed = await this.#keeper.restart(
      releaseOf(command, typedOf(command), environment),
      killAfter as number | undefined,
    )
    if (failed !== undefined) throw failed
    this.#keeper.keepBy(keep)
    send(response, 'application/json', `${JSON.stringify(await this.status())}\n`)
  }

  async #stop(response: ServerResponse): Promise<void> {
    const { drainTimeout, workers } = this.#keeper
    // As the keeper knows them: a worker may have given up root, and root kills what is named here.
    const generations = [...workers.values()].map(({ identity: [pid, startTime], generation }) => {
      return { generation, pid, startTime, phase: 'ready', connections: 0, memory: 0 }
    })
    await stream(response, async (onProgress) => {
      onProgress({ type: 'stopping', ms: 0, drainTimeout, generations, keeper: identify() })
      this.#keeper.stop('request')
      await this.#keeper.ended.promise
    })
  }

  /** The worker starts the next keeper, as if this one had died: it is told with what. */
  async #renew(body: string, response: ServerResponse): Promise<void> {
    const { execPath, file } = objectIn(body)
    if (this.#keeper.plan.options.isRun === true) {
      const why =
        'this keeper is in the foreground, and whoever waits for it would take its end for that of the service'
      throw new CookError('ERR_COOK_CONTROL', { why })
    }
    const { serving } = this.#keeper
    if (serving === undefined)
      throw new CookError('ERR_COOK_NO_WORKER', { name: this.#name, state: this.#keeper.state })
    if (typeof execPath !== 'string' || typeof file !== 'string')
      throw new CookError('ERR_COOK_CONTROL', { why: 'execPath and file are missing' })
    // One that is blocked, or is being replaced, would start no other.
    await this.#ask(() => this.#worker.status())
    if (this.#keeper.workers.size !== 1)
      throw new CookError('ERR_COOK_NO_WORKER', { name: this.#name, state: 'upgrading' })
    send(response, 'application/json', '{}\n')
    this.#keeper.recorder.write()
    response.once('close', () => {
      // Somebody must keep the service: not the next one, if the worker has died meanwhile.
      if (!serving.station.isOpen || serving.exited !== undefined) return
      this.close()
      serving.station.send({ type: 'renew', execPath, file }, undefined, () => process.exit(0))
    })
  }
}

function changesOf(options: Asked): Changes {
  const { env, program = {}, execPath, execArgv, args, cwd } = options
  checkProgram(program)
  return { retyped: { execPath, execArgv, args, cwd }, env, program }
}

/** Throws `ERR_COOK_CONTROL`. */
function keepOf(told: unknown): KeepOptions {
  const keep = readKeepOptions(told)
  if (keep === undefined) throw new CookError('ERR_COOK_CONTROL', { why: 'keep is invalid' })
  return keep
}

type Asked = Retyped & { readonly env?: Record<string, string>; readonly program?: ProgramRecord }
