/** One upgrade of a proof, and whether it went as it should. */
import type { Client } from '../control/client.ts'
import type { Status } from '../control/status.ts'
import { messageOf } from '../errors.ts'
import { type Environment, environmentOf, type Kind } from './prove-faults.ts'
import type { Counts, Tape } from './prove-tape.ts'

/** How long one that hangs may do so, in milliseconds. */
const hangTime = 1_000

export type Round = Counts & {
  readonly kind: Kind
  readonly seconds: number
  /** What it should be: a good version serves in every slot, a bad one in none. */
  readonly isRight: boolean
  readonly said: string
  readonly failures: Readonly<Record<string, number>>
}

/** When it was, as performance.now() says it, and between which versions. */
export type Span = {
  readonly begin: number
  readonly end: number
  /** When the new version had taken over, in every slot; undefined: it has not. */
  readonly commit?: number
  /** Of the version that was to come; all others are the old one. */
  readonly version: number
}

export type Proving = {
  readonly client: Client
  readonly environment: Environment
  readonly tape: Tape
  /** Answers say which version they come from. */
  readonly isMarked: boolean
}

export type Measured = { readonly round: Round; readonly span: Span }

/** `version` counts from 1: 0 is the one that was started. */
export async function upgradeTo(kind: Kind, version: number, proving: Proving): Promise<Measured> {
  const { client, environment, tape, isMarked } = proving
  const before = tape.counts
  const failuresBefore = new Map(tape.failures)
  const old = await client.status()
  const begin = performance.now()
  const env = environmentOf(kind, environment, isMarked ? version : undefined)
  const said: string[] = []
  let served = 0
  let moved = 0
  let commit: number | undefined
  let isRight = true
  try {
    const request = kind === 'hangs' ? { env, readyTimeout: hangTime } : { env }
    for await (const progress of client.progress('upgrade', request)) {
      if (progress.type === 'drained') moved += progress.handedOver
      if (progress.type !== 'serves') continue
      // The last one of several; without the time that the line has taken to come here.
      if (++served === placesOf(old).length) commit = begin + progress.ms
      said[0] = `generation ${progress.generation} serves`
    }
    if (served > 0) said.push(`${moved} connections handed over`)
  } catch (error) {
    said.push(
      messageOf(error)
        .replace(/^(slot \d+): /, '$1, ')
        .replace(/ \([^()]*\)/g, '')
        .split(/[.:]/)[0] ?? '',
    )
  }
  const end = performance.now()
  try {
    isRight = isAsItShould(kind, old, await client.status())
  } catch (error) {
    isRight = false
    said.push(messageOf(error))
  }
  return {
    round: {
      kind,
      seconds: (end - begin) / 1000,
      isRight,
      said: said.join(', '),
      ...since(before, tape.counts),
      failures: Object.fromEntries(
        [...tape.failures]
          .map(([why, count]) => [why, count - (failuresBefore.get(why) ?? 0)] as const)
          .filter(([, count]) => count > 0),
      ),
    },
    span: { begin, end, version, ...(commit !== undefined && { commit }) },
  }
}

function since(before: Counts, now: Counts): Counts {
  return {
    answered: now.answered - before.answered,
    pings: now.pings - before.pings,
    failed: now.failed - before.failed,
    reconnected: now.reconnected - before.reconnected,
    returned: now.returned - before.returned,
  }
}

type Place = { readonly pid?: number; readonly generation: number; readonly state: string }

/** Of all workers, or of the process that serves alone. */
function placesOf({ workers, pid, generation }: Status): readonly Place[] {
  return workers ?? [{ pid, generation, state: 'serving' }]
}

/** A good version serves in every slot, and all of one generation; a bad one in none. */
function isAsItShould(kind: Kind, before: Status, after: Status): boolean {
  const [old, now] = [placesOf(before), placesOf(after)]
  if (now.length !== old.length || now.some(({ state }) => state !== 'serving')) return false
  if (kind !== 'good') return now.every(({ pid }, at) => pid === old[at]?.pid)
  const known = new Set(old.map(({ pid }) => pid))
  return now.every(({ pid, generation }) => !known.has(pid) && generation === now[0]?.generation)
}
