/**
 * `npm run soak:tls`: a hundred upgrades in a row under clients over TLS 1.3 whose connections
 * move, and a verdict. Ends everything that it started.
 */
import { mkdtempSync, realpathSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import { type TlsSoakResult, tlsSoak } from '../test/support/tls-soak.ts'
import { removeLeftovers } from './leftovers.ts'

/** From one line of progress to the next, in milliseconds. */
const progressInterval = 10_000

const { values } = parseArgs({
  options: {
    upgrades: { type: 'string', default: '100' },
    clients: { type: 'string', default: '100' },
    json: { type: 'boolean', default: false },
  },
})
const [upgrades, clients] = [Number(values.upgrades), Number(values.clients)]
if (![upgrades, clients].every((number) => Number.isSafeInteger(number) && number > 0)) {
  throw new Error('usage: soak:tls [--upgrades N] [--clients N] [--json]; N clients of each kind')
}

// The name of the folder is also the mark by which everything that this run starts is found again.
const folder = mkdtempSync(join(realpathSync(tmpdir()), 'cook-'))
Object.assign(process.env, { COOK_TEST_TMP: folder, TMPDIR: folder })
const stopped = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    say(`${signal}: the upgrade that runs is the last`)
    stopped.abort()
    // Whoever does not want to wait for that asks again.
    process.once(signal, () => void clean().finally(() => process.exit(130)))
  })
}

say(`${upgrades} upgrades under ${clients} keep-alive clients of HTTPS and ${clients} WebSockets, half of them resumed`)
const begin = performance.now()
let said = begin
let told = 0
let result: TlsSoakResult | undefined
try {
  result = await tlsSoak({ upgrades, clients, onUpgrade: tellProgress, signal: stopped.signal })
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`)
}
const left = await clean()
const seconds = Math.round((performance.now() - begin) / 1_000)
const isProved = result?.faults.length === 0 && left.length === 0 && result.upgrades === upgrades
if (values.json) process.stdout.write(`${JSON.stringify({ isProved, seconds, ...result, left }, undefined, 2)}\n`)
else tellResult()
process.exitCode = stopped.signal.aborted ? 130 : isProved ? 0 : 1

function tellProgress({ upgrades: done, answers, moved, faults }: TlsSoakResult): void {
  for (const fault of faults.slice(told)) say(`fault before upgrade ${done} was over: ${fault}`)
  told = faults.length
  if (performance.now() - said < progressInterval) return
  said = performance.now()
  const rest = ((said - begin) / done) * (upgrades - done)
  say(
    `${done} of ${upgrades} upgrades, ${moved} moves, ${answers} answers, ${told} faults, about ${Math.ceil(rest / 60_000)} min left`,
  )
}

function tellResult(): void {
  if (result !== undefined) {
    const { answers, reconnects, moved, proven, returned, closed, cut, stayed, times } = result
    say(`\n${answers} answers, ${reconnects} reconnects`)
    say(`${moved} times a connection moved, ${proven} proven, ${returned} returned; closed ${closed}, cut ${cut}`)
    say(`stayed: ${JSON.stringify(stayed)}`)
    const [start, drain, end] = [times.start, times.drain, times.end].map(Math.round)
    say(
      `of an upgrade, medians: ${start} ms until it serves, ${drain} ms of the drain, ${end} ms until the old one is gone`,
    )
    for (const fault of result.faults) say(`fault: ${fault}`)
  }
  for (const one of left) say(`left behind: ${one}`)
  say(
    `\n${isProved ? 'proved' : 'NOT PROVED'}: ${result?.upgrades ?? 0} upgrades in ${seconds} s on ${process.version}`,
  )
}

function clean(): Promise<readonly string[]> {
  return removeLeftovers(basename(folder), folder)
}

function say(text: string): void {
  // A result as JSON stands alone on stdout.
  ;(values.json ? process.stderr : process.stdout).write(`${text}\n`)
}
