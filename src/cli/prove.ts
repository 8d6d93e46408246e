/** `prove`: the user's own program under load that never retries, while it is upgraded to good versions and to such as fail. */
import { clientOf } from '../control/client.ts'
import type { Status } from '../control/status.ts'
import { launchDaemon } from '../core/launch.ts'
import { openLog } from '../core/log.ts'
import { envHome } from '../core/protocol.ts'
import { controlPath } from '../core/run-dir.ts'
import { messageOf } from '../errors.ts'
import { system } from '../node/system.ts'
import { exitCodes, paint, print, printJson, table } from './output.ts'
import { type Load, startLoad } from './prove-load.ts'
import { planFor, programOf, type StartOptions } from './start.ts'
import { untilGone } from './stop.ts'

const fs = process.getBuiltinModule('node:fs')
const { join } = process.getBuiltinModule('node:path')

export type ProveOptions = StartOptions & {
  readonly path: string
  readonly upgrades: number
  readonly clients: number
}

/** What a version does that is no good, before its program begins. */
const faults = {
  exits: 'process.exit(3)',
  hangs: 'setInterval(() => {}, 1e6); await new Promise(() => {})',
  crashes: "process.kill(process.pid, 'SIGSEGV'); await new Promise(() => {})",
} as const

type Kind = 'good' | keyof typeof faults

const course: readonly Kind[] = ['good', 'exits', 'good', 'hangs', 'good', 'crashes']

/** How long one that hangs may do so, in milliseconds. */
const hangTime = 1_000
/** How long the load runs before the first upgrade and after the last, in milliseconds: each client is answered a few times. */
const calm = 300

type Round = {
  readonly kind: Kind
  readonly seconds: number
  /** What it should be: a good version serves, a bad one does not. */
  readonly isRight: boolean
  readonly said: string
  readonly answered: number
  readonly failed: number
  readonly reconnected: number
}

export async function prove(script: string, args: readonly string[], options: ProveOptions): Promise<number> {
  const folder = fs.mkdtempSync(join(fs.realpathSync(process.getBuiltinModule('node:os').tmpdir()), 'cook-prove-'))
  const logFile = join(folder, 'log')
  // Its own run directory: the daemon that is proved meets no other.
  const environment = { ...process.env, [envHome]: folder }
  const program = programOf(script, args, { ...options, name: 'prove', log: logFile })
  const log = openLog(logFile)
  let hasStarted = false
  try {
    await launchDaemon({ ...planFor(program, environment), output: [log, log] })
    hasStarted = true
    return await proveRunning(folder, environment, options)
  } finally {
    fs.closeSync(log)
    if (hasStarted) await end(folder)
    fs.rmSync(folder, { recursive: true, force: true })
  }
}

async function proveRunning(
  folder: string,
  environment: Readonly<Record<string, string | undefined>>,
  { path, upgrades, clients, json }: ProveOptions,
): Promise<number> {
  const client = clientOf(folder, 'prove')
  const url = urlOf(await client.status(), path)
  const say = (text: string) => {
    if (json !== true) print(text)
  }
  say(`${clients} clients that never retry ask for ${url}, each on one connection, while ${upgrades} upgrades run`)
  const load = startLoad(url, clients)
  const rounds: Round[] = []
  try {
    await passes(calm)
    for (let number = 0; number < upgrades; number++) {
      const kind = course[number % course.length] ?? 'good'
      const round = await upgradeTo(kind, folder, environment, load)
      rounds.push(round)
      const mark = round.isRight && round.failed === 0 ? paint('green', 'ok') : paint('red', 'NOT OK')
      say(`${String(number + 1).padStart(3)}  ${kind.padEnd(7)}  ${mark}  ${round.said}`)
    }
    await passes(calm)
  } finally {
    await load.stop()
  }
  return verdict(rounds, load, url, json === true)
}

async function upgradeTo(
  kind: Kind,
  folder: string,
  environment: Readonly<Record<string, string | undefined>>,
  load: Load,
): Promise<Round> {
  const client = clientOf(folder, 'prove')
  const before = { ...load.counts }
  const old = await client.status()
  const begin = performance.now()
  let said = ''
  try {
    const request = kind === 'good' ? {} : { env: withFault(environment, faults[kind]), readyTimeout: hangTime }
    for await (const progress of client.progress('upgrade', request)) {
      if (progress.type === 'serves') said = `generation ${progress.generation} serves`
      if (progress.type === 'drained') said += `, ${progress.handedOver} connections handed over`
    }
  } catch (error) {
    said = messageOf(error).split(/[.:]/)[0] ?? ''
  }
  const seconds = (performance.now() - begin) / 1000
  const now = await client.status()
  const { counts } = load
  return {
    kind,
    seconds,
    isRight: (now.pid === old.pid) === (kind !== 'good'),
    said,
    answered: counts.answered - before.answered,
    failed: counts.failed - before.failed,
    reconnected: counts.reconnected - before.reconnected,
  }
}

/** A module that Node loads before the program. */
function withFault(environment: Readonly<Record<string, string | undefined>>, fault: string) {
  const before = environment.NODE_OPTIONS === undefined ? '' : `${environment.NODE_OPTIONS} `
  return { ...environment, NODE_OPTIONS: `${before}--import=data:text/javascript,${encodeURIComponent(fault)}` }
}

function verdict(rounds: readonly Round[], load: Load, url: string, isJson: boolean): number {
  const { answered, failed, reconnected } = load.counts
  const wrong = rounds.filter(({ isRight }) => !isRight).length
  const isProved = failed === 0 && wrong === 0 && answered > 0
  if (isJson) {
    printJson({ isProved, url, answered, failed, reconnected, failures: Object.fromEntries(load.failures), rounds })
    return isProved ? exitCodes.done : exitCodes.failed
  }
  print('')
  print(
    table([
      ['', 'version', 'seconds', 'as it should', 'answered', 'failed', 'reconnected'],
      ...rounds.map((round, at) => [
        String(at + 1),
        round.kind,
        round.seconds.toFixed(2),
        round.isRight ? 'yes' : 'NO',
        String(round.answered),
        String(round.failed),
        String(round.reconnected),
      ]),
    ]),
  )
  for (const [why, count] of load.failures) print(`${count} requests failed: ${why}`)
  const facts = `${answered} requests answered, ${failed} failed, ${reconnected} connections opened again, ${wrong} upgrades not as they should`
  print(`\n${isProved ? paint('green', 'proved') : paint('red', 'NOT PROVED')}: ${facts}`)
  return isProved ? exitCodes.done : exitCodes.failed
}

function urlOf({ listeners }: Status, path: string): string {
  const tcp = listeners.map(({ address }) => /^(.*):(\d+)$/.exec(address)).find((found) => found !== null)
  if (tcp === undefined || tcp === null) throw new Error('the program listens on no TCP port, and the load needs one')
  const [, host = '', port] = tcp
  const local = host === '0.0.0.0' || host === '[::]' ? 'localhost' : host
  return `http://${local}:${port}${path.startsWith('/') ? '' : '/'}${path}`
}

async function end(folder: string): Promise<void> {
  if (!fs.existsSync(controlPath(folder, 'prove'))) return
  const client = clientOf(folder, 'prove')
  const { generations } = await client.status()
  const identities = generations.map(({ pid, startTime }) => [pid, startTime] as const)
  for await (const _ of client.progress('stop')) {
    // Its end is what counts.
  }
  if (await untilGone(identities, 5_000)) return
  for (const identity of identities) system.kill(identity, 'SIGKILL')
  await untilGone(identities, 5_000)
}

function passes(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms))
}
