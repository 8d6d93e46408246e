/** What systemd hears of a service (sd_notify(3)), by the program systemd-notify. */
import { envNotify, envWatchdog, envWatchdogPid } from '../contract/environment.ts'

/** A ping that comes late by as much is no reason to kill. */
const pingsPerWatchdog = 3

/** Where it wants to hear it, and how often; undefined: it does not. */
export type Manager = { readonly socket: string; readonly watchdog: number | undefined }

/** Takes the variables out of an environment: they are for the main process of a unit alone. */
export function takeManager(env: Record<string, string | undefined>): Manager | undefined {
  const { [envNotify]: socket, [envWatchdog]: usec, [envWatchdogPid]: pid = `${process.pid}` } = env
  for (const name of [envNotify, envWatchdog, envWatchdogPid]) delete env[name]
  if (socket === undefined || socket === '') return undefined
  const ms = pid === `${process.pid}` ? Number(usec) / 1000 : Number.NaN
  return { socket, watchdog: ms > 0 ? ms : undefined }
}

/** How a service is, as systemd sees it; no phase: it is not up yet. */
export type Told = { readonly phase?: 'READY' | 'RELOADING' | 'STOPPING'; readonly text: string }

/**
 * One message at a time, of what is so by then. Node has no datagrams on Unix sockets, so each
 * costs a process: right for a keeper, which serves nobody.
 */
export class Notifier {
  readonly #manager: Manager
  readonly #look: () => Told
  readonly #onFault: (why: string) => void
  readonly #pings: NodeJS.Timeout | undefined
  #told: Told = { text: '' }
  #isPingDue = false
  #sending: Promise<void> | undefined
  #fault: string | undefined

  constructor(manager: Manager, look: () => Told, onFault: (why: string) => void) {
    this.#manager = manager
    this.#look = look
    this.#onFault = onFault
    const { watchdog } = manager
    if (watchdog !== undefined) this.#pings = setInterval(() => this.#ping(), watchdog / pingsPerWatchdog).unref()
    this.changed()
  }

  /** There may be something to say. */
  changed(): void {
    this.#sending ??= this.#sendAll()
  }

  /** Resolves when systemd has heard all. */
  async end(): Promise<void> {
    clearInterval(this.#pings)
    await this.#sending
  }

  #ping(): void {
    this.#isPingDue = true
    this.changed()
  }

  async #sendAll(): Promise<void> {
    // Several things change in one turn.
    await new Promise((turned) => setImmediate(turned))
    for (let words = this.#words(); words.length > 0; words = this.#words()) {
      const fault = await this.#send(words)
      if (fault !== undefined && fault !== this.#fault) this.#onFault(fault)
      this.#fault = fault
    }
    this.#sending = undefined
  }

  /** What is not as it was when it was said last. */
  #words(): readonly string[] {
    const [{ phase, text }, before] = [this.#look(), this.#told]
    this.#told = { text, ...(phase && { phase }) }
    const isPingDue = this.#isPingDue
    this.#isPingDue = false
    return [
      ...(phase === undefined || phase === before.phase ? [] : [`${phase}=1`]),
      ...(text === before.text ? [] : [`STATUS=${text}`]),
      ...(isPingDue ? ['WATCHDOG=1'] : []),
    ]
  }

  /** It ends when systemd has read the message. Resolves to what kept it from that. */
  #send(words: readonly string[]): Promise<string | undefined> {
    const { spawn } = process.getBuiltinModule('node:child_process')
    const { PATH } = process.env
    return new Promise((done) => {
      const env = { PATH, [envNotify]: this.#manager.socket }
      const child = spawn('systemd-notify', words, { env, stdio: 'ignore' })
      child.once('error', ({ message }) => done(message))
      // A stop of the unit is a signal for all of its processes, also for this one.
      child.once('exit', (code) => done(code ? `exit code ${code}` : undefined))
    })
  }
}
