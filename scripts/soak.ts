/**
 * `npm run soak`: a thousand upgrades in a row under load, every third version a bad one, and a
 * verdict. Ends everything that it started.
 */
import { mkdtempSync, realpathSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import { type SoakProgress, type SoakResult, soak } from '../test/support/soak.ts'
import { removeLeftovers } from './leftovers.ts'

/** From one line of progress to the next, in milliseconds. */
const progressInterval = 10_000

const { values } = parseArgs({
  options: { upgrades: { type: 'string', default: '1000' }, json: { type: 'boolean', default: false } },
})
const upgrades = Number(values.upgrades)
if (!Number.isSafeInteger(upgrades) || upgrades < 2) throw new Error('usage: soak [--upgrades N] [--json], N from 2 on')

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

say(`${upgrades} upgrades under load, and ${Math.floor((upgrades - 1) / 2)} more to versions that fail`)
const begin = performance.now()
let said = begin
let told = 0
let result: SoakResult | undefined
try {
  result = await soak({ upgrades, onUpgrade: tellProgress, signal: stopped.signal })
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`)
}
const left = await clean()
const isProved = result?.faults.length === 0 && left.length === 0 && result.upgrades === upgrades
if (values.json) process.stdout.write(`${JSON.stringify({ isProved, ...result, left }, undefined, 2)}\n`)
else tellResult()
process.exitCode = stopped.signal.aborted ? 130 : isProved ? 0 : 1

function tellProgress({ upgrades: done, answers, faults }: SoakProgress): void {
  for (const fault of faults.slice(told)) say(`fault before upgrade ${done} was over: ${fault}`)
  told = faults.length
  if (performance.now() - said < progressInterval) return
  said = performance.now()
  const rate = (done * 1_000) / (said - begin)
  const rest = (upgrades - done) / rate
  const counts = `${done} of ${upgrades} upgrades, ${answers} answers, ${faults.length} faults`
  say(`${counts}, ${rate.toFixed(2)} upgrades a second, about ${Math.ceil(rest / 60)} min left`)
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
  const seconds = Math.round((performance.now() - begin) / 1_000)
  say(`\n${isProved ? 'proved' : 'NOT PROVED'}: ${result?.upgrades ?? 0} upgrades in ${seconds} s`)
}

function words(counts: Readonly<Record<string, number>>): string {
  return Object.entries(counts)
    .map(([kind, count]) => `${count} ${kind}`)
    .join(', ')
}

function clean(): Promise<readonly string[]> {
  return removeLeftovers(basename(folder), folder)
}

function say(text: string): void {
  // A result as JSON stands alone on stdout.
  ;(values.json ? process.stderr : process.stdout).write(`${text}\n`)
}
