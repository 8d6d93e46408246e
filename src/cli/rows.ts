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
  const where = isSomewhereElse ? ['user', 'folder'] : []
  return table([
    [
      ...['name', ...where, 'pid', 'generation', 'phase', 'workers', 'uptime', 'restarts', 'memory', 'connections'],
      'listens on',
    ],
    ...ordered.map(({ name, place, state }) => {
      const own = isSomewhereElse ? [userOf(place), place.folder] : []
      return [name, ...own, ...cellsOf(state).map(short)]
    }),
  ])
}

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

function cellsOf(state: State): string[] {
  if (isUnknown(state))
    return ['-', '-', state.phase, state.why === undefined ? (state.unit ?? 'was never started') : 'cannot be reached']
  const generation = String(state.generation)
  if (isDown(state)) return ['-', generation, state.phase, downText(state)]
  const told = state.phase === 'silent' ? [state.phase, 'does not respond'] : numbers(state as Status)
  return [String(state.pid), generation, ...told]
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

function numbers(status: Status): string[] {
  const { uptime, memory, connections, workers = [] } = status
  const common = [stateText(status), workersText(status.workers), timeText(uptime), restartsText(status)]
  const notes = workers.length > 1 ? workers.flatMap(noteOf) : []
  return [...common, bytesText(memory.resident), String(connections), addressesText(status), ...notes]
}

export function stateText({ phase, workers = [] }: Status): string {
  const states = workers.map((one) => one.state)
  if (states.every((one) => one === 'serving')) return phase
  return states.length > 1 ? 'degraded' : (states[0] ?? phase)
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

export function sumOf({ crash, hang, memory }: Restarts): number {
  return crash + hang + memory
}
