/** The control socket: HTTP on a Unix socket, answered by the process that owns the service. */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { dirname } from 'node:path'
import { controlName, type Identity, type UnixPath, withoutOwn } from '../contract/environment.ts'
import { CookError } from '../errors.ts'
import { listening } from '../listen/listening.ts'
import { openUnixPath, openUnixPathNow, ownUnixPath } from '../listen/unix-path.ts'
import { stopAccepting } from '../node/listeners.ts'
import { identify } from '../node/system.ts'
import { userOf } from '../node/users.ts'
import { controlPath, findRunDirectory, mayWriteIn } from '../process/run-dir.ts'
import type { Service } from '../service.ts'
import type { ControlSocket, Started } from '../service-parts.ts'
import { forgetDeadOwners, forgetOwners, livingOwners, type Owner, removeOwner, writeOwner } from './owner-files.ts'
import { answer } from './requests.ts'

const limits = {
  headerBytes: 8 * 1024,
  /** Milliseconds for the headers, and for the whole request. */
  headers: 5_000,
  request: 10_000,
  connections: 64,
  /** Milliseconds in which a process that is done still answers. */
  lastWords: 1_000,
} as const

/**
 * A process that is killed takes a moment to be gone, and there is no event for that; the pause is
 * in milliseconds.
 */
const reopenTries = 100
const reopenPause = 50

/**
 * Opens the control socket of a daemon with a name, or keeps the predecessor's for the commit.
 * Rejects with `ERR_COOK_RUN_DIR`, `ERR_COOK_NAME_TAKEN` and what else keeps a Unix path from being
 * opened.
 */
export async function openControl(service: Service): Promise<void> {
  const { name } = service.options
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
  const { name } = service.options
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
  const text = `${message}. The service has no control socket: signals alone reach it`
  service.emit({ type: 'warning', about: 'control', text })
}

class Control implements ControlSocket {
  readonly #service: Service
  readonly #name: string
  readonly #folder: string
  readonly #path: string
  readonly #identity = identify()
  /** Accepted here, and not answered to the end: also those whose request is still on its way. */
  readonly #connections = new Set<Socket>()
  /** The predecessor's socket, until the commit. */
  #inherited: (UnixPath & { readonly fd: number }) | undefined
  #server: Server
  /** That it has become, or is about to. */
  #user: number | undefined

  constructor(service: Service, name: string, folder: string) {
    this.#service = service
    this.#name = name
    this.#folder = folder
    this.#path = controlPath(folder, name)
    this.#inherited = service.claims.claimUnix(controlName, this.#path)
    this.#server = this.#makeServer()
    // A process that has ended owns nothing. One that is killed or crashes leaves its file, from
    // which a restart knows what to start.
    process.once('exit', (code) => {
      if (code !== 0 && service.isServing) return
      removeOwner(folder, name, process.pid)
      // Nor does one that was killed while it drained.
      if (!service.hasSuccessor) forgetDeadOwners(folder, name)
    })
  }

  async open(): Promise<void> {
    if (this.#inherited !== undefined) return
    this.#own()
    try {
      await this.#listen()
      forgetOwners(this.#folder, this.#name, process.pid)
    } catch (error) {
      removeOwner(this.#folder, this.#name, process.pid)
      throw error
    }
  }

  openNow(): void {
    if (this.#inherited !== undefined) return
    const { pid, generation } = livingOwners(this.#folder, this.#name).at(-1) ?? {}
    if (pid !== undefined) {
      throw new CookError('ERR_COOK_NAME_TAKEN', { name: this.#name, why: `pid ${pid}, generation ${generation}` })
    }
    openUnixPathNow(this.#service, this.#server, this.#path, { mode: 0o600 })
    this.#server.unref()
    this.#service.handles.addReserved(controlName, 'unix', this.#server)
    forgetOwners(this.#folder, this.#name, process.pid)
    this.#own()
  }

  becomes(user: number): void {
    this.#user = user
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
  }

  release(successor?: Started & { readonly identity: Identity }): void {
    // Not http.Server's own close, which would cut who is about to ask.
    if (this.#server.listening) stopAccepting(this.#server)
    if (successor === undefined) {
      if (!this.#service.hasSuccessor) removeOwner(this.#folder, this.#name, process.pid)
      return
    }
    try {
      // Its own word, which says more, may be there already.
      const { identity, ...started } = successor
      if (livingOwners(this.#folder, this.#name).some(({ pid }) => pid === identity[0])) return
      const owner = this.#ownerOf(identity, this.#service.generation + 1, started)
      const user = userOf(identity[0])
      const isOther = user !== undefined && user !== process.geteuid?.()
      writeOwner(this.#folder, this.#name, { ...owner, ...(isOther && { user }) })
    } catch {
      // The successor, whose file it is, reports the same fault.
    }
  }

  async reopen(): Promise<void> {
    // The successor is lost, but may still be on its way out: until then it listens there.
    for (let left = reopenTries; ; left--) {
      try {
        this.#server = this.#makeServer()
        await this.#listen()
        this.#own()
        return
      } catch (error) {
        if (left === 0 || (error as CookError).code !== 'ERR_COOK_NAME_TAKEN') throw error
      }
      await new Promise((done) => setTimeout(done, reopenPause))
    }
  }

  get idle(): Promise<void> {
    const all = [...this.#connections].map((socket) => new Promise((done) => socket.once('close', done)))
    const late = new Promise((done) => setTimeout(done, limits.lastWords).unref())
    return Promise.race([Promise.all(all), late]).then(() => {})
  }

  #makeServer(): Server {
    const { createServer } = process.getBuiltinModule('node:http')
    const server = createServer(
      {
        maxHeaderSize: limits.headerBytes,
        headersTimeout: limits.headers,
        requestTimeout: limits.request,
        connectionsCheckingInterval: 1_000,
      },
      (request, response) => void answer(this.#service, request, response),
    )
    server.on('connection', (socket: Socket) => {
      this.#connections.add(socket)
      socket.once('close', () => this.#connections.delete(socket))
    })
    // One request each: a generation that has handed over then has nothing to close.
    server.maxRequestsPerSocket = 1
    server.maxConnections = limits.connections
    // accept(2) may fail where descriptors have run out: that costs a question, not the service.
    server.on('error', () => {})
    // It is there for the service, not the other way round.
    server.unref()
    return server
  }

  async #listen(): Promise<void> {
    const server = this.#server
    try {
      await openUnixPath(this.#service, server, this.#path, { mode: 0o600 })
    } catch (cause) {
      if (!(cause instanceof CookError) || cause.code !== 'ERR_COOK_PATH_IN_USE') throw cause
      const why = `at ${this.#path}, ${(cause as CookError<'ERR_COOK_PATH_IN_USE'>).values.why}`
      throw new CookError('ERR_COOK_NAME_TAKEN', { name: this.#name, why }, { cause })
    }
    server.unref()
    this.#service.handles.addReserved(controlName, 'unix', server)
  }

  #own(): void {
    forgetDeadOwners(this.#folder, this.#name)
    const { generation, state } = this.#service
    const user = this.#user
    const owner = this.#ownerOf(this.#identity, generation, state)
    writeOwner(this.#folder, this.#name, { ...owner, ...(user !== undefined && { user }) })
  }

  #ownerOf([pid, startTime]: Identity, generation: number, { command, program, environment }: Started): Owner {
    const { drainTimeout } = this.#service
    const own = withoutOwn(environment)
    return { pid, startTime, generation, drainTimeout, command, environment: own, ...(program && { program }) }
  }
}
