/**
 * The result of the comparison, as it stands in docs/benchmarks/results.json: medians over the
 * runs, with the least and the most.
 */
import type { Latency } from '../../test/support/load/timeline.ts'
import type { Machine } from '../machine.ts'
import { type Summary, summarize } from '../statistics.ts'
import type { Plan, Run } from './measure.ts'
import type { System } from './system.ts'

export type Result = {
  readonly command: string
  readonly machine: Machine
  readonly plan: Plan
  readonly systems: readonly SystemResult[]
}

type About = Pick<System, 'name' | 'title' | 'setup' | 'documentation'>
export type SystemResult = (About & { readonly missing: string }) | Measured

/** Times in milliseconds, memory in megabytes. */
export type Measured = About & {
  readonly version: string
  /** HTTP requests, for each upgrade. */
  readonly failed: Summary
  /** Of all runs together, for each upgrade. */
  readonly failedByKind: Readonly<Record<string, number>>
  /** Before the first upgrade, in all runs. */
  readonly failedBefore: number
  /** WebSocket messages without an answer, for each upgrade. */
  readonly lostMessages: Summary
  /** Keep-alive connections and WebSockets that lasted through all upgrades of a run. */
  readonly kept: Summary
  readonly webSocketsKept: Summary
  /** Keep-alive clients that had to connect again, for each upgrade. */
  readonly reconnects: Summary
  /**
   * Part of the WebSocket messages that the newest version answers a while after the last upgrade.
   */
  readonly webSocketsOnNewest: Summary
  readonly steady: Felt
  readonly upgrades: Felt
  readonly firstAnswer: Summary
  /** From the trigger to the end of the old process; null if it stayed at all upgrades. */
  readonly gone: Summary | null
  /** Old processes that were still there when the load ended, of those of all upgrades. */
  readonly stayed: number
  readonly memory: Summary
  readonly memoryAfter: Summary
  readonly throughput: Summary
  /** Of the first run. */
  readonly timeline: Timeline
}

/** Of keep-alive clients. */
export type Felt = Readonly<Record<'p50' | 'p99' | 'p999' | 'gap', Summary>>

export type Timeline = {
  /** Milliseconds. */
  readonly step: number
  /** Milliseconds from its begin. */
  readonly triggers: readonly number[]
  /** Answers in each step, for each generation. */
  readonly answers: readonly (readonly number[])[]
  readonly lost: readonly number[]
}

export function resultOf(system: System, version: string, runs: readonly Run[], step: number): Measured {
  const upgrades = runs.reduce((sum, { triggers }) => sum + triggers.length, 0)
  const each = (value: (run: Run) => number): Summary => rounded(summarize(runs.map(value)))
  const gone = runs.flatMap((run) => run.gone)
  const left = gone.filter((time) => time !== null)
  const [first] = runs
  if (first === undefined) throw new Error('there was no run')
  return {
    name: system.name,
    title: system.title,
    setup: system.setup,
    documentation: system.documentation,
    version,
    failed: each(({ felt, triggers }) => sum(Object.values(felt.lost)) / triggers.length),
    failedByKind: kindsOf(runs, upgrades),
    failedBefore: sum(runs.map(({ felt }) => felt.lostBefore)),
    lostMessages: each(({ felt, triggers }) => felt.lostMessages / triggers.length),
    kept: each(({ felt }) => felt.kept),
    webSocketsKept: each(({ felt }) => felt.webSocketsKept),
    reconnects: each(({ felt, triggers }) => felt.reconnects / triggers.length),
    webSocketsOnNewest: each(({ felt }) => felt.webSocketsOnNewest),
    steady: feltOf(runs.map(({ felt }) => felt.steady)),
    upgrades: feltOf(runs.map(({ felt }) => felt.upgrades)),
    firstAnswer: rounded(summarize(runs.flatMap((run) => run.firstAnswers.filter((time) => time !== null)))),
    gone: left.length === 0 ? null : rounded(summarize(left)),
    stayed: gone.length - left.length,
    memory: each(({ memory }) => memory),
    memoryAfter: each(({ memoryAfter }) => memoryAfter),
    throughput: rounded(summarize(runs.flatMap(({ throughput }) => throughput))),
    timeline: {
      step,
      triggers: first.triggers.map(Math.round),
      answers: first.felt.timeline.answers.map(({ counts }) => counts),
      lost: first.felt.timeline.lost,
    },
  }
}

function kindsOf(runs: readonly Run[], upgrades: number): Record<string, number> {
  const kinds = new Set(runs.flatMap(({ felt }) => Object.keys(felt.lost)))
  return Object.fromEntries(
    [...kinds].map((kind) => [
      kind,
      round(sum(runs.map(({ felt }) => Object.entries(felt.lost).find(([key]) => key === kind)?.[1] ?? 0)) / upgrades),
    ]),
  )
}

function feltOf(parts: readonly (Latency & { readonly gap: number })[]): Felt {
  const each = (key: 'p50' | 'p99' | 'p999' | 'gap') => rounded(summarize(parts.map((part) => part[key])))
  return { p50: each('p50'), p99: each('p99'), p999: each('p999'), gap: each('gap') }
}

function rounded({ min, median, max, n }: Summary): Summary {
  return { min: round(min), median: round(median), max: round(max), n }
}

/** Three digits: what is behind them is noise, and a change of a file. */
function round(value: number): number {
  return Number(value.toPrecision(3))
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
