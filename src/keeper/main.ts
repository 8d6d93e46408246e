/** The program of a keeper: `start` runs it, and so does a worker whose keeper is gone. */
import { closeSync } from 'node:fs'
import { CookError, messageOf } from '../errors.ts'
import { attempt } from '../node/sessions.ts'
import { identify, system } from '../node/system.ts'
import { openLog } from '../process/log.ts'
import { watchEnd } from './attached.ts'
import { invite } from './invite.ts'
import { keep, untilEnded } from './keep.ts'
import type { Keeper } from './keeper.ts'
import { say, sayIn } from './log-lines.ts'
import type { Attach, KeeperAnswer, KeeperPlan } from './plan.ts'
import { recordOf } from './records.ts'
import { Worker } from './worker.ts'

// Whoever has started this process says what for: a plan, or which worker is to be taken up.
process.once('message', (message: Order) => {
  void begin(message).catch((error: unknown) => refuse(error))
})

type Order = {
  readonly plan?: KeeperPlan
  readonly attach?: Attach
  /** Descriptors that slipped through from a shell. */
  readonly close?: readonly number[]
}

/** That of the channel to whoever has started this process. */
const channelFd = 3

async function begin({ plan, attach, close = [] }: Order): Promise<void> {
  for (const fd of close) if (fd > channelFd) attempt(() => closeSync(fd))
  if (plan !== undefined) await start(plan)
  else if (attach !== undefined) await takeUp(attach)
}

async function start(plan: KeeperPlan): Promise<void> {
  const keeper = await keep(plan, (one) => one.begin())
  const ended = untilEnded(keeper)
  const failed = await Promise.race([keeper.started.promise, ended])
  if (failed !== undefined) {
    refuse(failed.error ?? new Error('it was stopped'))
    return
  }
  answer({ type: 'ready' })
  await leave(keeper)
}

/** Its parent is the worker: what it is to keep stands in the record of the service. */
async function takeUp({ name, folder, slot, generation, pid }: Attach): Promise<void> {
  const record = folder === undefined ? undefined : recordOf(folder, name)
  if (folder === undefined || record === undefined) throw new Error(`there is no record of the service ${name}`)
  const [, file = record.plan.file] = process.argv
  const options = { ...record.plan.options, isRun: false }
  const { logFile } = record.plan.program
  if (logFile !== undefined) attempt(() => sayIn(openLog(logFile)))
  const attach = (one: Keeper) => {
    one.remember(record)
    const place = one.places.get(slot) ?? one.add(slot)
    const identity = [pid, system.startTime(pid) ?? ''] as const
    const { release } = place
    place.attach(watchEnd(new Worker(identity, { generation, release }, process, place.events)))
  }
  const keeper = await keep({ ...record.plan, file, options }, attach, { isServing: true })
  say(`this keeper (pid ${identify()[0]}) has adopted the worker (pid ${pid})`)
  const others = keeper.all.filter((place) => place.number !== slot)
  for (const place of others) void invite(place, folder).then((isThere) => isThere || keeper.resume([place]))
  await leave(keeper)
}

async function leave(keeper: Keeper): Promise<void> {
  const { code } = await untilEnded(keeper)
  process.exit(code)
}

function answer(answer: KeeperAnswer): void {
  // Whoever waited may have been interrupted.
  process.send?.(answer, () => process.disconnect?.())
}

function refuse(error: unknown): void {
  const { code, help } = error instanceof CookError ? error : { code: undefined, help: undefined }
  const told: KeeperAnswer = {
    ...{ type: 'refused', message: messageOf(error) },
    ...(code !== undefined && { code }),
    ...(help !== undefined && { help }),
  }
  if (process.send === undefined) process.exit(1)
  process.send(told, () => process.exit(1))
}
