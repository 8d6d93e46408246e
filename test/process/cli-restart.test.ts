/** What a restart keeps of the start, and that the secrets in it are shown to nobody. */
import assert from 'node:assert/strict'
import { lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { clientOf } from '../../src/control/client.ts'
import { isGone } from '../../src/node/system.ts'
import { Operator } from '../support/command.ts'
import { takesAll } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

/** Answers with what it was started with; and crashes when it is asked to. */
const telling = `const { createServer } = require('node:http')
const options = { secret: process.env.SECRET, args: process.argv.slice(2), execArgv: process.execArgv.slice(2), cwd: process.cwd() }
createServer((request, response) => {
  if (request.url === '/crash') setImmediate(() => { throw new Error('crash') })
  response.end(JSON.stringify(options))
}).listen(0, '127.0.0.1')
setInterval(() => {}, 60_000)`

async function start(lab: Lab, operator: Operator, ...more: readonly string[]) {
  mkdirSync(lab.path('project'), { recursive: true })
  writeFileSync(lab.path('project/app.cjs'), telling)
  const args = ['start', 'app.cjs', '--node-arg', '--no-deprecation', ...more, '--', 'one', 'two']
  await operator.does(args, { cwd: lab.path('project'), env: { SECRET: 'first' } })
}

const told = async (operator: Operator) => JSON.parse(await operator.asks('app'))

describe('a restart', { concurrency: 3 }, () => {
  test('a restart keeps the environment, the arguments and the folder of the start, and --update-env changes the environment', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    await start(lab, operator)
    const before = await told(operator)
    assert.deepEqual(before, {
      secret: 'first',
      args: ['one', 'two'],
      execArgv: ['--no-deprecation'],
      cwd: lab.path('project'),
    })
    await operator.does(['restart', 'app'], { env: { SECRET: 'second' } })
    assert.deepEqual(await told(operator), before)
    await operator.does(['restart', 'app', '--update-env'], { env: { SECRET: 'third' } })
    assert.equal((await told(operator)).secret, 'third')
    await operator.does(['upgrade', 'app', '--update-env'], { env: { SECRET: 'fourth' } })
    await operator.does(['restart', 'app'], { env: { SECRET: 'fifth' } })
    assert.equal((await told(operator)).secret, 'fourth')
  })

  for (const [how, end] of [
    ['was killed', ({ pid }: { pid: number }) => process.kill(pid, 'SIGKILL')],
    ['has crashed', (_: unknown, operator: Operator) => operator.asks('app', '/crash').catch(() => {})],
  ] as const) {
    const skip = how === 'was killed' && !takesAll && 'npm run test:matrix runs it'
    test(`a service without a keeper that ${how} is restarted with what it had, and a stopped one is not`, {
      skip,
    }, async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      await start(lab, operator, '--no-keep')
      const before = await told(operator)
      const status = await operator.status('app')
      await end(status, operator)
      await eventually('its end', () => isGone([status.pid, status.startTime]) || undefined)
      assert.equal((await operator.types(['status', 'app'])).code, 3)
      const again = await operator.types(['restart', 'app'], { env: { SECRET: 'second' } })
      assert.match(again.stderr, /^cook-daemon: app is not running: its last process was killed or crashed/)
      assert.equal(again.code, 0)
      assert.deepEqual(await told(operator), before)
      await operator.does(['stop', 'app'])
      assert.equal((await operator.types(['restart', 'app'])).code, 3)
    })
  }

  test('a restart that does not know the environment of the start says so', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    await start(lab, operator, '--no-keep')
    for (const { pid } of clientOf(lab.path('run'), 'app').owners()) {
      writeFileSync(lab.path(`run/app.${pid}.owner`), '{}')
    }
    const { code, stderr } = await operator.types(['restart', 'app'], { env: { SECRET: 'second' } })
    assert.match(stderr, /the environment in which app was started is unknown: it gets the environment of this command/)
    assert.equal(code, 0)
    assert.equal((await told(operator)).secret, 'second')
  })

  test('the environment of a service is in files of its user alone, and in no output, status or log', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const env = { SECRET: 'a-password' }
    await start(lab, operator)
    const shown: string[] = []
    for (const args of [
      ['upgrade', 'app', '--update-env'],
      ['upgrade', 'app', '--json', '--update-env'],
      ['restart', 'app', '--update-env', '--json'],
      ['status', 'app'],
      ['status', 'app', '--json'],
      ['list', '--json'],
    ]) {
      const { code, stdout, stderr } = await operator.types(args, { env })
      assert.equal(code, 0, stderr)
      shown.push(stdout, stderr)
    }
    assert.equal((await told(operator)).secret, env.SECRET)
    const folder = lab.path('run')
    const holding = readdirSync(folder).filter((file) => {
      if (!lstatSync(`${folder}/${file}`).isFile()) return false
      return readFileSync(`${folder}/${file}`, 'utf8').includes(env.SECRET)
    })
    const { pid } = await operator.status('app')
    assert.deepEqual(holding.sort(), ['app.service', `app@0.${pid}.owner`])
    for (const file of holding) assert.equal(lstatSync(`${folder}/${file}`).mode & 0o777, 0o600)
    assert.equal(lstatSync(folder).mode & 0o777, 0o700)
    assert.equal(shown.join('').includes(env.SECRET), false)
  })
})
