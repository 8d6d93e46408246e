/** Which services a command means: one, those of a file, or every one; and each of them in turn. */
import { everyService } from '../check.ts'
import type { RefusedService } from '../config/service.ts'
import type { Status } from '../control/status.ts'
import { CookError } from '../errors.ts'
import { runDirectory } from '../process/run-dir.ts'
import { type Described, described, type FileOptions, findDescribed } from './described.ts'
import { allDown, explained } from './down.ts'
import { allRunning } from './find-service.ts'
import type { Named } from './in-place.ts'
import { exitCodes, type Heard, hear, paint, print, printJson, table, tell, UsageError } from './output.ts'
import { type Place, placeOf } from './places.ts'
import { runs, warningText } from './rows.ts'
import { allServices, stateAt } from './seen.ts'
import { servesText } from './start.ts'

/** What becomes of one service. */
export type Entry = Named & { run(): Promise<number> }

type Options = FileOptions & { readonly json?: boolean }

/** Of a command that goes by names alone, as `stop`; undefined: one, as it was typed. */
export async function namesMeant(
  words: readonly string[],
  options: Options,
  every: () => Promise<readonly Named[]> = everyRunning,
): Promise<readonly Named[] | undefined> {
  if (isEvery(words)) return every()
  const found = await findDescribed(words, options)
  if (found !== undefined) return found.services.map(({ name }) => ({ name }))
  return words.length > 1 ? words.map((name) => ({ name })) : undefined
}

/** Of a command that starts something; a name stands for what is known of it. */
export async function servicesMeant(
  words: readonly string[],
  options: Options,
  every: () => Promise<readonly Named[]> = everyRunning,
): Promise<readonly (Described | RefusedService | Named)[] | undefined> {
  if (isEvery(words)) return every()
  const found = await findDescribed(words, options)
  if (found !== undefined) return described(found, options)
  if (options.env !== undefined) {
    throw new UsageError('--env needs a configuration, and this folder has none: name one')
  }
  return words.length > 1 ? words.map((name) => ({ name })) : undefined
}

function isEvery(words: readonly string[]): boolean {
  return words.length === 1 && words[0] === everyService
}

async function everyRunning(): Promise<readonly Named[]> {
  // One that cannot be asked is named too.
  return demandAny((await allServices()).filter(({ state }) => runs(state) || 'why' in state))
}

/** Those that are down too. */
export async function everyKnown(): Promise<readonly Named[]> {
  return demandAny([...(await allServices())].sort((one, other) => (one.name < other.name ? -1 : 1)))
}

function demandAny(all: readonly Named[]): readonly Named[] {
  if (all.length === 0) throw new CookError('ERR_COOK_NONE_RUNNING', { folder: runDirectory(process.env) })
  return all
}

/** In the own folder alone: what is down elsewhere is started by its unit. */
export async function downNames(): Promise<readonly string[]> {
  const running = (await allRunning()).map(({ client }) => client.name)
  return allDown(running).map(({ name }) => name)
}

export async function everyDown(): Promise<readonly Named[]> {
  const names = await downNames()
  if (names.length === 0) throw new CookError('ERR_COOK_NONE_DOWN', { folder: runDirectory(process.env) })
  return names.map((name) => ({ name }))
}

type End = {
  readonly name: string
  readonly code: number
  readonly text: string
  readonly failure: Heard['failure'] | undefined
}

export function refusal({ name, refused }: RefusedService): Entry {
  return { name, run: async () => tell(new Error(`${name} was not started: ${refused}`)) }
}

/**
 * One after the other, all of them, and then a table; with JSON, a list. One that fails is no
 * reason to leave out the next. `isHarmless`: an end that is no failure as long as another one was
 * done.
 */
export async function inTurn(
  entries: readonly Entry[],
  { json }: Options,
  isHarmless: (end: Pick<End, 'code' | 'failure'>) => boolean = () => false,
): Promise<number> {
  const ends: End[] = []
  const list: unknown[] = []
  for (const { name, place, run } of entries) {
    const { code, said, failure } = await hear(() => run().catch((error) => tell(explained(error))))
    const text = failure === undefined ? await stateText(name, place) : failureText(code, failure.message)
    ends.push({ name, code, failure, text: code === exitCodes.done ? text : paint('red', text) })
    const steps = said.length > 1 ? { steps: said } : said[0]
    list.push({ name, ...(steps as object | undefined), exitCode: code, ...(failure && { error: failure }) })
  }
  if (json === true) printJson(list)
  else if (ends.length > 1) print(`\n${table([['NAME', 'RESULT'], ...ends.map(({ name, text }) => [name, text])])}`)
  const codes = ends.map(({ code }) => code)
  const [first = exitCodes.done] = codes
  if (codes.every((code) => code === first)) return first
  return ends.every((end) => end.code === exitCodes.done || isHarmless(end)) ? exitCodes.done : exitCodes.failed
}

function failureText(code: number, message: string): string {
  const line = warningText(message)
  return code === exitCodes.notRunning ? line : `failed: ${line}`
}

async function stateText(name: string, place: Place = placeOf(name)): Promise<string> {
  const state = await stateAt(name, place)
  return runs(state) && state.phase !== 'silent' ? servesText(state as Status) : 'is not running'
}
