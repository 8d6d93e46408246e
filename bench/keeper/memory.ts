/** What the keeper has for itself, and whether it grows from upgrade to upgrade. */
import { type Belongings, belongingsOf } from '../belongings.ts'
import { pause } from '../measure-tail.ts'
import type { Row } from '../rows.ts'
import { summarize } from '../statistics.ts'
import { loadServer, type Sizes, withService } from './service.ts'

const goal = 12

export async function* measureMemory({ lives }: Sizes): AsyncGenerator<Row> {
  for (const { after, own, descriptors } of await keeperAfter([0, 50, 200, lives].filter((after) => after <= lives))) {
    yield { what: `after ${after} upgrades`, unit: 'MB', goal, ...summarize([own]) }
    yield { what: '  open descriptors', unit: '', ...summarize([descriptors]) }
  }
}

type Look = Belongings & { readonly after: number }

function keeperAfter(looks: readonly number[]): Promise<Look[]> {
  return withService('kept', { program: loadServer }, async ({ lab, operator, worker }) => {
    const found: Look[] = []
    for (let done = 0; done <= (looks.at(-1) ?? 0); done++) {
      if (done > 0) {
        worker.kill('SIGUSR2')
        const young = await lab.next()
        await young.event('serving')
        await worker.gone
        worker = young
      }
      if (!looks.includes(done)) continue
      // What an upgrade leaves behind for a moment is no growth.
      await pause(1_000)
      const { pid = 0 } = (await operator.status('app')).keeper ?? {}
      found.push({ after: done, ...belongingsOf(pid) })
    }
    return found
  })
}
