/** What is lost between the copy of a log and its cut, by how fast it is written. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { Rotation } from '../../src/keeper/rotation.ts'
import { openLog } from '../../src/process/log.ts'
import { rotatedLog } from '../../src/process/log-files.ts'
import type { Row } from '../rows.ts'
import { summarize } from '../statistics.ts'

/** Lines of 100 bytes, one a write, as console.log and pino do it; Infinity: in a tight loop. */
const rates = [1_000, 10_000, 50_000, Number.POSITIVE_INFINITY]
const rotations = 100
const length = 100

const writer = `const { writeSync } = require('node:fs')
const rate = Number(process.argv[1])
const begin = performance.now()
let number = 0
const write = () => {
  const due = rate === Infinity ? number + 1000 : (performance.now() - begin) * rate / 1000
  while (number < due) writeSync(1, String(number++).padEnd(${length - 1}, '.') + '\\n')
  setTimeout(write, rate === Infinity ? 0 : 1)
}
write()`

export async function* measureRotation(): AsyncGenerator<Row> {
  for (const rate of rates) {
    const { lost, of } = await lossesAt(rate)
    const what = rate === Number.POSITIVE_INFINITY ? 'as many lines as it can' : `${rate} lines a second`
    yield { what: `lost in one rotation, at ${what}`, unit: '', ...summarize(lost) }
    yield { what: '  of lines', unit: '', ...summarize([of]) }
  }
}

/** How many lines each rotation has lost. */
async function lossesAt(rate: number): Promise<{ readonly lost: number[]; readonly of: number }> {
  const folder = mkdtempSync(join(tmpdir(), 'cook-'))
  const logFile = join(folder, 'web.log')
  const child = spawn(process.execPath, ['-e', writer, String(rate)], {
    stdio: ['ignore', openLog(logFile), 'inherit'],
  })
  try {
    const size = 20_000
    const plan = { options: { logMaxSize: size, logKeep: rotations + 1 }, program: { logFile } }
    const rotation = new Rotation({ plan })
    while (!existsSync(rotatedLog(logFile, rotations))) {
      await rotation.look()
      await pause(10)
    }
    child.kill()
    await once(child, 'exit')
    const lost: number[] = []
    let next = 0
    for (let times = rotations; times >= 0; times--) {
      const lines = readFileSync(times === 0 ? logFile : rotatedLog(logFile, times), 'latin1').match(/^\d+\.+$/gm) ?? []
      if (times < rotations && lines.length > 0) lost.push(Number.parseInt(lines[0] ?? '', 10) - next)
      next = lines.length > 0 ? Number.parseInt(lines.at(-1) ?? '', 10) + 1 : next
    }
    return { lost, of: next }
  } finally {
    child.kill()
    rmSync(folder, { recursive: true, force: true })
  }
}
