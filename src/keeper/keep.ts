/** A keeper at work in this process: what it listens to, and when it ends. */

import { KeeperAdmin } from './admin.ts'
import { KeeperControl } from './control.ts'
import { type End, Keeper } from './keeper.ts'
import { say } from './log-lines.ts'
import type { KeeperPlan } from './plan.ts'
import { Rotation } from './rotation.ts'
import { KeeperStatus } from './status.ts'

/** What ends the service; again, and what is still answered is cut. */
const stops: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGQUIT']
/** What the worker gets, as if it had the pid of the keeper: SIGUSR2 upgrades. */
const forwarded: readonly NodeJS.Signals[] = ['SIGHUP', 'SIGUSR1', 'SIGUSR2']

/**
 * Rejects with `ERR_COOK_NAME_TAKEN`, `ERR_COOK_ADMIN` and what keeps a pid file from being
 * written, before anything is started. `isServing`: a worker of it is there, and goes on all the
 * same.
 */
export async function keep(
  plan: KeeperPlan,
  begin: (keeper: Keeper) => void,
  { isServing = false } = {},
): Promise<Keeper> {
  const keeper = new Keeper(plan)
  const rotation = new Rotation(keeper)
  const status = new KeeperStatus(keeper, rotation)
  const control = plan.folder === undefined ? undefined : new KeeperControl(keeper, plan.folder, status)
  const admin = new KeeperAdmin(keeper, status)
  await control?.open()
  try {
    if (!isServing) await admin.open()
    keeper.pidFile.claim(plan.program.pidFile)
  } catch (error) {
    control?.close()
    admin.close()
    throw error
  }
  for (const signal of stops) process.on(signal, () => keeper.stop(signal))
  for (const signal of forwarded) process.on(signal, () => keeper.signal(signal))
  // A keeper that dies of a fault of its own leaves a worker that serves, and starts another.
  process.on('uncaughtException', (error) => say(error.stack ?? error.message))
  begin(keeper)
  rotation.begin()
  void keeper.ended.promise.then(() => {
    rotation.end()
    keeper.recorder.write()
    control?.close()
    admin.close()
  })
  return keeper
}

/** The exit code, and why a first start has failed. */
export async function untilEnded(keeper: Keeper): Promise<End> {
  const end = await keeper.ended.promise
  // What was begun in this turn, as an answer on the control socket, goes out first.
  await new Promise((turned) => setImmediate(turned))
  return end
}
