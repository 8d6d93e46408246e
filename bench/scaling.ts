/**
 * `npm run bench:scaling`: how an upgrade grows with connections, listeners, state, and the
 * upgrades before it. Writes docs/benchmarks/scaling.json.
 */
import './environment.ts'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { commandLine } from './command-line.ts'
import { runInterruptibly } from './interruption.ts'
import { describeMachine, type Machine } from './machine.ts'
import { endOpenLab, type Link, type Load, measureChain, measurePoint, type Point } from './scaling/measure.ts'

export type Scaling = {
  readonly command: string
  readonly machine: Machine
  readonly rounds: number
  readonly connections: readonly Point[]
  readonly listeners: readonly Point[]
  /** Sizes in bytes. */
  readonly state: readonly Point[]
  readonly chain: readonly Link[]
}

const { values } = parseArgs({
  options: {
    rounds: { type: 'string', default: '5' },
    upgrades: { type: 'string', default: '1000' },
    quick: { type: 'boolean', default: false },
    output: { type: 'string', default: fileURLToPath(new URL('../../docs/benchmarks/scaling.json', import.meta.url)) },
  },
})
const rounds = values.quick ? 1 : Number(values.rounds)
const longest = Number(values.upgrades)
if (!(rounds >= 1 && longest >= 1)) {
  throw new Error('usage: bench:scaling [--rounds N] [--upgrades N] [--quick] [--output FILE]')
}
const nothing: Load = { connections: 0, listeners: 1, state: 0 }
const mebibyte = 2 ** 20
const sizes = values.quick
  ? { connections: [10, 100], listeners: [1, 10], state: [2 ** 10, mebibyte], chain: [1, 3] }
  : {
      connections: [10, 100, 1_000, 10_000],
      listeners: [1, 10, 100],
      // The most that is allowed is 64 MiB with the frame around it.
      state: [2 ** 10, 64 * 2 ** 10, mebibyte, 8 * mebibyte, 64 * mebibyte - 2 ** 10],
      chain: [1, 10, 100, 1_000].filter((length) => length <= longest),
    }

await runInterruptibly(async () => {
  const machine = describeMachine()
  for (const [name, value] of Object.entries(machine)) console.log(`${name.padEnd(7)} ${value}`)
  const scaling: Scaling = {
    command: commandLine('bench:scaling'),
    machine,
    rounds,
    connections: await grow('connections', sizes.connections),
    listeners: await grow('listeners', sizes.listeners),
    state: await grow('state', sizes.state),
    chain: await growChain(),
  }
  mkdirSync(dirname(values.output), { recursive: true })
  writeFileSync(values.output, `${JSON.stringify(scaling, (_, value) => round(value), 2)}\n`)
  console.log(`\n${values.output}`)
}, endOpenLab)

async function grow(what: keyof Load, all: readonly number[]): Promise<Point[]> {
  console.log(`\n${what.padEnd(12)} until commit, ms  handing over, ms  growth of the old, MB  the new, MB`)
  const points: Point[] = []
  for (const size of all) {
    const point = await measurePoint(size, { ...nothing, [what]: size }, rounds)
    points.push(point)
    const numbers = [point.commit, point.handOver, point.growth, point.memory]
    console.log(`${`${size}`.padEnd(12)} ${numbers.map(({ median }) => median.toFixed(1).padStart(12)).join('')}`)
  }
  return points
}

async function growChain(): Promise<Link[]> {
  console.log('\nupgrades     ms each   MB of the last   its descriptors')
  const links: Link[] = []
  for await (const link of measureChain(sizes.chain)) {
    links.push(link)
    console.log(
      `${`${link.size}`.padEnd(12)} ${link.upgrade.median.toFixed(1)}   ${link.memory.toFixed(1)}   ${link.descriptors}`,
    )
  }
  return links
}

function round(value: unknown): unknown {
  return typeof value === 'number' && !Number.isInteger(value) ? Number(value.toPrecision(3)) : value
}
