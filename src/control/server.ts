/** The control socket: HTTP on a Unix socket, answered by the process that owns the service. */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { dirname } from 'node:path'
import { controlName, type Identity, type UnixPath, withoutOwn } from '../contract/environment.ts'
import { CookError, messageOf } from '../errors.ts'
import { listening } from '../listen/listening.ts'
import { isOnePathLost, restoreUnixPath } from '../listen/restore-path.ts'
import { openUnixPath, openUnixPathNow, ownUnixPath } from '../listen/unix-path.ts'
import { type ListenerHandle, listenerHandle, stopAccepting, whereToListen } from '../node/listeners.ts'
import { fileAt } from '../node/stat.ts'
import { identify, isAlive } from '../node/system.ts'
import { userOf } from '../node/users.ts'
import { controlPath, findRunDirectory, makeRunDirectory, mayWriteIn } from '../process/run-dir.ts'
import { removeUnixFile } from '../process/unix-file.ts'
import type { Service } from '../service.ts'
import type { ControlSocket, Started } from '../service-parts.ts'
import { Callers } from './callers.ts'
import {
  demandName,
  forgetDeadOwners,
  forgetOwners,
  hasOwner,
  type Owner,
  removeOwner,
  writeOwner,
} from './owner-files.ts'
import { answer, makeServer } from './requests.ts'

/**
 * A process that is killed takes a moment to be gone, and there is no event for that; the pause is
 * in milliseconds.
 */
const reopenTries = 100
const reopenPause = 50

/**
 * How often a process looks whether its socket and its owner file are still there, in milliseconds:
 * whatever cleans up temporary folders removes files that are older than some days. Two calls of
 * lstat(2), where a watch of the folder would take one of the 128 that a user has, and a signal
 * would ask a process for something that it may not know.
 */
const lookInterval = 1_000

/**
 * Opens the control socket of a daemon with a name, or keeps the predecessor's for the commit.
 * Rejects with `ERR_COOK_RUN_DIR`, `ERR_COOK_NAME_TAKEN` and what else keeps a Unix path from being
 * opened.
 */
export async function openControl(service: Service): Promise<void> {
  const name = service.controlName
  if (name === undefined || service.control !== undefined) return
  const fault = faults.get(service)
  if (fault !== undefined) throw fault
  const folder = folderOf(service, name)
  if (folder instanceof CookError) return goWithout(service, folder)
  const control = new Control(service, name, folder)
  await control.open()
  service.control = control
}

/**
 * Where root has given it up, the folder of the predecessor's socket: a place that this user has of
 * its own is not where the service is looked for.
 */
function folderOf({ claims, state }: Service, name: string): string | CookError {
  const path = claims.pathOf(controlName)
  const isHere = path !== undefined && path === controlPath(dirname(path), name)
  return isHere && !mayWriteIn(dirname(path)) ? dirname(path) : findRunDirectory(state.environment)
}

/** Why it could not be opened when root was given up. */
const faults = new WeakMap<Service, unknown>()

/** Called while this process still is root: its socket and its owner file stay root's. */
export function beforeUser(service: Service, user: number): void {
  const name = service.controlName
  try {
    const folder = folderOf(service, name ?? '')
    // A program that the preload serves drops root when it listens, before it is up.
    if (
      service.control === undefined &&
      service.preload !== undefined &&
      name !== undefined &&
      typeof folder === 'string'
    ) {
      const control = new Control(service, name, folder)
      control.openNow()
      service.control = control
    }
    service.control?.becomes(user)
  } catch (error) {
    faults.set(service, error)
  }
}

/** A user without a place for it, as of a unit or a container, can be served all the same. */
function goWithout(service: Service, { message }: CookError): void {
  // Said once: each generation would find it so.
  if (service.generation > 1) return
  const text = `${message}. The service has no control socket: only signals reach it`
  service.emit({ type: 'warning', about: 'control', text })
}

class Control implements ControlSocket {
  readonly #service: Service
  readonly #name: string
  readonly #folder: string
  readonly #path: string
  readonly #identity = identify()
  readonly #callers = new Callers()
  /** The predecessor's socket, until the commit. */
  #inherited: (UnixPath & { readonly fd: number }) | undefined
  #server: Server
  /** That it has become, or is about to. */
  #user: number | undefined
  #looking: NodeJS.Timeout | undefined
  #isRestoring = false
  /** Why the socket could not be put back, told once; and the file that stands in its place. */
  #fault = ''
  #stranger: string | undefined

  constructor(service: Service, name: string, folder: string) {
    this.#service = service
    this.#name = name
    this.#folder = folder
    this.#path = controlPath(folder, name)
    this.#inherited = service.claims.claimUnix(controlName, this.#path)
    this.#server = this.#makeServer()
    process.once('exit', (code) => this.#atExit(code))
  }

  async open(): Promise<void> {
    if (this.#inherited !== undefined) return
    demandName(this.#folder, this.#name)
    await this.#listen()
    this.#ownAnew()
  }

  openNow(): void {
    if (this.#inherited !== undefined) return
    demandName(this.#folder, this.#name)
    openUnixPathNow(this.#service, this.#server, this.#path, { mode: 0o600 })
    this.#server.unref()
    this.#service.handles.addReserved(controlName, 'unix', this.#server)
    this.#ownAnew()
  }

  /** Behind the socket, which one of several that start at once gets. */
  #ownAnew(): void {
    try {
      forgetOwners(this.#folder, this.#name, process.pid)
      this.#own()
    } catch (error) {
      stopAccepting(this.#server)
      throw error
    }
    this.#look()
  }

  becomes(user: number): void {
    this.#user = user
    // Nothing there is for it to put back from now on.
    clearInterval(this.#looking)
    // Before the commit the predecessor writes down who we are.
    if (this.#inherited === undefined) this.#own()
  }

  async takeOver(): Promise<void> {
    const inherited = this.#inherited
    if (inherited === undefined) return
    const server = this.#server
    await listening(server, () => server.listen({ fd: inherited.fd }))
    this.#inherited = undefined
    server.unref()
    ownUnixPath(this.#service, server, inherited)
    this.#service.handles.addReserved(controlName, 'unix', server)
    this.#own()
    this.#look()
  }

  release(successor?: Started & { readonly identity: Identity }): void {
    // Not http.Server's own close, which would cut who is about to ask.
    if (this.#server.listening) stopAccepting(this.#server)
    clearInterval(this.#looking)
    if (successor === undefined) {
      if (!this.#service.hasSuccessor) removeOwner(this.#folder, this.#name, process.pid)
      return
    }
    try {
      const { identity, ...started } = successor
      // It may have ended already, and has taken its own file along.
      if (!isAlive(identity)) return
      const owner = this.#ownerOf(identity, this.#service.generation + 1, started)
      const user = userOf(identity[0])
      const isOther = user !== undefined && user !== process.geteuid?.()
      // One that has given up root cannot write it itself.
      writeOwner(this.#folder, this.#name, { ...owner, ...(isOther ? { user } : { isExpected: true }) })
    } catch {
      // The successor, whose file it is, reports the same fault.
    } finally {
      // Not in the turn of the commit.
      setImmediate(() => this.#tellLeaving())
    }
  }

  /** Who has handed over keeps nobody from starting a service of this name anew. */
  #tellLeaving(): void {
    if (!this.#service.hasSuccessor || !hasOwner(this.#folder, this.#name, process.pid)) return
    try {
      this.#own({ leaves: true })
    } catch {
      // The file that is there says that it lives, which is true.
    }
  }

  get onlyHandle(): ListenerHandle | undefined {
    return mayWriteIn(this.#folder) ? undefined : listenerHandle(this.#server)
  }

  async reopen(spare: ListenerHandle | undefined): Promise<void> {
    if (spare !== undefined && !mayWriteIn(this.#folder)) return this.#listenOn(spare)
    spare?.close()
    // The successor is lost, but may still be on its way out: until then it listens there.
    for (let left = reopenTries; ; left--) {
      try {
        this.#server = this.#makeServer()
        await this.#listen()
        this.#own()
        this.#look()
        return
      } catch (error) {
        if (left === 0 || (error as CookError).code !== 'ERR_COOK_NAME_TAKEN') throw error
      }
      await new Promise((done) => setTimeout(done, reopenPause))
    }
  }

  /** From now on this process puts back what somebody removes. */
  #look(): void {
    clearInterval(this.#looking)
    if (!mayWriteIn(this.#folder)) return
    this.#looking = setInterval(() => void this.#putBack(), lookInterval).unref()
  }

  /** Not in an upgrade: the new process has the socket, and puts it back when it is its own. */
  async #putBack(): Promise<void> {
    const service = this.#service
    const isHere = () => !isOnePathLost(service, this.#server, true) && hasOwner(this.#folder, this.#name, process.pid)
    if (this.#isRestoring || !service.ownsNames || service.upgrading !== undefined || isHere()) return
    this.#isRestoring = true
    try {
      makeRunDirectory(this.#folder)
      this.#own()
      const found = fileAt(this.#path)?.id
      if (found !== undefined && found === this.#stranger) return
      this.#stranger = found
      await restoreUnixPath(service, this.#server, true).catch((cause) => this.#throwTaken(cause))
      this.#fault = ''
      this.#stranger = undefined
    } catch (error) {
      const fault = messageOf(error)
      if (fault !== this.#fault) service.hookFailed('control', error)
      this.#fault = fault
    } finally {
      this.#isRestoring = false
    }
  }

  /**
   * A process that has ended owns nothing. One that is killed or crashes leaves its owner file,
   * from which a restart knows what to start.
   */
  #atExit(code: number): void {
    const service = this.#service
    try {
      if (code === 0 || !service.isServing) {
        removeOwner(this.#folder, this.#name, process.pid)
        // Nor does one that was killed while it drained.
        if (!service.hasSuccessor) forgetDeadOwners(this.#folder, this.#name)
      }
    } catch {
      // The folder is not ours any more: the file is one of a dead process, and counts for nothing.
    }
    // Nothing closes the server of a program that ends by itself.
    const own = service.handles.paths.get(this.#server)
    if (own !== undefined && !service.hasSuccessor && this.#server.listening) removeUnixFile(own)
  }

  /** On the same socket: what has its name is root's, and stays there. */
  async #listenOn(spare: ListenerHandle): Promise<void> {
    const { handles } = this.#service
    const own = handles.paths.get(this.#server)
    const server = this.#makeServer()
    this.#server = server
    await listening(server, () => server.listen(whereToListen(spare)))
    server.unref()
    if (own !== undefined) ownUnixPath(this.#service, server, own)
    handles.addReserved(controlName, 'unix', server)
  }

  get idle(): Promise<void> {
    return this.#callers.idle
  }

  #makeServer(): Server {
    const server = makeServer((request, response) => {
      this.#callers.hear(request)
      void answer(this.#service, request, response)
    })
    server.on('connection', (socket: Socket) => this.#callers.add(socket))
    // It is there for the service, not the other way round.
    server.unref()
    return server
  }

  async #listen(): Promise<void> {
    const server = this.#server
    await openUnixPath(this.#service, server, this.#path, { mode: 0o600 }).catch((cause) => this.#throwTaken(cause))
    server.unref()
    this.#service.handles.addReserved(controlName, 'unix', server)
  }

  #throwTaken(cause: unknown): never {
    if (!(cause instanceof CookError) || cause.code !== 'ERR_COOK_PATH_IN_USE') throw cause
    const why = `at ${this.#path}, ${(cause as CookError<'ERR_COOK_PATH_IN_USE'>).values.why}`
    throw new CookError('ERR_COOK_NAME_TAKEN', { name: this.#name, why }, { cause })
  }

  #own(leaving: Pick<Owner, 'leaves'> = {}): void {
    forgetDeadOwners(this.#folder, this.#name)
    const { generation, state } = this.#service
    const user = this.#user
    const owner = this.#ownerOf(this.#identity, generation, state)
    writeOwner(this.#folder, this.#name, { ...owner, ...(user !== undefined && { user }), ...leaving })
  }

  #ownerOf([pid, startTime]: Identity, generation: number, { command, program, environment }: Started): Owner {
    const { drainTimeout } = this.#service
    const own = withoutOwn(environment)
    const { logFile } = this.#service.state
    const known = {
      ...(program && { program }),
      ...(logFile !== undefined && logFile !== program?.logFile && { logFile }),
    }
    return { pid, startTime, generation, drainTimeout, command, environment: own, ...known }
  }
}
