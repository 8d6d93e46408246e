/** The rows of `top`: services, their workers, what still drains, and an upgrade as it happens. */
import type { GenerationRecord } from '../../contract/messages.ts'
import type { Status, WorkerStatus } from '../../control/status.ts'
import { attempt } from '../../node/sessions.ts'
import { plainText } from '../../process/plain-text.ts'
import { downText } from '../down.ts'
import { bytesText, timeText } from '../output.ts'
import { isOwn, type Place } from '../places.ts'
import {
  addressesText,
  drainingOf,
  isDown,
  isUnknown,
  noteOf,
  phaseText,
  restartsText,
  type Seen,
  type State,
  stateText,
  sumOf,
  userOf,
  warningText,
  workersText,
} from '../rows.ts'
import { keyOf, type Look } from './looks.ts'
import { Progress, type Tone } from './progress.ts'

export const columns = [
  'name',
  'user',
  'state',
  'gen',
  'pid',
  'cpu',
  'memory',
  'conns',
  'restarts',
  'uptime',
  'note',
] as const
export type Column = (typeof columns)[number]

export function headOf(column: Column): string {
  return (column === 'note' ? 'listens on' : column).toUpperCase()
}

type Cells = Readonly<Partial<Record<Column, string>>>

export type Row = {
  readonly key: string
  /** The key of the service that it belongs to. */
  readonly service: string
  readonly name: string
  readonly place: Place
  /** Of a worker, or of one that drains. */
  readonly slot?: number
  /** How many the service has; 0 where that is not known. */
  readonly workers: number
  /** Nothing can be done with what only tells. */
  readonly isChoosable: boolean
  readonly tone?: Tone | undefined
  readonly cells: Cells
  /** In place of cells: a line that belongs to the service above. */
  readonly line?: string
}

export class Rows {
  readonly #progress = new Map<string, Progress>()

  of({ all, cpu }: Look): readonly Row[] {
    const keys = new Set(all.map(({ place, name }) => keyOf(place, name)))
    for (const key of this.#progress.keys()) if (!keys.has(key)) this.#progress.delete(key)
    const isSomewhereElse = all.some(({ place }) => !isOwn(place))
    return all.flatMap((seen) => {
      const user = isSomewhereElse ? userOf(seen.place) : undefined
      // What another user has answered may be anything.
      return attempt(() => this.#rowsOf(seen, cpu, user).map(cleaned)) ?? [unreadable(seen, user)]
    })
  }

  #rowsOf({ name, place, state }: Seen, cpu: Look['cpu'], user: string | undefined): readonly Row[] {
    const key = keyOf(place, name)
    const common = { name, place, workers: 0, isChoosable: true, key, service: key }
    const head = { name, ...(user !== undefined && { user }) }
    if (isUnknown(state) || isDown(state) || state.phase === 'silent') {
      return [{ ...common, tone: 'bad', cells: { ...head, ...restCells(state, cpu) } }]
    }
    const status = state as Status
    const { workers = [] } = status
    const several = workers.length > 1 ? workers : []
    const older = drainingOf(status)
    const line = this.#progressOf(key).lineOf(status)
    const lines = [
      ...(line === undefined ? [] : [line]),
      ...(status.warnings ?? []).map(({ text }) => ({ line: `warning: ${warningText(text)}`, tone: 'bad' as const })),
    ]
    return [
      {
        ...common,
        workers: workers.length,
        tone: toneOf(stateText(status)),
        cells: { ...head, ...serviceCells(status, cpu) },
      },
      ...lines.map((one, at) => ({ ...common, ...one, key: `${key} line ${at}`, isChoosable: false, cells: {} })),
      ...several.map((worker) => ({
        ...common,
        ...{ key: `${key} slot ${worker.slot}`, slot: worker.slot, workers: workers.length },
        ...{ tone: toneOf(workerState(worker)), cells: workerCells(worker, cpu) },
      })),
      ...older.map((one) => ({
        ...common,
        ...{ key: `${key} pid ${one.pid}`, isChoosable: false, tone: 'quiet' as const, cells: olderCells(one, cpu) },
      })),
    ]
  }

  #progressOf(key: string): Progress {
    const progress = this.#progress.get(key) ?? new Progress()
    this.#progress.set(key, progress)
    return progress
  }
}

function restCells(state: Exclude<State, Status>, cpu: Look['cpu']): Cells {
  if (isUnknown(state)) return { state: state.phase, note: state.why ?? state.unit ?? 'was never started' }
  const gen = String(state.generation)
  if (isDown(state)) return { state: state.phase, gen, note: downText(state) }
  return { state: state.phase, gen, pid: String(state.pid), cpu: cpuText(cpu.get(state.pid)), note: 'does not respond' }
}

function serviceCells(status: Status, cpu: Look['cpu']): Cells {
  const { generation, pid, memory, connections, uptime, workers = [] } = status
  const pids = workers.length > 1 ? workers.flatMap((one) => one.pid ?? []) : [pid]
  const used = pids.flatMap((one) => cpu.get(one) ?? [])
  const notes = workers.length > 1 ? [] : workers.flatMap(noteOf)
  return {
    state: workers.length > 1 ? `${stateText(status)} ${workersText(workers)}` : stateText(status),
    ...{ gen: String(generation), pid: String(pid) },
    cpu: cpuText(used.length === 0 ? undefined : used.reduce((sum, one) => sum + one, 0)),
    ...{ memory: bytesText(memory.resident), conns: String(connections), restarts: restartsText(status) },
    ...{ uptime: timeText(uptime), note: [addressesText(status), ...notes].join('  ') },
  }
}

function workerState({ state, phase }: WorkerStatus): string {
  return state === 'serving' ? phaseText(phase) : state
}

function workerCells(worker: WorkerStatus, cpu: Look['cpu']): Cells {
  const { slot, generation, pid, memory, connections, restarts } = worker
  return {
    ...{ name: `  slot ${slot}`, state: workerState(worker), gen: String(generation) },
    ...(pid !== undefined && { pid: String(pid), cpu: cpuText(cpu.get(pid)) }),
    ...{ memory: bytesText(memory), conns: String(connections), restarts: String(sumOf(restarts)) },
    note: noteOf(worker).join(''),
  }
}

function olderCells({ generation, pid, connections, memory, stage, slot }: GenerationRecord, cpu: Look['cpu']): Cells {
  return {
    ...{
      name: slot === undefined ? '  old' : `  slot ${slot} old`,
      state: stage ?? 'draining',
      gen: String(generation),
    },
    ...{ pid: String(pid), cpu: cpuText(cpu.get(pid)), memory: bytesText(memory), conns: String(connections) },
  }
}

function cpuText(percent: number | undefined): string {
  return percent === undefined ? '-' : `${percent.toFixed(percent < 10 ? 1 : 0)}%`
}

function toneOf(state: string): Tone | undefined {
  if (state === 'running') return undefined
  return ['starting', 'upgrading', 'overlapping', 'lame', 'draining'].includes(state) ? 'moving' : 'bad'
}

function unreadable({ name, place }: Seen, user: string | undefined): Row {
  const cells = { name, ...(user !== undefined && { user }), state: 'unknown', note: 'its response is not a status' }
  const key = keyOf(place, name)
  return { key, service: key, name, place, workers: 0, isChoosable: true, tone: 'bad', cells }
}

const longest = 200

/** One line each: paths and reasons may hold anything. */
function cleaned(row: Row): Row {
  const cells = Object.fromEntries(Object.entries(row.cells).map(([column, text]) => [column, oneLine(text)]))
  return { ...row, cells, ...(row.line !== undefined && { line: oneLine(row.line) }) }
}

function oneLine(text: string): string {
  const line = plainText(text).replace(/\s/g, ' ')
  return line.length > longest ? `${line.slice(0, longest)}…` : line
}
