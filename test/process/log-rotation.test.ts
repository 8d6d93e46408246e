/** Logs that are rotated by the keeper while they are written. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { system } from '../../src/node/system.ts'
import { Operator, writeProgram } from '../support/command.ts'
import { takesAll } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

/** One line a write, as console.log does it. */
const writesAllTheTime = `import('node:fs').then(({ writeSync }) => {
  let number = 0
  setInterval(() => {
    for (let count = 0; count < 5; count++) {
      writeSync(1, JSON.stringify({ pid: process.pid, number: number++, end: 'as a program says it' }) + '\\n')
    }
  }, 1)
})`

type Entry = { readonly pid: number; readonly number: number }

/** Entries of what was logged, with each file's by itself; lines of the keeper are left out. */
function entriesIn(text: string): Entry[] {
  // What is cut is the end of a file.
  const lines = text.split('\n').slice(0, -1)
  return lines.filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Entry)
}

function nameOf({ pid, number }: Entry): string {
  return `${pid} ${number}`
}

/** Oldest first. */
function filesOf(lab: Lab, name: string): string[] {
  const files = [name]
  while (existsSync(lab.path(`${name}.${files.length}`))) files.unshift(`${name}.${files.length}`)
  return files.map((file) => lab.read(file))
}

/**
 * Of each process no entry comes twice or is overtaken, and none is missing but between two files.
 * Returns how many are.
 */
function lossesIn(files: readonly Entry[][]): number {
  const last = new Map<number, number>()
  let lost = 0
  for (const [index, entries] of files.entries()) {
    const seen = new Set<number>()
    for (const { pid, number } of entries) {
      const missing = number - (last.get(pid) ?? -1) - 1
      assert.ok(missing >= 0, `entry ${number} of ${pid} comes again or too late, in file ${index}`)
      assert.ok(
        missing === 0 || (index > 0 && !seen.has(pid)),
        `${missing} are missing before ${number} in file ${index}`,
      )
      seen.add(pid)
      last.set(pid, number)
      lost += missing
    }
  }
  return lost
}

const isRotated = (lab: Lab, log: string, times: number) => existsSync(lab.path(`${log}.${times}`)) || undefined

describe('a log that is rotated while it is written', { concurrency: 3 }, () => {
  test('loses no line but between the copy and the cut, in an upgrade too, and logs -f shows each that is kept', async (context) => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one', writesAllTheTime)
    await operator.does(['start', 'app.mjs', '--log', 'app.log', '--log-max-size', '50K', '--log-keep', '100'])
    const following = operator.begins(['logs', '-f', '-n', '1000000'])
    let text = ''
    following.stdout?.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
    await eventually('the first line', () => text.length > 0 || undefined)
    await eventually('a rotation', () => isRotated(lab, 'app.log', 1))
    await operator.does(['upgrade'])
    await eventually('more of them', () => isRotated(lab, 'app.log', 2))
    await operator.does(['stop'])
    const files = filesOf(lab, 'app.log').map(entriesIn)
    context.diagnostic(`${lossesIn(files)} of ${files.flat().length} lines lost in ${files.length - 1} rotations`)
    const all = files.flat().map(nameOf)
    const shown = () => entriesIn(text).map(nameOf)
    await eventually('the last line', () => shown().at(-1) === all.at(-1) || undefined)
    // It may have shown some of those that are lost.
    const kept = new Set(all)
    assert.deepEqual(
      shown().filter((name) => kept.has(name)),
      all,
    )
    assert.equal(new Set(shown()).size, shown().length)
    const last = await operator.does(['logs', 'app', '-n', '1000000'])
    assert.deepEqual(entriesIn(last).map(nameOf), all)
  })

  for (const kind of takesAll ? ['sync', 'async'] : ['sync']) {
    test(`of two workers with pino, which writes into descriptor 1 itself (${kind}), loses no line but between the copy and the cut`, async (context) => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const program = fileURLToPath(new URL('../../../test/fixtures/programs/pino.mjs', import.meta.url))
      const options = ['--name', 'app', '--log', 'app.log', '--log-max-size', '50K', '--log-keep', '100']
      await operator.does(['start', program, ...options, '--workers', '2', '--', kind])
      const logs = ['app@0.log', 'app@1.log']
      for (const log of logs) await eventually(`rotations of ${log}`, () => isRotated(lab, log, 2))
      assert.match(await operator.does(['logs', '-n', '1']), /^[01]\| \{.*\}?\n[01]\| \{/m)
      await operator.does(['stop'])
      for (const log of logs) {
        const all = filesOf(lab, log).map(entriesIn)
        // At its exit pino writes what it has in its buffer before what is on its way.
        const last = Math.max(...all.flat().map(({ number }) => number)) - (kind === 'async' ? 50 : 0)
        const files = all.map((entries) => entries.filter(({ number }) => number <= last))
        context.diagnostic(`${lossesIn(files)} of ${files.flat().length} lines lost in ${files.length - 1} rotations`)
      }
    })
  }

  test('is rotated by the next keeper too, as an upgrade has said last, until one says that it is enough', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeProgram(lab, 'app.mjs', 'one', writesAllTheTime)
    await operator.does(['start', 'app.mjs'])
    await operator.does(['upgrade', '--log-max-size', '10K', '--log-keep', '1'])
    await eventually('a rotation', () => isRotated(lab, 'run/app.log', 1))
    const { keeper, generation } = await operator.status('app')
    assert.ok(keeper)
    system.kill([keeper.pid, keeper.startTime], 'SIGKILL')
    await eventually('the next keeper', async () => {
      const now = await operator.status('app').catch(() => undefined)
      return (now !== undefined && now.keeper?.pid !== keeper.pid && now.generation > generation) || undefined
    })
    const entries = () => entriesIn(lab.read('run/app.log.1'))
    const [before] = entries()
    await eventually('a rotation by it', () => entries()[0]?.number !== before?.number || undefined)
    assert.equal(isRotated(lab, 'run/app.log', 2), undefined)
    await operator.does(['restart', '--log-max-size', '0'])
    assert.equal(JSON.parse(lab.read('run/app.service')).plan.options.logMaxSize, 0)
  })
})

test('options for a rotation that cannot be are usage errors, before anything is started', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  for (const [args, words] of [
    [['start', '--log-keep', '3'], /--log-keep needs --log-max-size/],
    [['start', '--no-keep', '--log-max-size', '1M'], /needs a keeper/],
    [['run', '--log-max-size', '1M'], /needs --log/],
    [['start', '--log-max-size', '1M', '--log-keep', '0'], /at least 1/],
    [['start', '--log-max-size', 'much'], /must be a size/],
  ] as const) {
    const { code, stderr } = await operator.types([...args, 'app.mjs'])
    assert.equal(code, 2, stderr)
    assert.match(stderr, words)
  }
  assert.equal(existsSync(lab.path('run/app.log')), false)
})
