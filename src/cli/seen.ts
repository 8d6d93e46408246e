/** What there is in each place: as a service says it itself, or as its record has it. */
import { clientOf } from '../control/client.ts'
import { CookError, messageOf } from '../errors.ts'
import { withoutUndefined } from '../options.ts'
import { listAsOwner } from './as-owner.ts'
import { allDown, downOf } from './down.ts'
import { allRunning, checkedName, silentOf } from './find-service.ts'
import { isOthers, isOwn, type OthersPlace, type Place, places, userText } from './places.ts'
import { isShowable, type Seen, type State, type Unknown } from './rows.ts'
import { unitNamed, unitText } from './units.ts'

/** Each is asked by a process of Node: so many at a time. */
const mostAsked = 4

export async function allServices(all: readonly Place[] = places()): Promise<readonly Seen[]> {
  const seen: (readonly Seen[])[] = []
  let next = 0
  const askSome = async () => {
    for (let at = next++; at < all.length; at = next++) seen[at] = await servicesAt(all[at] as Place)
  }
  await Promise.all(Array.from({ length: mostAsked }, askSome))
  return seen.flat()
}

async function servicesAt(place: Place): Promise<readonly Seen[]> {
  const states = isOthers(place) ? await statesOfOther(place) : await statesOf(place)
  return states.map((state) => ({ name: state.name, place, state }))
}

async function statesOf({ folder }: Place): Promise<readonly State[]> {
  const running = (await allRunning(folder)).map(({ status }) => status)
  const names = running.map(({ name }) => name)
  return [...running, ...allDown(names, folder)]
}

/** One for each name that was found there, whatever the answer is. */
async function statesOfOther(place: OthersPlace): Promise<readonly State[]> {
  const { names } = place
  if (names.length === 0) return []
  let why = 'what answered is not a cook-daemon'
  const answer = await listAsOwner(place).catch((error: unknown) => {
    why = messageOf(error)
  })
  const told = Array.isArray(answer) ? answer : []
  return names.flatMap((name): State[] => {
    const state = told.find((one) => one?.name === name)
    if (state === undefined && Array.isArray(answer)) return []
    return state !== undefined && isShowable(state) ? [state] : [{ name, phase: 'unknown', why }]
  })
}

export async function stateAt(name: string, place: Place): Promise<State> {
  if (isOthers(place)) return (await servicesAt(place)).find((one) => one.name === name)?.state ?? downUnit(name)
  const client = clientOf(place.folder, checkedName(name))
  return client.status().catch((error): State => {
    const found = silentOf(client, error) ?? downOf(name, place.folder)
    if (found === undefined && !(error instanceof CookError)) throw error
    return found ?? downUnit(name)
  })
}

/** Its run directory went with it. */
function downUnit(name: string): Unknown {
  const found = unitNamed(name)
  return { name, phase: 'unknown', ...(found && { unit: `the unit ${unitText(found.unit)} is ${found.state}` }) }
}

/** For scripts; of one that is not in the own run directory also where it is. */
export function jsonOf({ place, state }: Seen): object {
  if (isOwn(place)) return state
  const { folder, owner } = place
  return { ...state, ...withoutUndefined({ folder, user: owner === undefined ? undefined : userText(owner) }) }
}
