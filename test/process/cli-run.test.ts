/** `cook-daemon run`: a service in the foreground, whose first process stays through upgrades. */
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { Operator, writeProgram } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

test('cook-daemon run stays through upgrades, forwards signals to the current generation and exits as the last one does', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const { child, output } = begin(operator, ['run', 'app.mjs'])
  await eventually('its output', () => output().includes('one serves\n') || undefined)
  const first = await operator.status('app')
  writeProgram(lab, 'app.mjs', 'two', "process.on('exit', () => { process.exitCode = 5 })")
  await operator.does(['upgrade', 'app'])
  assert.match(await operator.asks('app'), /^two /)
  await eventually('the output of the second', () => output().includes('two serves\n') || undefined)
  child.kill('SIGUSR2')
  await eventually('the third generation', async () =>
    (await operator.status('app')).generation === 3 ? true : undefined,
  )
  assert.notEqual((await operator.status('app')).pid, first.pid)
  assert.equal(child.exitCode, null)
  child.kill('SIGTERM')
  assert.deepEqual(await ended(child), [5, null])
})

test('cook-daemon run ends with the exit code of a first generation that does not come up, and says why', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one', 'process.exit(42)')
  const { child, output } = begin(operator, ['run', 'app.mjs'])
  assert.deepEqual(await ended(child), [42, null])
  assert.match(output(), /exited before it was ready: exit code 42/)
})

test('cook-daemon run ends with 128 and the signal when that ends its worker, of whichever generation', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  for (const upgrades of [0, 1]) {
    const { child } = begin(operator, ['run', 'app.mjs'])
    await untilServes(operator)
    for (let done = 0; done < upgrades; done++) await operator.does(['upgrade'])
    process.kill((await operator.status('app')).pid, 'SIGKILL')
    assert.deepEqual(await ended(child), [137, null])
  }
})

test('a signal before the program serves reaches it too', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(
    lab,
    'app.mjs',
    'one',
    "process.on('SIGINT', () => process.exit(7)); console.log('boots'); await new Promise((done) => setTimeout(done, 60_000))",
  )
  const { child, output } = begin(operator, ['run', 'app.mjs'])
  await eventually('its boot', () => output().includes('boots') || undefined)
  child.kill('SIGINT')
  assert.deepEqual(await ended(child), [7, null])
})

test('a service in the foreground goes on when its keeper is killed, in the background', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const { child } = begin(operator, ['run', 'app.mjs', '--log', 'log'])
  await untilServes(operator)
  child.kill('SIGKILL')
  await ended(child)
  await eventually('another keeper', async () => {
    const { keeper } = await operator.status('app').catch(() => ({ keeper: undefined }))
    return (keeper !== undefined && keeper.pid !== child.pid) || undefined
  })
  await eventually('its worker', async () => (await operator.status('app')).generation === 2 || undefined)
  await operator.does(['upgrade'])
  assert.match(await operator.asks('app'), /^one /)
  await operator.does(['stop'])
})

test('a keeper whom systemd cannot hear says so once, and serves', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(
    lab,
    'app.mjs',
    'one',
    'console.log(Object.keys(process.env).filter((name) => /NOTIFY|WATCHDOG/.test(name)))',
  )
  // The program that speaks to systemd is not there.
  const env = { NOTIFY_SOCKET: lab.path('notify'), WATCHDOG_USEC: '300000', PATH: lab.path('none') }
  const { child, output } = begin(operator, ['run', 'app.mjs'], env)
  await untilServes(operator)
  await operator.does(['upgrade'])
  await operator.does(['stop'])
  await ended(child)
  assert.equal(output().split('systemd could not be notified').length, 2, output())
  assert.deepEqual(output().match(/^\[.*\]$/gm), ['[]', '[]'])
})

async function untilServes(operator: Operator): Promise<void> {
  await eventually('that it serves', async () => {
    const status = await operator.status('app').catch(() => undefined)
    return status?.phase === 'ready' ? true : undefined
  })
}

function begin(
  operator: Operator,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): { readonly child: ChildProcess; output(): string } {
  const child = operator.begins(args, { env })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (part: string) => {
      text += part
    })
  }
  return { child, output: () => text }
}

function ended(child: ChildProcess): Promise<unknown[]> {
  return within(
    'the end of cook-daemon run',
    child.exitCode === null ? once(child, 'exit') : Promise.resolve([child.exitCode, null]),
  )
}
