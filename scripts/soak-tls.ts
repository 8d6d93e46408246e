/**
 * `npm run soak:tls`: a hundred upgrades in a row under clients over TLS 1.3 whose connections
 * move, and a verdict. Ends everything that it started.
 */
import { parseArgs } from 'node:util'
import { type TlsSoakResult, tlsSoak } from '../test/support/tls-soak.ts'
import { beginSoak } from './soaking.ts'

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

const run = beginSoak({ upgrades, isJson: values.json })
const { say, clean, signal } = run

say(`${upgrades} upgrades under ${clients} keep-alive clients of HTTPS and ${clients} WebSockets, half of them resumed`)
let result: TlsSoakResult | undefined
try {
  result = await tlsSoak({ upgrades, clients, onUpgrade: tellProgress, signal })
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`)
}
const left = await clean()
const { seconds } = run
const isProved = result?.faults.length === 0 && left.length === 0 && result.upgrades === upgrades
if (values.json) process.stdout.write(`${JSON.stringify({ isProved, seconds, ...result, left }, undefined, 2)}\n`)
else tellResult()
process.exitCode = signal.aborted ? 130 : isProved ? 0 : 1

function tellProgress(progress: TlsSoakResult): void {
  run.tellProgress(progress, `${progress.moved} moves, ${progress.answers} answers`)
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
