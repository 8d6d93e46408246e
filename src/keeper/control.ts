/** The control socket of a service that is kept: the keeper answers, or has its worker answer. */
import { chmodSync } from 'node:fs'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { isCount, workerName } from '../contract/environment.ts'
import { removeLeftovers } from '../control/leftovers.ts'
import { metricsText } from '../control/metrics.ts'
import { demandName, forgetOwners, hasOwner, removeOwner, workerNames, writeOwner } from '../control/owner-files.ts'
import { makeServer, objectIn, readBody, send, sendFailure, stream, upgradeOptions } from '../control/requests.ts'
import { CookError, messageOf } from '../errors.ts'
import { clearDead } from '../listen/dead-path.ts'
import { listening } from '../listen/listening.ts'
import { attempt } from '../node/sessions.ts'
import { fileAt, removeFile } from '../node/stat.ts'
import { identify } from '../node/system.ts'
import { userOf } from '../node/users.ts'
import { nextCommand, typedOf } from '../process/command.ts'
import { controlPath, makeRunDirectory } from '../process/run-dir.ts'
import type { Keeper } from './keeper.ts'
import { say } from './log-lines.ts'
import type { Place } from './place.ts'
import { type KeepOptions, mostWorkers, readKeepOptions } from './plan.ts'
import { releaseOf, typedCommand } from './release.ts'
import { Scale } from './scale.ts'
import { isTrusted } from './spawns.ts'
import type { KeeperStatus } from './status.ts'
import { changesOf, Upgrades } from './upgrades.ts'

/** How often it is looked whether the socket is still there, in milliseconds. */
const lookInterval = 1_000

export class KeeperControl {
  readonly #keeper: Keeper
  readonly #folder: string
  readonly #name: string
  readonly #path: string
  #server: Server
  #file: string | undefined
  #looking: NodeJS.Timeout | undefined
  readonly #status: KeeperStatus
  readonly #upgrades: Upgrades
  readonly #scale: Scale

  constructor(keeper: Keeper, folder: string, status: KeeperStatus) {
    this.#keeper = keeper
    this.#folder = folder
    this.#name = keeper.plan.name
    this.#path = controlPath(folder, this.#name)
    this.#server = this.#makeServer()
    this.#status = status
    this.#upgrades = new Upgrades(keeper)
    this.#scale = new Scale(keeper)
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
    this.#keeper.hearing.add({ changed() {}, returned: (place) => this.#ownWorker(place) })
    // One that was killed could not take its file along, in which its environment is.
    this.#keeper.onGone = ({ number }, { identity: [pid] }) =>
      removeOwner(this.#folder, workerName(this.#name, number), pid)
    this.#looking = setInterval(() => void this.#putBack(), lookInterval).unref()
  }

  close(): void {
    clearInterval(this.#looking)
    this.#server.close()
    if (this.#file !== undefined && fileAt(this.#path)?.id === this.#file) removeFile(this.#path)
    removeOwner(this.#folder, this.#name, process.pid)
    for (const worker of workerNames(this.#folder, this.#name)) void removeLeftovers(this.#folder, worker)
  }

  /** Who the keeper is, for those whom it does not answer. */
  #own(): void {
    const [pid, startTime] = identify()
    const { plan, release, said, first } = this.#keeper
    const { drainTimeout } = said
    const { program } = plan
    const command = typedCommand(release)
    const generation = first?.serving?.generation ?? 1
    writeOwner(this.#folder, this.#name, { pid, startTime, generation, drainTimeout, command, program })
  }

  /** One that never was root cannot write it itself, and is found by it should the keeper die. */
  #ownWorker({ number: slot, serving }: Place): void {
    if (serving === undefined) return
    const { identity, generation, release } = serving
    const [pid, startTime] = identity
    const user = userOf(pid)
    const name = workerName(this.#name, slot)
    if (user === undefined || user === process.geteuid?.() || hasOwner(this.#folder, name, pid)) return
    const { drainTimeout } = this.#keeper.said
    const owner = { pid, startTime, generation, drainTimeout, command: release.command, user }
    // On a full disk it serves all the same.
    attempt(() => writeOwner(this.#folder, name, owner))
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
      say(`the control socket could not be restored: ${messageOf(error)}`)
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
        send(response, 'application/json', `${JSON.stringify(await this.#status.status(), undefined, 2)}\n`)
        return
      case 'GET /metrics':
        send(response, 'text/plain; version=0.0.4; charset=utf-8', metricsText(await this.#status.status()))
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
      case 'POST /scale':
        await this.#changeNumber(await readBody(request), response)
        return
      case 'POST /keeper':
        await this.#renew(await readBody(request), response)
        return
      default:
        sendFailure(response, new CookError('ERR_COOK_CONTROL', { why: `${asked} does not exist` }), 404)
    }
  }

  /** What the workers say of it, passed on word by word. */
  async #upgrade(body: string, response: ServerResponse): Promise<void> {
    const { keep: told, isRolling = false, ...asked } = objectIn(body)
    const keep = keepOf(told)
    const options = upgradeOptions(asked)
    const { pidFile } = options.program ?? {}
    if (pidFile !== undefined) this.#keeper.pidFile.check(pidFile)
    await this.#status.demandServing()
    await stream(response, async (onProgress) => {
      await this.#upgrades.upgrade(options, { isRolling: isRolling === true, keep }, onProgress)
      const { warning } = this.#keeper.pidFile
      if (warning !== undefined) onProgress({ type: 'warning', ms: 0, ...warning })
    })
  }

  async #changeNumber(body: string, response: ServerResponse): Promise<void> {
    const { workers } = objectIn(body)
    if (!isCount(workers) || workers < 1 || workers > mostWorkers) {
      throw new CookError('ERR_COOK_CONTROL', { why: `workers must be a whole number from 1 to ${mostWorkers}` })
    }
    const scaled = await this.#upgrades.alone(() => this.#scale.scale(workers))
    send(response, 'application/json', `${JSON.stringify(scaled)}\n`)
  }

  async #restart(body: string, response: ServerResponse): Promise<void> {
    const { keep: told, killAfter, ...options } = objectIn(body)
    const { env, program, retyped } = changesOf(upgradeOptions(options))
    const keep = keepOf(told)
    const command = nextCommand(typedCommand(this.#keeper.release), retyped)
    const environment = this.#keeper.environmentFor(env, program)
    const failed = await this.#keeper.restart(
      releaseOf(command, typedOf(command), environment),
      killAfter as number | undefined,
    )
    if (failed !== undefined) throw failed
    this.#keeper.keepBy(keep)
    send(response, 'application/json', `${JSON.stringify(await this.#status.status())}\n`)
  }

  async #stop(response: ServerResponse): Promise<void> {
    const { said, workers } = this.#keeper
    const { drainTimeout } = said
    // As the keeper knows them: a worker may have given up root, and root kills what is named here.
    const generations = workers.map(({ identity: [pid, startTime], generation }) => {
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
      const why = 'this keeper runs in the foreground, and its end would look like the end of the service'
      throw new CookError('ERR_COOK_CONTROL', { why })
    }
    const serving = this.#keeper.first?.serving
    if (serving === undefined)
      throw new CookError('ERR_COOK_NO_WORKER', { name: this.#name, state: this.#keeper.state })
    if (typeof execPath !== 'string' || typeof file !== 'string')
      throw new CookError('ERR_COOK_CONTROL', { why: 'execPath and file are missing' })
    if (!isTrusted(serving)) {
      const why = 'its worker has given up root and cannot start a keeper as root: stop the service, then start it'
      throw new CookError('ERR_COOK_CONTROL', { why })
    }
    // One that is blocked, or is being replaced, would start no other.
    await this.#status.demandServing()
    if (this.#keeper.all.some(({ workers }) => workers.size !== 1))
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

/** Throws `ERR_COOK_CONTROL`. */
function keepOf(told: unknown): KeepOptions {
  const keep = readKeepOptions(told)
  if (keep === undefined) throw new CookError('ERR_COOK_CONTROL', { why: 'keep is invalid' })
  return keep
}
