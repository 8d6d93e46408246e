/** What `cook-daemon top` shows in a real terminal, and what its keys do. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdirSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import type { Status } from '../../src/control/status.ts'
import { Operator } from '../support/command.ts'
import { onlyInMatrix, takesAll } from '../support/extent.ts'
import { processesOf } from '../support/faults/left.ts'
import { Lab } from '../support/lab.ts'
import { noTerminal, Terminal } from '../support/terminal.ts'
import { eventually, within } from '../support/waiting.ts'

const skip = noTerminal

/** A new version waits for the file `go` beside it, if there is `wait`. */
const program = `import { existsSync } from 'node:fs'
import { createServer } from 'node:http'
const server = createServer((_, response) => response.end('hello'))
const listen = () => existsSync('wait') && !existsSync('go') ? setTimeout(listen, 20) : server.listen(0, '127.0.0.1', () => console.log('hello'))
listen()
`

async function start(lab: Lab, operator: Operator, name = 'app', ...options: readonly string[]): Promise<void> {
  writeFileSync(lab.path('app.mjs'), program)
  await operator.does(['start', 'app.mjs', '--name', name, ...options])
}

test('top shows services and their workers at 80 × 24, and an upgrade that was begun elsewhere as it happens', {
  skip,
}, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  await start(lab, operator, 'app', '--workers', '2')
  await using terminal = await Terminal.open(lab)
  await terminal.types('$COOK top --interval 100')
  const first = await terminal.until('the workers', /slot 0 +running +1 [\s\S]*slot 1 +running +1 /)
  assert.match(first, /^▸ app +running 2\/2 +1 +\d+ +[\d.-]+%? +[\d.]+ MB +\d+ +0 /m)
  assert.ok(first.split('\n').length <= 25 && first.split('\n').every((line) => line.length <= 80), first)
  writeFileSync(lab.path('wait'), '')
  const upgraded = operator.does(['upgrade', 'app'])
  await terminal.until('the upgrade', /^ {4}1 → 2 {2}the new version starts, \d+\.\d s$/m)
  writeFileSync(lab.path('go'), '')
  await upgraded
  const last = await terminal.until('its end', /^ {4}1 → 2 {2}upgraded in \d+\.\d s, 2 workers/m)
  assert.match(last, /slot 0 +running +2 [\s\S]*slot 1 +running +2 /)
})

test('the keys of top upgrade, scale and follow the log, and stop asks first: any key but y changes nothing', {
  skip,
}, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  await start(lab, operator)
  await using terminal = await Terminal.open(lab)
  await terminal.types('$COOK top --interval 100')
  await terminal.until('the service', /^▸ app +running +1 /m)
  await terminal.presses('?')
  await terminal.until('the help', /follow its log/)
  await terminal.presses('?')
  await terminal.until('the service again', /^▸ app/m)
  // Several that come at once may have been pasted: none of them begins anything.
  await terminal.presses('u')
  await terminal.until('what the command prints', /✓ app serves generation 2[\s\S]*/)
  await terminal.until('its end', /── cook-daemon upgrade app {2}exit code 0/)
  await terminal.presses('+')
  await terminal.until('a second worker', /^ {4}slot 1 +running/m)
  await terminal.until('its end', /cook-daemon scale app 2 {2}exit code 0/)
  await terminal.presses('j', 'Down')
  await terminal.until('the choice', /^▸ {3}slot 1/m)
  await terminal.presses('l')
  await terminal.until('the log of the worker', /cook-daemon logs app -f -n 50 --slot 1[\s\S]*hello/)
  await terminal.presses('c')
  await terminal.until('no output any more', /^(?![\s\S]*──)[\s\S]*q quit/)
  await terminal.presses('-')
  await terminal.until('the end of that', /cook-daemon scale app 1 {2}exit code 0/)
  await terminal.until('one worker', /^(?![\s\S]*slot 1)/)
  const { generation, workers } = await operator.status('app')
  assert.deepEqual([generation, workers?.length], [2, 1])
  await terminal.presses('-')
  await terminal.until('why not', /app has one worker/)
  await terminal.presses('s')
  await terminal.until('the question', /stop app\?.*y\/n/)
  await terminal.presses('n')
  await terminal.until('nothing', /nothing was done/)
  assert.equal((await operator.status('app')).phase, 'ready')
  await terminal.presses('s')
  await terminal.until('the question', /stop app\?.*y\/n/)
  await terminal.presses('y')
  await terminal.until('the end of the service', /app +stopped/)
})

test('top fits after the terminal became smaller, and gives it back as it was, however it ends', { skip }, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  await start(lab, operator, 'app', '--workers', '2')
  await using terminal = await Terminal.open(lab)
  const table = /^▸ app +running 2\/2/m
  const untilBack = async (how: string) => {
    const screen = await terminal.until(`the shell after ${how}`, /^end of top$/m)
    assert.match(screen, /before top/, how)
    assert.doesNotMatch(screen, /slot 0/, how)
    assert.equal(await terminal.modes(), 'alternate 0, cursor 1', how)
    await terminal.types('clear; stty -a; echo end of stty')
    const modes = await terminal.until('its modes', /^end of stty$/m)
    assert.match(modes, / icanon [\s\S]* echo /, how)
  }
  const begin = async (before = '') => {
    await terminal.types(`clear; echo before top; ${before} $COOK top --interval 100; echo "end of top"`)
    await terminal.until('the table', table)
    assert.equal(await terminal.modes(), 'alternate 1, cursor 0')
  }
  await begin()
  await terminal.resize([40, 10])
  const small = await terminal.until('the table in 40 × 10', /^▸ app +running 2\/2 .*\n(.*\n){1,7}.*$/m)
  assert.ok(small.split('\n').length <= 11 && small.split('\n').every((line) => line.length <= 40), small)
  await terminal.presses('?')
  await terminal.until('the help', /follow its log/)
  await terminal.resize([80, 24])
  await terminal.presses('?', 'q')
  await untilBack('q')
  await begin()
  await terminal.presses('C-c')
  await untilBack('^C')
  for (const signal of ['TERM', 'HUP', ...(takesAll ? ['INT'] : [])]) {
    await begin()
    process.kill(pidOfTop(lab), `SIG${signal}`)
    await untilBack(`SIG${signal}`)
  }
  writeFileSync(
    lab.path('fault.cjs'),
    "setInterval(() => { if (require('node:fs').existsSync('now')) throw new Error('a fault of top') }, 20)",
  )
  await begin('NODE_OPTIONS="--require ./fault.cjs"')
  writeFileSync(lab.path('now'), '')
  await terminal.until('its words', /^Error: a fault of top$/m)
  await untilBack('an exception')
  await terminal.types('clear; TERM=dumb $COOK top --interval 100')
  await terminal.until('plain lines', /^app +running 2\/2[\s\S]*^app +running 2\/2/m)
  assert.equal(await terminal.modes(), 'alternate 0, cursor 1')
})

test('hundreds of looks cost top neither memory nor descriptors', { skip: skip || onlyInMatrix.skip }, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  await start(lab, operator, 'app', '--workers', '2')
  await start(lab, operator, 'alone', '--no-keep')
  const { pid } = await operator.status('alone')
  process.kill(pid, 'SIGSTOP')
  try {
    await using terminal = await Terminal.open(lab)
    // What is kept for ever would end it.
    await terminal.types('NODE_OPTIONS=--max-old-space-size=32 $COOK top --interval 100')
    const untilSeconds = async (count: number) => {
      const seen = new Set<string>()
      await eventually(
        () => `${count} seconds of top; there were ${seen.size}`,
        async () => {
          const [time] = /\d\d:\d\d:\d\d/.exec(await terminal.screen()) ?? []
          if (time !== undefined) seen.add(time)
          return seen.size >= count || undefined
        },
        120_000,
      )
    }
    await terminal.until('the silent one', /^. alone +silent /m)
    const descriptors = () => readdirSync(`/proc/${pidOfTop(lab)}/fd`).length
    const before = descriptors()
    await untilSeconds(40)
    assert.ok(descriptors() < before + 5, `${before} descriptors, and then ${descriptors()}`)
  } finally {
    process.kill(pid, 'SIGCONT')
  }
})

function pidOfTop(lab: Lab): number {
  const found = processesOf(lab.folder).find(({ words }) => / top --interval/.test(words) && !/ sh -c/.test(words))
  assert.ok(found, 'top does not run')
  return found.pid
}

test('without a terminal top prints plain lines: once, as JSON, or a table for each interval until nobody reads', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  await start(lab, operator, 'app', '--workers', '2')
  await start(lab, operator, 'down')
  await operator.does(['stop', 'down'])
  const text = await operator.does(['top', '--once', '--interval', '100'])
  assert.match(text, /^NAME +STATE +GEN +PID +CPU +MEMORY +CONNS +RESTARTS +UPTIME +LISTENS ON\napp +running 2\/2 +1 /)
  assert.match(text, /^ {2}slot 0 +running .*\n {2}slot 1 +running .*\ndown +stopped +1 .*stopped \d+ s ago$/m)
  assert.ok(!text.includes('\u001b'), text)
  const [app, down] = JSON.parse(await operator.does(['top', '--once', '--json', '--interval', '100'])) as [
    Status & { readonly cpu: Readonly<Record<string, number>> },
    Status,
  ]
  const pids = app.workers?.map(({ pid }) => String(pid)) ?? []
  assert.deepEqual([app.name, down.phase], ['app', 'stopped'])
  if (process.platform === 'linux')
    assert.ok(
      pids.every((pid) => (app.cpu[pid] ?? -1) >= 0),
      JSON.stringify(app.cpu),
    )
  assert.equal((await operator.types(['top', '--json'])).code, 2)
  const again = operator.begins(['top', '--interval', '100'])
  let tables = 0
  again.stdout?.on('data', (text) => (tables += String(text).split('NAME ').length - 1))
  await eventually('three tables', () => tables >= 3 || undefined)
  again.stdout?.destroy()
  await within('the end of top', once(again, 'close'))
})

test('a service that does not answer is shown as silent, and delays no other', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  await start(lab, operator, 'alone', '--no-keep')
  await start(lab, operator)
  const { pid } = await operator.status('alone')
  process.kill(pid, 'SIGSTOP')
  try {
    const text = await operator.does(['top', '--once', '--interval', '100'])
    assert.match(text, /^alone +silent +1 +\d+ .*does not respond\napp +running +1 /m)
  } finally {
    process.kill(pid, 'SIGCONT')
  }
})
