/** The table of services: a row for each, wherever it is. */
import { userInfo } from 'node:os'
import type { GenerationRecord } from '../contract/messages.ts'
import type { Restarts, Status, WorkerStatus } from '../control/status.ts'
import { attempt } from '../node/sessions.ts'
import { type Down, downText, lastExitText } from './down.ts'
import type { Silent } from './find-service.ts'
import { bytesText, table, timeText } from './output.ts'
import { isOwn, type Place, userText } from './places.ts'

/** Nothing is known of it; with a reason, it may run all the same. */
export type Unknown = {
  readonly name: string
  readonly phase: 'unknown'
  readonly why?: string
  /** How a unit of its name fares. */
  readonly unit?: string
}

export type State = Status | Silent | Down | Unknown

export type Seen = { readonly name: string; readonly place: Place; readonly state: State }

/** Those that run first. */
export function listText(all: readonly Seen[]): string {
  const isSomewhereElse = all.some(({ place }) => !isOwn(place))
  const ordered = [runs, isDown, isUnknown].flatMap((is) => all.filter(({ state }) => is(state)))
  return table([
    ['NAME', ...(isSomewhereElse ? ['USER', 'FOLDER'] : []), ...columns],
    ...ordered.map(({ name, place, state }) => {
      const own = isSomewhereElse ? [userOf(place), place.folder] : []
      return [name, ...own, ...cellsOf(state).map(short)]
    }),
  ])
}

const columns = ['STATE', 'WORKERS', 'GENERATION', 'UPTIME', 'RESTARTS', 'MEMORY', 'LISTENS ON']

/** Whether it runs, though it may not answer. */
export function runs(state: State): state is Status | Silent {
  return !isDown(state) && !isUnknown(state)
}

/** What another user has answered may be anything. */
export function isShowable(state: unknown): state is State {
  return attempt(() => cellsOf(state as State)) !== undefined
}

export function isDown(state: State): state is Down {
  return 'at' in state
}

export function isUnknown(state: State): state is Unknown {
  return state.phase === 'unknown'
}

/** What does not fit a column stands behind the last one. */
function cellsOf(state: State): string[] {
  if (isUnknown(state)) return [state.phase, ...none(columns.length - 1), unknownText(state)]
  const generation = String(state.generation)
  if (isDown(state)) return [state.phase, '-', generation, ...none(columns.length - 3), downText(state)]
  if (state.phase === 'silent')
    return [state.phase, '-', generation, ...none(columns.length - 3), `pid ${state.pid} does not respond`]
  return cellsOfStatus(state as Status)
}

function none(count: number): string[] {
  return Array.from({ length: count }, () => '-')
}

function unknownText({ why, unit }: Unknown): string {
  return why === undefined ? (unit ?? 'was never started') : 'cannot be reached'
}

const longestCell = 200

/** One that listens on a hundred addresses must not widen all rows. */
function short(cell: string): string {
  return cell.length > longestCell ? `${cell.slice(0, longestCell)}…` : cell
}

export function userOf({ owner }: Place): string {
  if (owner !== undefined) return userText(owner)
  return attempt(() => userInfo().username) ?? String(process.geteuid?.())
}

export function workersText(workers: readonly WorkerStatus[] | undefined): string {
  if (workers === undefined) return '-'
  return `${workers.filter(({ state }) => state === 'serving').length}/${workers.length}`
}

function cellsOfStatus(status: Status): string[] {
  const { generation, uptime, memory, workers = [] } = status
  const counts = [workersText(status.workers), String(generation), timeText(uptime), restartsText(status)]
  const notes = workers.length > 1 ? workers.flatMap(noteOf) : []
  return [stateText(status), ...counts, bytesText(memory.resident), addressesText(status), ...notes]
}

export function stateText(status: Status): string {
  const { phase, workers = [] } = status
  if (serveAll(status)) return phaseText(phase)
  return workers.length > 1 ? 'degraded' : (workers[0]?.state ?? phase)
}

export function serveAll({ workers = [] }: Status): boolean {
  return workers.every(({ state }) => state === 'serving')
}

export function phaseText(phase: string): string {
  return phase === 'ready' ? 'running' : phase
}

export function restartsText({ workers }: Status): string {
  return workers === undefined ? '-' : String(workers.reduce((sum, one) => sum + sumOf(one.restarts), 0))
}

export function addressesText({ listeners }: Status): string {
  return listeners.map(({ address }) => address).join(', ')
}

/** Those that have handed over. */
export function drainingOf({ generations, workers = [] }: Status): readonly GenerationRecord[] {
  const serving = workers.map(({ pid }) => pid)
  return workers.length > 1 ? generations.filter(({ pid }) => !serving.includes(pid)) : generations.slice(0, -1)
}

/** Of one that does not serve. */
export function noteOf({ slot, state, lastExit }: WorkerStatus): string[] {
  if (state === 'serving') return []
  return [`slot ${slot} ${state}${lastExit === undefined ? '' : `, last: ${lastExitText(lastExit)}`}`]
}

/** The first line, and of what the process printed last the line with its error. */
export function warningText(text: string): string {
  const [first = '', ...rest] = text.split('\n')
  const error = rest.find((line) => /^\s*(Uncaught )?\w*(Error|Exception)\b/.test(line))?.trim()
  return error === undefined ? first.replace(/ It printed:$/, '') : `${first} ${error}`
}

export function sumOf({ crash, hang, memory }: Restarts): number {
  return crash + hang + memory
}
