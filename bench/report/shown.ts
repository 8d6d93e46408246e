/** Which systems were measured, and what a picture shows of them. */
import type { Measured, Result } from '../versus/result.ts'
import { numeral, type Panel } from './pictures.ts'

/** What is not drawn beside ours, if it was measured. */
const peers = ['pm2', 'by-hand', 'cluster'] as const

export function measuredOf({ systems }: Result): Measured[] {
  return systems.filter((system): system is Measured => !('missing' in system))
}

/** Ours, and one of the others. */
export function shownOf(result: Result): Measured[] {
  const all = measuredOf(result)
  const peer = peers.flatMap((name) => all.filter((system) => system.name === name))[0]
  return [all[0], peer].filter((system) => system !== undefined)
}

export function timelineWords(result: Result): string {
  return shownOf(result)
    .map((system) => `${system.title}: ${panelOf(system).verdict}`)
    .join('; ')
}

export function panelOf({ title, timeline }: Measured): Panel {
  const failed = timeline.lost.reduce((sum, count) => sum + count, 0)
  const verdict = failed === 0 ? 'no request failed' : `${numeral(failed)} requests failed`
  const triggers = timeline.triggers.map((at) => at / timeline.step)
  return {
    title,
    verdict: `${triggers.length} upgrades: ${verdict}`,
    answers: timeline.answers,
    lost: timeline.lost,
    triggers,
  }
}
