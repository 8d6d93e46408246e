/** Which services a command means: one, those of a file, or every one; and each of them in turn. */
import { everyService } from '../check.ts'
import type { RefusedService } from '../config/service.ts'
import { clientOf } from '../control/client.ts'
import { CookError } from '../errors.ts'
import { runDirectory } from '../process/run-dir.ts'
import { type Described, described, type FileOptions, findDescribed } from './described.ts'
import { allDown, explained } from './down.ts'
import { allRunning } from './find-service.ts'
import { exitCodes, type Heard, hear, paint, print, printJson, table, tell, UsageError } from './output.ts'
import { servesText } from './start.ts'

/** What becomes of one service. */
export type Entry = { readonly name: string; run(): Promise<number> }

type Options = FileOptions & { readonly json?: boolean }

/** Of a command that goes by names alone, as `stop`; undefined: one, as it was typed. */
export async function namesMeant(
  words: readonly string[],
  options: Options,
  every: () => Promise<readonly string[]> = everyRunning,
): Promise<readonly string[] | undefined> {
  if (isEvery(words)) return every()
  const found = await findDescribed(words, options)
  if (found !== undefined) return found.services.map(({ name }) => name)
  return words.length > 1 ? words : undefined
}

/** Of a command that starts something; a name stands for what is known of it. */
export async function servicesMeant(
  words: readonly string[],
  options: Options,
  every: () => Promise<readonly string[]> = everyRunning,
): Promise<readonly (Described | RefusedService | string)[] | undefined> {
  if (isEvery(words)) return every()
  const found = await findDescribed(words, options)
  if (found !== undefined) return described(found, options)
  if (options.env !== undefined) {
    throw new UsageError('--env is for a configuration, and none is named or lies here')
  }
  return words.length > 1 ? words : undefined
}

function isEvery(words: readonly string[]): boolean {
  return words.length === 1 && words[0] === everyService
}

async function everyRunning(): Promise<readonly string[]> {
  const names = (await allRunning()).map(({ client }) => client.name)
  if (names.length === 0) throw new CookError('ERR_COOK_NONE_RUNNING', { folder: runDirectory(process.env) })
  return names
}

/** Those that are down too. */
export async function everyKnown(): Promise<readonly string[]> {
  const running = (await allRunning()).map(({ client }) => client.name)
  const names = [...running, ...allDown(running).map(({ name }) => name)].sort()
  if (names.length === 0) throw new CookError('ERR_COOK_NONE_RUNNING', { folder: runDirectory(process.env) })
  return names
}

export async function downNames(): Promise<readonly string[]> {
  const running = (await allRunning()).map(({ client }) => client.name)
  return allDown(running).map(({ name }) => name)
}

export async function everyDown(): Promise<readonly string[]> {
  const names = await downNames()
  if (names.length === 0) throw new CookError('ERR_COOK_NONE_DOWN', { folder: runDirectory(process.env) })
  return names
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
  for (const { name, run } of entries) {
    const { code, said, failure } = await hear(() => run().catch((error) => tell(explained(error))))
    const text = failure === undefined ? await stateText(name) : failureText(code, failure.message)
    ends.push({ name, code, failure, text: code === exitCodes.done ? text : paint('red', text) })
    const steps = said.length > 1 ? { steps: said } : said[0]
    list.push({ name, ...(steps as object | undefined), exitCode: code, ...(failure && { error: failure }) })
  }
  if (json === true) printJson(list)
  else if (ends.length > 1) print(`\n${table([['name', 'result'], ...ends.map(({ name, text }) => [name, text])])}`)
  const codes = ends.map(({ code }) => code)
  const [first = exitCodes.done] = codes
  if (codes.every((code) => code === first)) return first
  return ends.every((end) => end.code === exitCodes.done || isHarmless(end)) ? exitCodes.done : exitCodes.failed
}

function failureText(code: number, message: string): string {
  const [line = ''] = message.split('\n')
  return code === exitCodes.notRunning ? line : `failed: ${line}`
}

async function stateText(name: string): Promise<string> {
  const status = await clientOf(runDirectory(process.env), name)
    .status()
    .catch(() => undefined)
  return status === undefined ? 'is not running' : servesText(status)
}
