/** The commands as they are typed: for one service, those of a configuration, or every one. */
import { everyService } from '../check.ts'
import { isConfigName } from '../config/find.ts'
import type { RefusedService } from '../config/service.ts'
import { clientOf } from '../control/client.ts'
import { CookError } from '../errors.ts'
import { runDirectory } from '../process/run-dir.ts'
import { type Described, described, type FileOptions, findDescribed } from './described.ts'
import { type Down, downOf } from './down.ts'
import type { StopOptions } from './end-silent.ts'
import { restartDescribed, startDescribed, upgradeDescribed } from './file-commands.ts'
import { checkedName, type Silent, silentOf } from './find-service.ts'
import { downNames, type Entry, everyDown, everyKnown, inTurn, namesMeant, refusal, servicesMeant } from './meant.ts'
import { exitCodes, print, printJson, UsageError } from './output.ts'
import type { StartOptions } from './program.ts'
import { type RestartOptions, restart } from './restart.ts'
import { run, runProgram } from './run.ts'
import { recordFor, start, startFrom } from './start.ts'
import { listText, status } from './status.ts'
import { stop } from './stop.ts'
import { type UpgradeCommandOptions, upgrade } from './upgrade.ts'

type One = Described | RefusedService | string

export async function startMeant(
  script: string | undefined,
  args: readonly string[],
  options: FileOptions,
): Promise<number> {
  const isOne = script !== undefined && script !== everyService && !isConfigName(script)
  if (isOne) return start(script, args, options)
  const all = await servicesMeant(script === undefined ? [] : [script, ...args], options, everyDown)
  if (all !== undefined)
    return inTurn(
      entriesOf(all, startDescribed, (name) => startKnown(name, options)),
      options,
    )
  const down = await downNames()
  if (down.length === 0) {
    throw new UsageError('what is to be started? Name a program, or describe services in a cook.config.json')
  }
  if (down.length === 1 && down[0] !== undefined) return startKnown(down[0], options)
  throw new UsageError(`which one? These are down: ${down.join(', ')}; all means each of them`)
}

/** In the foreground there is one. */
export async function runMeant(script: string, args: readonly string[], options: FileOptions): Promise<number> {
  const found = isConfigName(script) ? await findDescribed([script, ...args], options) : undefined
  if (found === undefined) return run(script, args, options)
  const names = found.services.map(({ name }) => name)
  if (names.length > 1) throw new UsageError(`which one? ${found.file} has ${names.join(', ')}, and run is for one`)
  const [one] = described(found, options)
  if (one === undefined || 'refused' in one) return one === undefined ? exitCodes.usage : refusal(one).run()
  const keep = options.keep === true ? { keep: true } : {}
  return runProgram(one.program, { ...one.options, ...keep }, { ...process.env, ...one.env })
}

async function startKnown(name: string, options: StartOptions): Promise<number> {
  const known = recordFor(name)
  if (known === undefined) throw new CookError('ERR_COOK_NOT_KNOWN', { name, folder: runDirectory(process.env) })
  return startFrom(known, options)
}

/** Without `--or-start FILE`, words behind a name that is no file are arguments of the program. */
export async function upgradeMeant(
  name: string | undefined,
  args: readonly string[],
  options: UpgradeCommandOptions & FileOptions,
): Promise<number> {
  const { orStart } = options
  const isFile = typeof orStart === 'string' && isConfigName(orStart)
  const words = [...(isFile ? [orStart] : []), ...(name === undefined ? [] : [name])]
  const isOne =
    !isFile && (typeof orStart === 'string' || (name !== undefined && !isConfigName(name) && name !== everyService))
  const all =
    isOne || (args.length > 0 && name === undefined) ? undefined : await servicesMeant([...words, ...args], options)
  if (all === undefined) return upgrade(name, args, options)
  const entries = entriesOf(
    all,
    (one) => upgradeDescribed(one, options),
    (one) => upgrade(one, [], options),
  )
  return inTurn(entries, options)
}

export async function restartMeant(words: readonly string[], options: RestartOptions & FileOptions): Promise<number> {
  const all = await servicesMeant(words, options)
  if (all === undefined) return restart(words[0], options)
  const entries = entriesOf(
    all,
    (one) => restartDescribed(one, options),
    (one) => restart(one, options),
  )
  return inTurn(entries, options)
}

export async function stopMeant(words: readonly string[], options: StopOptions & FileOptions): Promise<number> {
  const names = await namesMeant(words, options)
  if (names === undefined) return stop(words[0], options)
  const entries = names.map((name) => ({ name, run: () => stop(name, options) }))
  // What is down already is where it was to be; a name that was typed wrongly is not.
  const isTyped = names === words
  return inTurn(entries, options, ({ code, failure }) =>
    isTyped ? failure?.code === 'ERR_COOK_DOWN' : code === exitCodes.notRunning,
  )
}

export async function statusMeant(
  words: readonly string[],
  options: FileOptions & { readonly json?: boolean },
): Promise<number> {
  const names = await namesMeant(words, options, everyKnown)
  const [first] = names ?? words
  if (names === undefined || (names.length === 1 && options.json !== true)) return status(first, options)
  const all = await Promise.all(names.map(stateOf))
  if (options.json === true) printJson(all)
  else {
    const down = all.flatMap((one) => (one.phase === 'unknown' || !('at' in one) ? [] : [one]))
    const unknown = all.filter(({ phase }) => phase === 'unknown').map(({ name }) => name)
    const running = all.flatMap((one) => (one.phase === 'unknown' || 'at' in one ? [] : [one]))
    print(listText(running, down, unknown))
  }
  const runs = all.filter((one) => 'uptime' in one).length
  if (runs === all.length) return exitCodes.done
  return runs === 0 ? exitCodes.notRunning : exitCodes.failed
}

type Unknown = { readonly name: string; readonly phase: 'unknown' }

async function stateOf(name: string) {
  const client = clientOf(runDirectory(process.env), checkedName(name))
  return client.status().catch((error): Silent | Down | Unknown => {
    const found = silentOf(client, error) ?? downOf(name)
    if (found === undefined && !(error instanceof CookError)) throw error
    return found ?? { name, phase: 'unknown' }
  })
}

function entriesOf(
  all: readonly One[],
  run: (one: Described) => Promise<number>,
  runKnown: (name: string) => Promise<number>,
): readonly Entry[] {
  return all.map((one) => {
    if (typeof one === 'string') return { name: one, run: () => runKnown(one) }
    return 'refused' in one ? refusal(one) : { name: one.name, run: () => run(one) }
  })
}
