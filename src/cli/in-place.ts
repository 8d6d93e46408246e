/** Each command goes to where its service is: here, to the folder of a unit, or to another user. */
import { envHome } from '../contract/environment.ts'
import { asOwner } from './as-owner.ts'
import { servicesIn } from './find-service.ts'
import { UsageError } from './output.ts'
import { isOthers, isOwn, type OthersPlace, type Place, placeOf, places } from './places.ts'
import { runs } from './rows.ts'
import { allServices } from './seen.ts'

/** A service, and where it is, if that is known already. */
export type Named = { readonly name: string; readonly place?: Place | undefined }

/** Without a name: the only one. */
export type Meant = { readonly name?: string | undefined; readonly place?: Place | undefined }

type Found = { readonly name: string; readonly place: Place }

export type Elsewhere = {
  /** What the same command has in place of the words that were typed. */
  readonly words?: readonly string[] | undefined
  /** Throws if it cannot be done by a command, where a unit starts what is down. */
  readonly check?: (name: string, place: Place) => Promise<void>
  /** In place of that command, done by root itself; undefined: it was not. */
  readonly asRoot?: (name: string, place: OthersPlace) => Promise<number | undefined>
}

/** Without a name: for the only service, wherever that is. */
export async function inPlace(
  { name, place }: Meant,
  run: (name: string | undefined) => Promise<number>,
  { words, check, asRoot }: Elsewhere = {},
): Promise<number> {
  const found = name === undefined ? await onlyService() : { name, place: place ?? placeOf(name) }
  if (found === undefined || isOwn(found.place)) return run(name)
  await check?.(found.name, found.place)
  if (isOthers(found.place)) {
    return (await asRoot?.(found.name, found.place)) ?? asOwner(found.place, words ?? [found.name])
  }
  return atHome(found.place.folder, () => run(found.name))
}

/** Undefined: it is looked for in the own folder alone. */
async function onlyService(): Promise<Found | undefined> {
  const [own, ...others] = places()
  if (own === undefined || (isOwn(own) && others.length === 0)) return undefined
  const here = isOthers(own) ? own.names : servicesIn(own.folder)
  const all = [own, ...others].flatMap((place) => (place === own ? here : place.names).map((name) => ({ name, place })))
  if (all.length === 1) return all[0]
  const running = (await allServices()).filter(({ state }) => runs(state))
  if (running.length > 1)
    throw new UsageError(`several services run; name one: ${running.map(({ name }) => name).join(', ')}`)
  return running[0]
}

/** All code asks the environment; what is started for the service stays there, too. */
async function atHome(folder: string, run: () => Promise<number>): Promise<number> {
  const before = process.env[envHome]
  process.env[envHome] = folder
  try {
    return await run()
  } finally {
    if (before === undefined) delete process.env[envHome]
    else process.env[envHome] = before
  }
}
