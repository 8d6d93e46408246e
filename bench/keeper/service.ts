/** A service as `cook-daemon start` makes it, with a keeper or without one. */
import { fileURLToPath } from 'node:url'
import { Operator } from '../../test/support/command.ts'
import { fixturePath, Lab, type Puppet } from '../../test/support/lab.ts'

export const ways = ['kept', 'alone'] as const
export type Way = (typeof ways)[number]

export type Sizes = {
  readonly upgrades: number
  readonly connections: number
  readonly rounds: number
  /** Upgrades between which the memory of the keeper is looked at. */
  readonly lives: number
}

export type Service = {
  readonly lab: Lab
  readonly operator: Operator
  /** The worker that serves. */
  worker: Puppet
  readonly port: number
}

const open = new Set<() => Promise<void>>()

export const loadServer = fixturePath('load-server')
export const heavy = fileURLToPath(new URL('../programs/heavy.js', import.meta.url))
export const again = fileURLToPath(new URL('../programs/again.js', import.meta.url))

/** What was started does not outlive `work`. */
export async function withService<Value>(
  way: Way,
  { program, env }: { readonly program: string; readonly env?: Readonly<Record<string, string>> },
  work: (service: Service) => Promise<Value>,
): Promise<Value> {
  const lab = await Lab.open()
  const operator = new Operator(lab)
  let ended: Promise<void> | undefined
  // The keeper first: it would start again what ends before it.
  const end = () => {
    ended ??= operator[Symbol.asyncDispose]().finally(() => lab[Symbol.asyncDispose]())
    return ended
  }
  open.add(end)
  try {
    const options = ['--name', 'app', ...(way === 'alone' ? ['--no-keep'] : [])]
    await operator.does(['start', program, ...options], env === undefined ? {} : { env })
    const worker = await lab.next()
    const [listener] = (await operator.status('app')).listeners
    return await work({ lab, operator, worker, port: Number(/:(\d+)$/.exec(listener?.address ?? '')?.[1]) })
  } finally {
    await end()
    open.delete(end)
  }
}

/** For a bench that is interrupted. */
export async function endAllServices(): Promise<void> {
  await Promise.all([...open].map((end) => end()))
}

/** Both see the same hour of the machine. */
export async function byTurns<Value>(
  rounds: number,
  measure: (way: Way) => Promise<Value>,
): Promise<Record<Way, Value[]>> {
  const results: Record<Way, Value[]> = { kept: [], alone: [] }
  for (let round = 0; round < rounds; round++) {
    for (const way of round % 2 === 0 ? ways : ways.toReversed()) results[way].push(await measure(way))
  }
  return results
}
