/** What each soak has around it: a folder that marks what it starts, a stop by signal, and its end. */
import { mkdtempSync, realpathSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { removeLeftovers } from './leftovers.ts'

/** From one line of progress to the next, in milliseconds. */
const progressInterval = 10_000

type Progress = { readonly upgrades: number; readonly faults: readonly string[] }

export type SoakRun = {
  say(text: string): void
  /** Ends what is left of the run, and removes its folder; returns what there was, in words. */
  clean(): Promise<readonly string[]>
  /** Aborted by SIGINT or SIGTERM. */
  readonly signal: AbortSignal
  /** Since its begin. */
  readonly seconds: number
  /** Each fault once, and every ten seconds how far it is. */
  tellProgress(progress: Progress, counts: string): void
}

export function beginSoak({ upgrades, isJson }: { readonly upgrades: number; readonly isJson: boolean }): SoakRun {
  // The name of the folder is also the mark by which everything that this run starts is found again.
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'cook-'))
  Object.assign(process.env, { COOK_TEST_TMP: folder, TMPDIR: folder })
  const begin = performance.now()
  let said = begin
  let told = 0

  function say(text: string): void {
    // A result as JSON stands alone on stdout.
    ;(isJson ? process.stderr : process.stdout).write(`${text}\n`)
  }

  const clean = () => removeLeftovers(basename(folder), folder)
  const stopped = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      say(`${signal}: the upgrade that runs is the last`)
      stopped.abort()
      // Whoever does not want to wait for that asks again.
      process.once(signal, () => void clean().finally(() => process.exit(130)))
    })
  }

  return {
    say,
    clean,
    signal: stopped.signal,
    get seconds() {
      return Math.round((performance.now() - begin) / 1_000)
    },
    tellProgress({ upgrades: done, faults }: Progress, counts: string): void {
      for (const fault of faults.slice(told)) say(`fault before upgrade ${done} was over: ${fault}`)
      told = faults.length
      if (performance.now() - said < progressInterval) return
      said = performance.now()
      const rate = (done * 1_000) / (said - begin)
      const rest = Math.ceil((upgrades - done) / rate / 60)
      const words = `${done} of ${upgrades} upgrades, ${counts}, ${told} faults`
      say(`${words}, ${rate.toFixed(2)} upgrades a second, about ${rest} min left`)
    },
  }
}
