/** What the demo came to, by kind of client. */
import type { Story } from './story.ts'
import { align, count, milliseconds, paint } from './text.ts'

export function isGood(story: Story): boolean {
  const succeeded = story.upgrades.filter(({ to, failedPid }) => to !== undefined && failedPid === undefined)
  const lost = story.failures() + story.sum('reconnects')
  return lost === 0 && succeeded.length === story.generations.length - 1 && succeeded.every(({ moved }) => moved > 0)
}

/** The times are those of the worst upgrade, and of the worst stretch between two. */
export function verdict(story: Story): string[] {
  const { clients, upgrades } = story
  const results = clients.map(({ load }) => load.result())
  const busy = upgrades.map(({ from, to = performance.now() }) => ({ from, to }))
  const steady = [story.from, ...busy.map(({ to }) => to)].map((from, index) => ({
    from,
    to: busy[index]?.from ?? story.to,
  }))
  const moved = add(upgrades.map((upgrade) => upgrade.moved))
  const sums = (counts: readonly number[]) => [...counts, add(counts)].map(count)
  const worst = (windows: readonly Window[]) =>
    clients.map(({ load }) => milliseconds(Math.max(...windows.map((window) => load.latency(window).p99))))
  const rows = [
    ['', ...clients.map(({ kind }) => kind), 'all'],
    ['clients', ...sums(clients.map((one) => one.count))],
    ['requests', ...sums(results.map(({ requests }) => requests))],
    ['connections opened', ...sums(results.map(({ connections }) => connections))],
    ['connections moved', ...clients.map(() => ''), count(moved)],
    ['failed', ...sums(clients.map((one) => story.failuresOf(one)))],
    ['reconnects', ...sums(results.map(({ reconnects }) => reconnects))],
    ['longest pause', ...results.map(({ longestGap }) => milliseconds(longestGap))],
    ['p99 between upgrades', ...worst(steady)],
    ['p99 during upgrades', ...worst(busy)],
  ]
  const lines = rows.map((row) => align(row, [-22, ...row.slice(1).map(() => 16)]))
  return ['', paint('bold', lines[0] ?? ''), ...lines.slice(1), '', ...faults(story), ending(story, moved)]
}

type Window = { readonly from: number; readonly to: number }

function faults(story: Story): string[] {
  const all = story.clients.flatMap(({ load }) => load.result().faults)
  return all.slice(0, 10).map(({ kind, words }) => paint('red', `failed: ${kind}: ${words}`))
}

function ending(story: Story, moved: number): string {
  const what = `${story.upgrades.length} upgrades, one of them broken: ${count(moved)} open connections moved`
  if (isGood(story)) return paint('green', `✓ ${what}, no client noticed`)
  const lost = `${count(story.failures())} failures, ${count(story.sum('reconnects'))} reconnects`
  return paint('red', `✗ ${what}, ${lost}`)
}

function add(counts: readonly number[]): number {
  return counts.reduce((sum, one) => sum + one, 0)
}
