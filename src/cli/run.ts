/** `run`: `start` in the foreground. This process is the keeper, and ends as its worker does. */
import { closeSync } from 'node:fs'
import { clientOf } from '../control/client.ts'
import { CookError } from '../errors.ts'
import { takeManager } from '../host/notify.ts'
import { keep, untilEnded } from '../keeper/keep.ts'
import { tellManager } from '../keeper/told.ts'
import { takeActivation } from '../process/activation.ts'
import { openLog } from '../process/log.ts'
import { findRunDirectory } from '../process/run-dir.ts'
import { ifNotRunning } from './find-service.ts'
import { checkRotation, keeperPlan, keepOptionsOf } from './keep.ts'
import { note, tell } from './output.ts'
import { type Program, programOf, type StartOptions } from './program.ts'
import { tellRunning } from './start.ts'
import { tellDoubts } from './what-runs.ts'

export async function run(script: string, args: readonly string[], options: StartOptions): Promise<number> {
  return runProgram(programOf(script, args, options), options)
}

export async function runProgram(program: Program, options: StartOptions, env = process.env): Promise<number> {
  const manager = takeManager(process.env)
  checkRotation(keepOptionsOf(options), { isKept: true, hasLog: program.record.logFile !== undefined })
  const folder = findRunDirectory(process.env)
  const place = typeof folder === 'string' ? folder : undefined
  // Their keeper asks each by a control socket of its own.
  if (options.workers !== undefined && folder instanceof CookError) throw folder
  // Before the program finds its port in use. That there is no folder, it says in its log.
  const running = place === undefined ? undefined : await clientOf(place, program.name).status().catch(ifNotRunning)
  if (running !== undefined) return tellRunning(running, program)
  tellDoubts(program.name, program)
  if (process.pid === 1) {
    process.stderr.write(
      'cook-daemon: as pid 1 this process reaps its workers, but not orphaned processes: if the program starts others, use an init (docker run --init, or shareProcessNamespace in a pod)\n',
    )
  }
  // That it can be opened is known before anything is started.
  if (program.record.logFile !== undefined) closeSync(openLog(program.record.logFile))
  const keepOptions = { ...keepOptionsOf(options), isRun: true }
  const plan = keeperPlan(program, { folder: place, env, options: keepOptions })
  const { handles, doubts } = takeActivation(process.env)
  for (const doubt of doubts) note(doubt)
  const keeper = await keep(plan, (keeper) => {
    for (const { fd, ...record } of handles) keeper.held.hold(0, record, { fd, close: () => closeSync(fd) })
    keeper.begin()
  })
  const untilTold = manager && tellManager(keeper, manager)
  const { code, error } = await untilEnded(keeper)
  if (error !== undefined) tell(error)
  await untilTold?.()
  return code
}
