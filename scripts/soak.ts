/**
 * `npm run soak`: a thousand upgrades in a row under load, every third version a bad one, and a
 * verdict. Ends everything that it started.
 */
import { parseArgs } from 'node:util'
import { type SoakProgress, type SoakResult, soak } from '../test/support/soak.ts'
import { beginSoak } from './soaking.ts'

const { values } = parseArgs({
  options: { upgrades: { type: 'string', default: '1000' }, json: { type: 'boolean', default: false } },
})
const upgrades = Number(values.upgrades)
if (!Number.isSafeInteger(upgrades) || upgrades < 2) throw new Error('usage: soak [--upgrades N] [--json], N from 2 on')

const run = beginSoak({ upgrades, isJson: values.json })
const { say, clean, signal } = run

say(`${upgrades} upgrades under load, and ${Math.floor((upgrades - 1) / 2)} more to versions that fail`)
let result: SoakResult | undefined
try {
  result = await soak({ upgrades, onUpgrade: tellProgress, signal })
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`)
}
const left = await clean()
const isProved = result?.faults.length === 0 && left.length === 0 && result.upgrades === upgrades
if (values.json) process.stdout.write(`${JSON.stringify({ isProved, ...result, left }, undefined, 2)}\n`)
else tellResult()
process.exitCode = signal.aborted ? 130 : isProved ? 0 : 1

function tellProgress(progress: SoakProgress): void {
  run.tellProgress(progress, `${progress.answers} answers`)
}

function tellResult(): void {
  if (result !== undefined) {
    const { memory, early, late, connections } = result
    say(
      `\n${result.answers} of ${result.requests} requests answered, ${result.failedRequests} failed, ${result.reconnects} reconnects`,
    )
    say(
      `${connections.handedOver} times a connection moved; served ${connections.served}, closed ${connections.closed}, cut ${connections.cut}`,
    )
    const bad = Object.entries(result.badVersions).map(([what, count]) => `${count} ${what}`)
    say(`versions that failed: ${bad.join(', ') || 'none'}`)
    say(
      `memory from generation ${early.generation} on ${memory.early.toFixed(1)} MB, of the last ${memory.late.toFixed(1)} MB: ${(memory.growth * 100).toFixed(1)} %`,
    )
    say(`descriptors of generation ${early.generation}: ${words(early.descriptors)}`)
    say(`descriptors of generation ${late.generation}: ${words(late.descriptors)}`)
    say(
      `environment of generation ${late.generation}: ${late.environment.start.length} variables at its start, ${late.environment.now.length} now`,
    )
    for (const fault of result.faults) say(`fault: ${fault}`)
  }
  for (const one of left) say(`left behind: ${one}`)
  const { seconds } = run
  say(`\n${isProved ? 'proved' : 'NOT PROVED'}: ${result?.upgrades ?? 0} upgrades in ${seconds} s`)
}

function words(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([kind, count]) => `${count} ${kind}`)
    .join(', ')
}
