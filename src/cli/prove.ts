/** `prove`: the user's own program under load, upgraded to good versions and to bad ones. */
import { closeSync, existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { envHome } from '../contract/environment.ts'
import { clientOf } from '../control/client.ts'
import { openLog } from '../process/log.ts'
import { controlPath } from '../process/run-dir.ts'
import { checkRotation, keepOptionsOf } from './keep.ts'
import { exitCodes, note, paint, print } from './output.ts'
import { placeOf, programOf, type StartOptions } from './program.ts'
import { type Environment, environmentOf, kindOf } from './prove-faults.ts'
import { startLoad } from './prove-load.ts'
import type { Typed } from './prove-report.ts'
import { type Measured, type Proving, upgradeTo } from './prove-rounds.ts'
import { Tape } from './prove-tape.ts'
import { type Target, targetOf, webSocketsOf } from './prove-target.ts'
import { isProved, type Proof, reconnectText, tellAsJson, tellVerdict } from './prove-verdict.ts'
import { launch } from './start.ts'
import { endAll } from './stop.ts'

export type ProveOptions = StartOptions & {
  readonly path: string
  readonly upgrades: number
  readonly clients: number
  readonly listener?: string
  readonly port?: number
  readonly host?: string
  readonly webSocket?: string
  readonly report?: string
}

/**
 * How long the load runs before the first upgrade, between two, and after the last, in
 * milliseconds: each client is answered a few times. On a busy machine that takes longer.
 */
const calm = 300
const longestCalm = 5_000
/**
 * How long an answer may take, in milliseconds: longer is one that never comes. The first has less,
 * since somebody waits for it.
 */
const patience = 30_000
const firstPatience = 10_000

const name = 'prove'

export async function prove(script: string, args: readonly string[], options: ProveOptions): Promise<number> {
  checkRotation(keepOptionsOf(options), { isKept: options.keep !== false, hasLog: true })
  const report = options.report === undefined ? undefined : resolve(placeOf(options), options.report)
  // Before anything runs for it.
  if (report !== undefined) (await import('./prove-file.ts')).checkReport(report)
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'cook-prove-'))
  const logFile = join(folder, 'log')
  // Its own run directory: the daemon that is proved meets no other.
  const environment = { ...process.env, [envHome]: folder }
  const interrupt = untilInterrupted()
  const log = openLog(logFile)
  let hasStarted = false
  try {
    const program = programOf(script, args, { ...options, name, log: logFile })
    const env = environmentOf('good', environment, report === undefined ? undefined : 0)
    await launch(program, { folder, log, options, again: { env } })
    hasStarted = true
    const run = proveRunning(folder, environment, options, interrupt.signal)
    const proof = await Promise.race([run, interrupt.comes])
    if (typeof proof === 'string') {
      run.catch(() => {})
      note(`interrupted (${proof}): nothing is proved`)
      return 128 + constants.signals[proof]
    }
    if (options.json === true) tellAsJson(proof, report)
    else tellVerdict(proof)
    if (report !== undefined) {
      await writePage(report, proof, { script, args })
      if (options.json !== true) print(`report: ${report}`)
    }
    return proof.isProved ? exitCodes.done : exitCodes.failed
  } finally {
    interrupt.end()
    closeSync(log)
    if (hasStarted) await end(folder)
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Whoever does not want one does not load it. */
async function writePage(file: string, proof: Proof, program: Pick<Typed, 'script' | 'args'>): Promise<void> {
  const { reportOf } = await import('./prove-report.ts')
  const { writeReport } = await import('./prove-file.ts')
  writeReport(file, reportOf(proof, { ...program, words: process.argv.slice(2) }))
}

/** A second one ends this command at once. */
function untilInterrupted() {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  type Signal = (typeof signals)[number]
  const controller = new AbortController()
  let hear = (_: Signal): void => {}
  const comes = new Promise<Signal>((done) => {
    hear = (signal) => {
      end()
      controller.abort()
      done(signal)
    }
  })
  const end = () => {
    for (const signal of signals) process.removeListener(signal, hear)
  }
  for (const signal of signals) process.once(signal, hear)
  return { comes, signal: controller.signal, end }
}

async function proveRunning(
  folder: string,
  environment: Environment,
  options: ProveOptions,
  interrupted: AbortSignal,
): Promise<Proof> {
  const client = clientOf(folder, name)
  const { upgrades, clients, json, report } = options
  const { listeners, workers = [{}], node } = await client.status()
  const target = await targetOf(listeners, { ...options, patience: firstPatience })
  const webSockets = await webSocketsOf(target, { ...options, patience: firstPatience })
  const say = (text: string) => {
    if (json !== true && !interrupted.aborted) print(text)
  }
  for (const line of introduction(target, webSockets, options, workers.length)) say(line)
  const tape = new Tape()
  const loadOptions = { clients, patience, tape }
  const loads = [startLoad(target, loadOptions)]
  const rounds: Measured[] = []
  try {
    // The package ws is loaded for those who have WebSockets.
    if (webSockets) loads.push((await import('./prove-web-sockets.ts')).startWebSockets(webSockets, loadOptions))
    await answered(tape, clients)
    const proving: Proving = { client, environment, tape, isMarked: report !== undefined }
    while (rounds.length < upgrades && !interrupted.aborted) {
      const kind = kindOf(rounds.length)
      const measured = await upgradeTo(kind, rounds.length + 1, proving)
      rounds.push(measured)
      const { isRight, failed, said } = measured.round
      const mark = isRight && failed === 0 ? paint('green', 'ok') : paint('red', 'NOT OK')
      say(`${String(rounds.length).padStart(3)}  ${kind.padEnd(7)}  ${mark}  ${said}`)
      await answered(tape, clients)
      if (!isRight && (await client.status().catch(() => undefined)) === undefined) break
    }
  } finally {
    await Promise.all(loads.map((load) => load.stop()))
  }
  return {
    isProved: isProved(rounds, tape, rounds.length === upgrades, webSockets),
    ...{ target, rounds, tape, clients, upgrades, node },
    ...(webSockets && { webSockets }),
    ...{
      counts: tape.counts,
      workers: workers.length,
      isKept: options.keep !== false,
      movesTls: options.moveTls === true,
    },
  }
}

function introduction(target: Target, webSockets: Target | undefined, options: ProveOptions, workers: number) {
  const { upgrades, clients } = options
  const { takenPort } = target
  return [
    ...(takenPort === undefined ? [] : [`Port ${takenPort} is in use, so the program listens on another one here.`]),
    `${clients} clients request ${target.text}, each on one keep-alive connection, and never retry.`,
    ...(webSockets === undefined
      ? []
      : [`${clients} more hold a WebSocket at ${webSockets.text}, ping it, and reconnect when told to (1012).`]),
    ...(workers === 1 ? [] : [`${workers} workers serve; each upgrade must replace all of them, or none.`]),
    `Meanwhile the program is upgraded ${upgrades} times to itself, every second time as a version that exits, hangs or crashes.`,
    reconnectText(target, options.moveTls === true),
  ]
}

/** What it has accepted is of no interest any more, and what does not answer ends too. */
async function end(folder: string): Promise<void> {
  if (existsSync(controlPath(folder, name))) await endAll(clientOf(folder, name), { killAfter: 5_000, json: true })
}

/** As many answers as there are clients, or failures. */
async function answered(tape: Tape, clients: number): Promise<void> {
  const seen = () => tape.counts.answered + tape.counts.failed
  const before = seen()
  const end = performance.now() + longestCalm
  do await passes(calm)
  while (seen() - before < clients && performance.now() < end)
}

function passes(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms))
}
