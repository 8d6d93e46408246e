/** What the demo came to, by kind of client, and what to do next. */
import type { Story } from './story.ts'
import { align, count, milliseconds, paint } from './text.ts'

/** A process that is killed takes along what it is answering; nothing else may be lost. */
export function isGood(story: Story): boolean {
  const { versions, events, crashCost, webSocketFaults } = story
  const { requests, connections } = story.losses()
  const upgrades = events.filter(({ kind }) => kind === 'upgrade')
  const refused = upgrades.filter(({ isRefused }) => isRefused)
  const moved = versions.slice(1).filter(({ state }) => state !== 'refused')
  return (
    requests === crashCost.requests &&
    connections === crashCost.connections &&
    webSocketFaults === 0 &&
    events.length === story.eventsMeant &&
    refused.length === 1 &&
    moved.every((version) => version.moved > 0)
  )
}

/** The times are those of the worst event, and of the worst stretch between two. */
export function verdict(story: Story): string[] {
  const { clients, events, versions } = story
  const results = clients.map(({ load }) => load.result())
  const busy = events.map(({ from, to = performance.now() }) => ({ from, to }))
  const steady = [story.from, ...busy.map(({ to }) => to)].map((from, index) => ({
    from,
    to: busy[index]?.from ?? story.to,
  }))
  const sums = (counts: readonly number[]) => [...counts, add(counts)].map(count)
  const worst = (windows: readonly Window[]) =>
    clients.map(({ load }) => milliseconds(Math.max(...windows.map((window) => load.latency(window).p99))))
  const losses = clients.map((one) => story.losses([one]))
  const moved = add(versions.map((version) => version.moved))
  const rows = [
    ['', ...clients.map(({ kind }) => kind), 'all'],
    ['clients', ...sums(clients.map((one) => one.count))],
    ['requests', ...sums(results.map(({ requests }) => requests))],
    ['connections opened', ...sums(results.map(({ connections }) => connections))],
    ['connections moved', ...clients.map(() => ''), count(moved)],
    ['requests lost', ...sums(losses.map(({ requests }) => requests))],
    ['longest pause', ...results.map(({ longestGap }) => milliseconds(longestGap))],
    ['p99 without upgrades', ...worst(steady)],
    ['p99 during upgrades', ...worst(busy)],
  ]
  const lines = rows.map((row) => align(row, [-22, ...row.slice(1).map(() => 16)]))
  return ['', paint('bold', lines[0] ?? ''), ...lines.slice(1), '', ...faults(story), ...ending(story), '', ...next]
}

const next = [
  'Next, with a program of your own:',
  '  npx cook-daemon prove app.js     the same upgrades, under clients that never retry',
  '  npx cook-daemon start app.js --workers max',
]

type Window = { readonly from: number; readonly to: number }

function faults(story: Story): string[] {
  if (isGood(story)) return []
  const all = story.clients.flatMap(({ load }) => load.result().faults)
  return all.slice(0, 10).map(({ kind, words }) => paint('red', `failed: ${kind}: ${words}`))
}

function ending(story: Story): string[] {
  const { crashCost, webSocketFaults, webSocket } = story
  const upgrades = story.events.filter(({ kind }) => kind === 'upgrade').length
  const { requests, connections } = story.losses()
  const lost = requests - crashCost.requests
  const cut = connections - crashCost.connections
  const atCrash =
    crashCost.requests === 0 ? 'nothing lost' : `lost the ${crashCost.requests} requests that had been sent to it`
  const open = `${count(webSocket?.count ?? 0)} messages, each answered in order`
  const lines = [
    `${upgrades} upgrades, one of them to a version that fails: ${lost === 0 && cut === 0 ? 'nothing' : `${lost} requests and ${cut} connections`} lost`,
    `one process of three killed: ${atCrash}; ${crashCost.connections} idle clients reconnected, none was refused`,
    `the WebSocket ${webSocketFaults === 0 ? `stayed open: ${open}` : `was closed, or answered wrongly, ${webSocketFaults} times`}`,
  ]
  return lines.map((line) => (isGood(story) ? paint('green', `✓ ${line}`) : paint('red', `✗ ${line}`)))
}

function add(counts: readonly number[]): number {
  return counts.reduce((sum, one) => sum + one, 0)
}
