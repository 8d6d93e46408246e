/** `top`: all services as they fare, live on a terminal, and as plain lines elsewhere. */
import { setTimeout as sleep } from 'node:timers/promises'
import { exitCodes, print, printJson, table, UsageError } from '../output.ts'
import type { Seen } from '../rows.ts'
import { jsonOf } from '../seen.ts'
import { tellUnknown } from '../status.ts'
import { type Look, Looks, pidsOf, silence } from './looks.ts'
import { columns, headOf, type Row, Rows } from './rows.ts'

type Options = { readonly once?: boolean; readonly json?: boolean; readonly interval: number }

/** Milliseconds between two looks: what is shorter only burdens the services. */
const shortest = 100
const forever = 2 ** 31 - 1
/** How long a look waits for answers, in milliseconds, where somebody watches. */
const patience = 250

export async function top({ once, json, interval: typed }: Options): Promise<number> {
  if (json === true && once !== true) throw new UsageError('--json needs --once')
  const interval = Math.max(shortest, typed)
  if (once === true) return showOnce(interval, json === true)
  const { stdin, stdout } = process
  if (!stdin.isTTY || !stdout.isTTY || process.env.TERM === 'dumb') return showAgain(interval)
  const [looks, rows] = [new Looks(forever), new Rows()]
  const { showView } = await import('./view.tsx')
  const code = await showView({ interval, look: async () => rows.of(await looks.look(patience)) })
  // A question to one that is silent may be open.
  process.exit(code)
}

/** Two looks: what a process uses of the CPU is seen between them. */
async function showOnce(interval: number, isJson: boolean): Promise<number> {
  const looks = new Looks(silence)
  await looks.look(silence)
  await sleep(interval)
  const look = await looks.look(patience)
  if (isJson) printJson(look.all.map((seen) => ({ ...jsonOf(seen), cpu: cpuOf(seen, look) })))
  else print(textOf(new Rows().of(look)))
  tellUnknown(look.all)
  return exitCodes.done
}

/** By pid, in percent of one core. */
function cpuOf({ state }: Seen, { cpu }: Look): Readonly<Record<number, number>> {
  const known = pidsOf(state).flatMap((pid) => (cpu.has(pid) ? [[pid, Math.round(10 * (cpu.get(pid) ?? 0)) / 10]] : []))
  return Object.fromEntries(known)
}

async function showAgain(interval: number): Promise<never> {
  const [looks, rows] = [new Looks(forever), new Rows()]
  const end = new AbortController()
  // Whoever reads may have read enough, as `head` does.
  for (const event of ['error', 'close']) process.stdout.once(event, () => end.abort())
  for (let wait = silence; !end.signal.aborted; wait = patience) {
    const text = textOf(rows.of(await looks.look(wait)))
    print(`${new Date().toISOString()}\n${text}\n`)
    await sleep(interval, undefined, { signal: end.signal }).catch(() => {})
  }
  // A question to one that is silent may be open.
  process.exit(exitCodes.done)
}

/** Columns that nobody has anything in are left out. */
function textOf(rows: readonly Row[]): string {
  if (rows.length === 0) return 'no service is running'
  const used = columns.filter((column) => rows.some(({ cells }) => cells[column] !== undefined))
  const lines = rows.map(({ cells }) => used.map((column) => cells[column] ?? ''))
  const [head, ...rest] = table([used.map(headOf), ...lines]).split('\n')
  return [head, ...rest.map((text, at) => (rows[at]?.line === undefined ? text : `  ${rows[at].line}`))].join('\n')
}
