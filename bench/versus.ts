/**
 * `npm run bench`: this project beside what else replaces a running server, all under the same
 * load. Writes docs/benchmarks/results.json; with `--workers N`, where each system has N processes
 * of the program, results-workers.json.
 */
import './environment.ts'
import { mkdirSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { commandLine } from './command-line.ts'
import { runInterruptibly } from './interruption.ts'
import { describeMachine } from './machine.ts'
import { measureOnce, type Plan, type Run, step } from './versus/measure.ts'
import { nodeAlone } from './versus/node-alone.ts'
import { withCommand, withServe } from './versus/ours.ts'
import { pm2 } from './versus/pm2.ts'
import { proxies } from './versus/proxies.ts'
import { type Result, resultOf, type SystemResult } from './versus/result.ts'
import { endAllSites } from './versus/site.ts'
import type { Availability, System } from './versus/system.ts'

const full: Omit<Plan, 'workers'> = {
  runs: 3,
  upgrades: 5,
  keepAlive: 100,
  single: 20,
  webSockets: 50,
  steady: 4_000,
  every: 4_000,
  rounds: 4,
  requests: 10_000,
}
/** For the tests: everything happens, and nothing is worth a look. */
const quick: typeof full = {
  runs: 1,
  upgrades: 2,
  keepAlive: 10,
  single: 3,
  webSockets: 5,
  steady: 1_000,
  every: 1_000,
  rounds: 1,
  requests: 500,
}
const { values } = parseArgs({
  options: {
    workers: { type: 'string', default: '1' },
    systems: { type: 'string' },
    runs: { type: 'string' },
    upgrades: { type: 'string' },
    quick: { type: 'boolean', default: false },
    output: { type: 'string' },
  },
})
const workers = values.workers === 'max' ? availableParallelism() : Number(values.workers)
const systems: readonly System[] = [
  withServe(workers),
  withCommand(workers),
  ...nodeAlone(workers),
  pm2(workers),
  ...proxies(workers),
]
const sizes = values.quick ? quick : full
const plan: Plan = {
  workers,
  ...sizes,
  runs: Number(values.runs ?? sizes.runs),
  upgrades: Number(values.upgrades ?? sizes.upgrades),
}
const file = `../../docs/benchmarks/results${workers === 1 ? '' : '-workers'}.json`
const output = values.output ?? fileURLToPath(new URL(file, import.meta.url))
const chosen = values.systems?.split(',') ?? systems.map(({ name }) => name)
if (
  !(Number.isInteger(workers) && workers >= 1 && plan.runs >= 1 && plan.upgrades >= 1) ||
  !chosen.every((name) => systems.some((system) => system.name === name))
) {
  throw new Error(`usage: bench [--workers N|max] [--systems NAME,…] [--runs N] [--upgrades N] [--quick] [--output FILE]
systems: ${systems.map(({ name }) => name).join(', ')}`)
}

await runInterruptibly(async (signal) => {
  const result = await measureAll(signal)
  mkdirSync(dirname(output), { recursive: true })
  writeFileSync(output, textOf(result))
  console.log(`\n${output}`)
}, endAllSites)

async function measureAll(signal: AbortSignal): Promise<Result> {
  const machine = describeMachine()
  for (const [name, value] of Object.entries(machine)) console.log(`${name.padEnd(7)} ${value}`)
  const found: { system: System; availability: Availability; runs: Run[] }[] = []
  for (const system of systems.filter(({ name }) => chosen.includes(name))) {
    const availability = await system.look()
    found.push({ system, availability, runs: [] })
    const words = 'missing' in availability ? `not measured: ${availability.missing}` : availability.version
    console.log(`${system.name.padEnd(14)} ${words}`)
  }
  for (let run = 0; run < plan.runs; run++) {
    console.log(`\nrun ${run + 1} of ${plan.runs}`)
    // Each begins with another one: who comes first, or after whom, is nobody's advantage.
    const order = found.map((_, at) => found[(at + run) % found.length] ?? found[0])
    for (const one of order) {
      if (one === undefined || 'missing' in one.availability) continue
      try {
        const measured = await measureOnce(one.system, plan)
        one.runs.push(measured)
        console.log(line(one.system, measured))
      } catch (error) {
        if (signal.aborted) throw error
        // The others have their numbers all the same.
        console.log(`${one.system.name} failed:`, error)
        one.availability = { missing: `run ${run + 1} failed` }
        process.exitCode = 1
      }
    }
  }
  return {
    command: commandLine('bench'),
    machine,
    plan,
    systems: found.map(({ system, availability, runs }): SystemResult => {
      const { name, title, setup, documentation } = system
      if ('missing' in availability) return { name, title, setup, documentation, missing: availability.missing }
      return resultOf(system, availability.version, runs, step)
    }),
  }
}

function line({ name }: System, { felt, triggers, memory, gone }: Run): string {
  const lost = Object.values(felt.lost).reduce((sum, count) => sum + count, 0)
  const last = gone.map((time) => (time === null ? 'stays' : `${Math.round(time)}`)).join(' ')
  const kinds = Object.entries(felt.lost).map(([kind, count]) => `${kind} ${count}`)
  return [
    `${name.padEnd(14)} ${lost} of ${felt.answers + lost} failed in ${triggers.length} upgrades${kinds.length > 0 ? ` (${kinds.join(', ')})` : ''}`,
    `${felt.kept} of ${plan.keepAlive} connections and ${felt.webSocketsKept} of ${plan.webSockets} WebSockets kept`,
    `p99.9 ${felt.steady.p999.toFixed(1)} -> ${felt.upgrades.p999.toFixed(1)} ms`,
    `old one gone after ${last} ms`,
    `${memory.toFixed(0)} MB`,
  ].join(', ')
}

/** A list of numbers in one line: half of the file would be line breaks. */
function textOf(result: Result): string {
  const text = JSON.stringify(result, undefined, 2)
  return `${text.replace(/\[\s+(-?[\d.]+(?:,\s+-?[\d.]+)*)\s+\]/g, (_, list: string) => `[${list.replace(/\s+/g, ' ')}]`)}\n`
}
