/** What clients lose when all workers are replaced, by a good version and by a bad one. */

import type { Row } from '../rows.ts'
import { summarize } from '../statistics.ts'
import { command } from '../versus/ours.ts'
import type { Site } from '../versus/site.ts'
import { underClients } from './clients.ts'
import { ours, type Running, type Sizes, untilGone, withGroup, workersOf } from './group.ts'

const workers = 4

export async function* measureUpgrades({ upgrades }: Sizes): AsyncGenerator<Row> {
  const took: number[] = []
  const { felt, bad } = await withGroup(ours, workers, async (running, site) => ({
    felt: await underClients(site.port, { goOn: false }, async () => {
      for (let done = 0; done < upgrades; done++) took.push(await upgradeAll(running, site, `${done + 2}`))
    }),
    bad: await upgradeBadly(running, site),
  }))
  yield { what: `cook-daemon: failed in ${upgrades} upgrades`, unit: '', goal: 0, ...summarize([felt.lost.length]) }
  yield { what: '  connections lost', unit: '', goal: 0, ...summarize([felt.ended]) }
  yield { what: '  answers', unit: '', ...summarize([felt.answers]) }
  yield { what: '  the command, all workers', unit: 'ms', ...summarize(took) }
  yield {
    what: 'a version that is bad in one slot: failed',
    unit: '',
    goal: 0,
    ...summarize(bad.map((one) => one.lost)),
  }
  yield { what: '  connections lost', unit: '', goal: 0, ...summarize(bad.map((one) => one.ended)) }
  yield { what: '  pids changed', unit: '', goal: 0, ...summarize(bad.map((one) => one.changed)) }
  yield { what: '  exit code of the command is not 1', unit: '', goal: 0, ...summarize(bad.map((one) => one.wrong)) }
}

type Bad = { readonly lost: number; readonly ended: number; readonly changed: number; readonly wrong: number }

/** Each slot in turn; every number is that of one try. */
async function upgradeBadly(running: Running, site: Site): Promise<Bad[]> {
  const found: Bad[] = []
  await underClients(site.port, { goOn: true }, async (clients) => {
    for (let slot = 0; slot < workers; slot++) {
      const [before, felt] = [workersOf(running), clients.felt()]
      site.deploy(`bad ${slot}`)
      const code = await site.exitCode(process.execPath, [command, 'upgrade', 'app'])
      const [after, feltAfter] = [workersOf(running).map(([pid]) => pid), clients.felt()]
      found.push({
        lost: feltAfter.lost.length - felt.lost.length,
        ended: feltAfter.ended - felt.ended,
        changed: before.filter(([pid]) => !after.includes(pid)).length,
        wrong: code === 1 ? 0 : 1,
      })
    }
  })
  return found
}

/** In milliseconds, until the operator is told that it is done; the old workers are gone then too. */
async function upgradeAll(running: Running, site: Site, version: string): Promise<number> {
  const old = workersOf(running)
  site.deploy(version)
  const begin = performance.now()
  await running.upgrade(old)
  const took = performance.now() - begin
  await untilGone(old)
  return took
}
