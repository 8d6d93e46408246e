/** `prove`: the user's own program under load, upgraded to good versions and to bad ones. */

import { closeSync, existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { envHome } from '../contract/environment.ts'
import { clientOf } from '../control/client.ts'
import { messageOf } from '../errors.ts'
import { launchDaemon } from '../process/launcher.ts'
import { openLog } from '../process/log.ts'
import { controlPath } from '../process/run-dir.ts'
import { exitCodes, paint, print, printJson, table } from './output.ts'
import { planFor, programOf, type StartOptions } from './program.ts'
import { type Load, startLoad } from './prove-load.ts'
import { meaningOf, type Target, targetOf } from './prove-target.ts'
import { endAll } from './stop.ts'

export type ProveOptions = StartOptions & {
  readonly path: string
  readonly upgrades: number
  readonly clients: number
  readonly listener?: string
  readonly port?: number
  readonly host?: string
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
/**
 * How long the load runs before the first upgrade and after the last, in milliseconds: each client
 * is answered a few times.
 */
const calm = 300
/**
 * How long an answer may take, in milliseconds: longer is one that never comes. The first has less,
 * since somebody waits for it.
 */
const patience = 30_000
const firstPatience = 10_000

type Round = {
  readonly kind: Kind
  readonly seconds: number
  /** What it should be: a good version serves, a bad one does not. */
  readonly isRight: boolean
  readonly said: string
  readonly answered: number
  readonly failed: number
  readonly reconnected: number
  readonly failures: Readonly<Record<string, number>>
}

export async function prove(script: string, args: readonly string[], options: ProveOptions): Promise<number> {
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'cook-prove-'))
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
    closeSync(log)
    if (hasStarted) await end(folder)
    rmSync(folder, { recursive: true, force: true })
  }
}

async function proveRunning(
  folder: string,
  environment: Readonly<Record<string, string | undefined>>,
  options: ProveOptions,
): Promise<number> {
  const client = clientOf(folder, 'prove')
  const { upgrades, clients, json } = options
  const target = await targetOf((await client.status()).listeners, { ...options, patience: firstPatience })
  const say = (text: string) => {
    if (json !== true) print(text)
  }
  say(`${clients} clients ask for ${target.text}, each on one keep-alive connection, and never retry.`)
  say(
    `Meanwhile the program is upgraded ${upgrades} times: to itself, and every second time to a version that exits, hangs or crashes.`,
  )
  say(reconnectText(target))
  const load = startLoad(target, clients, patience)
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
  return verdict(rounds, load, target, json === true)
}

function reconnectText({ isTls }: Target): string {
  return isTls
    ? 'The keys of a TLS connection cannot move: each client reads "Connection: close" and connects again, once for each good upgrade.'
    : 'Connections move to the new version, and stay open.'
}

async function upgradeTo(
  kind: Kind,
  folder: string,
  environment: Readonly<Record<string, string | undefined>>,
  load: Load,
): Promise<Round> {
  const client = clientOf(folder, 'prove')
  const before = { ...load.counts }
  const failuresBefore = new Map(load.failures)
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
  const after = await client.status()
  const { counts } = load
  return {
    kind,
    seconds,
    isRight: (after.pid === old.pid) === (kind !== 'good'),
    said,
    answered: counts.answered - before.answered,
    failed: counts.failed - before.failed,
    reconnected: counts.reconnected - before.reconnected,
    failures: Object.fromEntries(
      [...load.failures]
        .map(([why, count]) => [why, count - (failuresBefore.get(why) ?? 0)] as const)
        .filter(([, count]) => count > 0),
    ),
  }
}

/** A module that Node loads before the program. */
function withFault(environment: Readonly<Record<string, string | undefined>>, fault: string) {
  const before = environment.NODE_OPTIONS === undefined ? '' : `${environment.NODE_OPTIONS} `
  return { ...environment, NODE_OPTIONS: `${before}--import=data:text/javascript,${encodeURIComponent(fault)}` }
}

function verdict(rounds: readonly Round[], load: Load, target: Target, isJson: boolean): number {
  const { answered, failed, reconnected } = load.counts
  const wrong = rounds.filter(({ isRight }) => !isRight).length
  const isProved = failed === 0 && wrong === 0 && answered > 0
  if (isJson) {
    const failures = Object.fromEntries(load.failures)
    printJson({ isProved, url: target.text, answered, failed, reconnected, failures, rounds })
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
  print('')
  for (const line of explanation(rounds, load, target)) print(line)
  const facts = `${answered} requests answered, ${failed} failed, ${reconnected} connections opened again, ${wrong} upgrades not as they should`
  print(`${isProved ? paint('green', 'proved') : paint('red', 'NOT PROVED')}: ${facts}`)
  return isProved ? exitCodes.done : exitCodes.failed
}

/** What was not as it should, at which upgrade, and what that mostly comes from. */
function explanation(rounds: readonly Round[], { counts, failures }: Load, target: Target): string[] {
  const lines: string[] = []
  for (const [at, { kind, isRight, said, failures: own }] of rounds.entries()) {
    if (!isRight && kind === 'good')
      lines.push(`upgrade ${at + 1}: the same program did not come up a second time: ${said}`)
    if (!isRight && kind !== 'good') {
      lines.push(`upgrade ${at + 1}: a version that ${kind} took the service over: ${said}. Please report that`)
    }
    for (const [why, count] of Object.entries(own))
      lines.push(`upgrade ${at + 1} (${kind}): ${count} requests failed: ${why}`)
  }
  const inRounds = rounds.reduce((sum, { failed }) => sum + failed, 0)
  if (counts.failed > inRounds) lines.push(`between the upgrades: ${counts.failed - inRounds} requests failed`)
  for (const why of failures.keys()) lines.push(`${why}: ${meaningOf(why)}`)
  if (target.isTls && counts.reconnected > 0) lines.push(reconnectText(target))
  return lines
}

/** What it has accepted is of no interest any more, and what does not answer ends too. */
async function end(folder: string): Promise<void> {
  if (existsSync(controlPath(folder, 'prove')))
    await endAll(clientOf(folder, 'prove'), { killAfter: 5_000, json: true })
}

function passes(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms))
}
