/** The commands as they are typed: for one service, those of a configuration, or every one. */
import { everyService } from '../check.ts'
import { isConfigName } from '../config/find.ts'
import type { RefusedService } from '../config/service.ts'
import { CookError } from '../errors.ts'
import { runDirectory } from '../process/run-dir.ts'
import { type Described, described, type FileOptions, findDescribed } from './described.ts'
import { doctor } from './doctor.ts'
import type { StopOptions } from './end-silent.ts'
import { restartDescribed, startDescribed, upgradeDescribed } from './file-commands.ts'
import { checkedName } from './find-service.ts'
import { forget } from './forget.ts'
import { type Elsewhere, inPlace, type Meant, type Named } from './in-place.ts'
import { journalAt, type LogsOptions, logs } from './logs.ts'
import { downNames, type Entry, everyDown, everyKnown, inTurn, namesMeant, refusal, servicesMeant } from './meant.ts'
import { exitCodes, print, printJson, UsageError } from './output.ts'
import { isOwn, type Place, placeOf } from './places.ts'
import { nameOf, type StartOptions } from './program.ts'
import { type RestartOptions, restart } from './restart.ts'
import { listText, runs, type Seen } from './rows.ts'
import { run, runProgram } from './run.ts'
import { scale } from './scale.ts'
import { jsonOf, stateAt } from './seen.ts'
import { recordFor, start, startFrom } from './start.ts'
import { status, tellUnknown } from './status.ts'
import { stop } from './stop.ts'
import { journal } from './units.ts'
import { type UpgradeCommandOptions, upgrade } from './upgrade.ts'

type One = Described | RefusedService | Named

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
      entriesOf(all, startDescribed, ({ name }) => startKnown(name, options)),
      options,
    )
  const down = await downNames()
  if (down.length === 0) {
    throw new UsageError('nothing to start: name a program, or describe services in a cook.config.json')
  }
  if (down.length === 1 && down[0] !== undefined) return startKnown(down[0], options)
  throw new UsageError(`several services are down; name one, or all: ${down.join(', ')}`)
}

/** In the foreground there is one. */
export async function runMeant(script: string, args: readonly string[], options: FileOptions): Promise<number> {
  const found = isConfigName(script) ? await findDescribed([script, ...args], options) : undefined
  if (found === undefined) return run(script, args, options)
  const names = found.services.map(({ name }) => name)
  if (names.length > 1) throw new UsageError(`run takes one service; ${found.file} has ${names.join(', ')}: name one`)
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
  const upgradeOne = (one: Meant) => inPlace(one, (known) => upgrade(known, [], options))
  if (all === undefined) return upgradeTyped(name, args, options)
  const entries = entriesOf(all, (one) => inPlaceOf(one, () => upgradeDescribed(one, options), options), upgradeOne)
  return inTurn(entries, options)
}

function upgradeTyped(
  name: string | undefined,
  args: readonly string[],
  { orStart, ...options }: UpgradeCommandOptions,
): Promise<number> {
  const meant = name ?? (typeof orStart === 'string' ? nameOf(orStart) : undefined)
  const place = meant === undefined ? undefined : placeOf(meant)
  // Its unit starts what is down elsewhere.
  if (orStart !== undefined && (place === undefined || isOwn(place)))
    return upgrade(name, args, { ...options, orStart })
  const words = args.length === 0 || meant === undefined ? undefined : [meant, '--', ...args]
  return inPlace({ name: meant, place }, (known) => upgrade(known, args, options), { words })
}

export async function restartMeant(words: readonly string[], options: RestartOptions & FileOptions): Promise<number> {
  const all = await servicesMeant(words, options)
  const restartOne = (one: Meant) => inPlace(one, (known) => restart(known, options), { check: demandKept })
  if (all === undefined) return restartOne({ name: words[0] })
  const restartHis = (one: Described) =>
    inPlaceOf(one, () => restartDescribed(one, options), options, { check: demandKept })
  return inTurn(entriesOf(all, restartHis, restartOne), options)
}

export async function stopMeant(words: readonly string[], options: StopOptions & FileOptions): Promise<number> {
  const names = await namesMeant(words, options)
  const stopOne = (one: Meant) => inPlace(one, (known) => stop(known, options))
  if (names === undefined) return stopOne({ name: words[0] })
  const entries = names.map((one) => ({ ...one, run: () => stopOne(one) }))
  // What is down already is where it was to be; a name that was typed wrongly is not.
  const isTyped = names.length === words.length && names.every(({ name }, at) => name === words[at])
  return inTurn(entries, options, ({ code, failure }) =>
    isTyped ? failure?.code === 'ERR_COOK_DOWN' : code === exitCodes.notRunning,
  )
}

export async function statusMeant(
  words: readonly string[],
  options: FileOptions & { readonly json?: boolean },
): Promise<number> {
  const names = await namesMeant(words, options, everyKnown)
  const [first = { name: words[0] }] = names ?? []
  if (names === undefined || (names.length === 1 && options.json !== true)) {
    return inPlace(first, (known) => status(known, options))
  }
  const all = await Promise.all(names.map(seen))
  if (options.json === true) printJson(all.map(jsonOf))
  else print(listText(all))
  tellUnknown(all)
  const running = all.filter(({ state }) => runs(state) && state.phase !== 'silent').length
  if (running === all.length) return exitCodes.done
  return running === 0 ? exitCodes.notRunning : exitCodes.failed
}

export function scaleMeant(name: string, count: number, options: { readonly json?: boolean }): Promise<number> {
  return inPlace({ name }, () => scale(name, count, options), { words: [name, String(count)] })
}

/** Without a name: of all that are here. */
export function doctorMeant(name: string | undefined, options: { readonly json?: boolean }): Promise<number> {
  return name === undefined ? doctor(undefined, options) : inPlace({ name }, (known) => doctor(known, options))
}

export function logsMeant(name: string | undefined, options: LogsOptions): Promise<number> {
  return inPlace({ name }, (known) => logs(known, options), {
    // That user may not read the journal.
    asRoot: async (known, place) => {
      const unit = await journalAt(known, place)
      return unit === undefined ? undefined : journal(unit, options)
    },
  })
}

export function forgetMeant(name: string): Promise<number> {
  return inPlace({ name }, () => forget(name))
}

async function seen(one: Named | Seen): Promise<Seen> {
  if ('state' in one) return one
  const { name, place = placeOf(checkedName(name)) } = one
  return { name, place, state: await stateAt(name, place) }
}

/** With all that the file says of it, where a child has to read that. */
function inPlaceOf(
  one: Described,
  run: () => Promise<number>,
  { env }: FileOptions,
  how: Elsewhere = {},
): Promise<number> {
  const words = [...(env === undefined ? [] : [`--env=${env}`]), one.file, one.name]
  return inPlace(one, run, { ...how, words })
}

/** Its unit starts again what is down, and what has no keeper ends for that. */
async function demandKept(name: string, place: Place): Promise<void> {
  const state = await stateAt(name, place)
  if ('keeper' in state && state.keeper !== undefined) return
  throw new CookError('ERR_COOK_OF_UNIT', { name, folder: place.folder })
}

function entriesOf(
  all: readonly One[],
  run: (one: Described) => Promise<number>,
  runKnown: (one: Named) => Promise<number>,
): readonly Entry[] {
  return all.map((one) => {
    if ('refused' in one) return refusal(one)
    return 'program' in one ? { name: one.name, run: () => run(one) } : { ...one, run: () => runKnown(one) }
  })
}
