/**
 * What an unmodified program cannot hear: it is in the log, in the output of `upgrade`, and in
 * `status` until it is over.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import type { Status } from '../../src/control/status.ts'
import { Operator, writeProgram } from '../support/command.ts'
import { FullDisk, noFullDisk } from '../support/full-disk.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

/** A program that knows nothing of the library. */
function writeUnmodified(lab: Lab, file = 'app.cjs', more = ''): void {
  writeFileSync(
    lab.path(file),
    `const { createServer } = require('node:http')
createServer((request, response) => response.end('' + process.pid)).listen(0, '127.0.0.1')
${more}
`,
  )
}

function textsOf({ warnings = [] }: Status): string[] {
  return warnings.map(({ text }) => text)
}

const words = async (operator: Operator, name: string) => [
  await operator.does(['status', name]),
  JSON.stringify((await operator.status(name)).warnings),
]

describe('what is wrong', { concurrency: 3 }, () => {
  test('a pid file that names a stranger is told by the log, upgrade and status, until it is in order', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeUnmodified(lab)
    await operator.does(['start', 'app.cjs', '--name', 'x', '--pid', 'x.pid'])
    const stranger = spawn('sleep', ['600'])
    try {
      writeFileSync(lab.path('x.pid'), `${stranger.pid}\n`)
      const told = new RegExp(`pid file ${lab.path('x.pid')} names another running process \\(pid ${stranger.pid}\\)`)
      assert.match(await operator.does(['upgrade', 'x']), told)
      assert.equal(lab.read('run/x.log').match(new RegExp(told, 'g'))?.length, 1)
      for (const text of await words(operator, 'x')) assert.match(text, told)
      assert.equal(lab.read('x.pid'), `${stranger.pid}\n`)
    } finally {
      stranger.kill('SIGKILL')
    }
    rmSync(lab.path('x.pid'))
    assert.doesNotMatch(await operator.does(['upgrade', 'x']), /warning/)
    assert.deepEqual((await operator.status('x')).warnings, [])
  })

  test('a pid file that somebody writes over or removes later is told by status, and by the log once', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeUnmodified(lab)
    await operator.does(['start', 'app.cjs', '--name', 'x', '--pid', 'x.pid'])
    const { keeper } = await operator.status('x')
    writeFileSync(lab.path('x.pid'), `${process.pid}\n`)
    for (const text of await words(operator, 'x')) assert.match(text, new RegExp(`names pid ${process.pid}, not`))
    assert.equal(lab.read('run/x.log').match(/x\.pid names/g)?.length, 1)
    rmSync(lab.path('x.pid'))
    assert.match(String(textsOf(await operator.status('x'))), /x\.pid is gone/)
    writeFileSync(lab.path('x.pid'), `${keeper?.pid}\n`)
    assert.deepEqual(textsOf(await operator.status('x')), [])
  })

  test('a log that was deleted or moved is told by status and upgrade, and the next version has the log of that name', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeUnmodified(lab, 'app.cjs', "console.log('serves ' + process.pid)")
    await operator.does(['start', 'app.cjs', '--name', 'x'])
    const log = lab.path('run', 'x.log')
    renameSync(log, `${log}.1`)
    for (const text of await words(operator, 'x')) assert.match(text, /x\.log was moved.*x\.log\.1/)
    assert.match(await operator.does(['upgrade', 'x']), /warning: .*x\.log was moved/)
    assert.deepEqual(textsOf(await operator.status('x')), [])
    assert.match(readFileSync(log, 'utf8'), /^serves \d+$/m)
    unlinkSync(log)
    for (const text of await words(operator, 'x')) assert.match(text, /x\.log was deleted/)
    assert.match(await operator.does(['upgrade', 'x', '--json']), /"type":"warning".*x\.log was deleted/)
    assert.deepEqual(textsOf(await operator.status('x')), [])
    assert.match(readFileSync(log, 'utf8'), /^serves \d+$/m)
  })

  test('a log that cannot be opened anew is told by upgrade and by status', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeUnmodified(lab)
    mkdirSync(lab.path('logs'))
    await operator.does(['start', 'app.cjs', '--name', 'x', '--log', 'logs/x.log'])
    renameSync(lab.path('logs'), lab.path('old'))
    assert.match(await operator.does(['upgrade', 'x']), /could not be reopened: .*logs\/x\.log/)
    for (const text of await words(operator, 'x')) assert.match(text, /logs\/x\.log was moved.*old\/x\.log/)
  })

  test('a disk that is full is told by status, as long as the log cannot be written', {
    skip: noFullDisk(),
  }, async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeUnmodified(lab)
    using disk = FullDisk.mount(lab.makeFolder('logs'))
    await operator.does(['start', 'app.cjs', '--name', 'x', '--log', 'logs/x.log'])
    disk.fillBytes()
    for (const text of await words(operator, 'x')) assert.match(text, /logs\/x\.log cannot be written: .*no space/)
    disk.empty()
    assert.deepEqual(textsOf(await operator.status('x')), [])
    await operator.does(['stop', 'x'])
  })

  test('an upgrade by SIGUSR2 that fails is told by the log and by status, until one succeeds', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    for (const kind of ['unmodified', 'serve']) {
      const name = kind
      const write = (more = '') =>
        kind === 'serve' ? writeProgram(lab, `${name}.mjs`, 'one', more) : writeUnmodified(lab, `${name}.cjs`, more)
      write()
      await operator.does(['start', kind === 'serve' ? `${name}.mjs` : `${name}.cjs`])
      write('process.exit(7)')
      const { pid } = await operator.status(name)
      process.kill(pid, 'SIGUSR2')
      const told = /exited before it was ready: exit code 7/
      await eventually('a line in the log', () => told.test(lab.read(`run/${name}.log`)) || undefined)
      assert.match(lab.read(`run/${name}.log`), new RegExp(`^cook-daemon: .*${told.source}`, 'm'))
      for (const text of await words(operator, name)) assert.match(text, told)
      write()
      await operator.does(['upgrade', name])
      assert.deepEqual(textsOf(await operator.status(name)), [])
    }
  })

  test('hooks that throw are told by the log, upgrade and status of the next version, also without warnings of Node', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const write = (hooks: string) =>
      writeFileSync(
        lab.path('app.mjs'),
        `import { createServer } from 'node:http'
import { serve } from '${operator.library}'
const throws = (what) => () => { throw new Error(what + ' is broken') }
await serve(createServer((_, response) => response.end('x')), { host: '127.0.0.1', port: 0, ${hooks} })
`,
      )
    write("onRelease: throws('release')")
    await operator.does(['start', 'app.mjs', '--name', 'x'], { env: { NODE_NO_WARNINGS: '1' } })
    write("onTakeover: throws('takeover')")
    const said = await operator.does(['upgrade', 'x'])
    for (const [what, hook] of [
      ['release', 'onRelease'],
      ['takeover', 'onTakeover'],
    ] as const) {
      const told = new RegExp(`${hook} failed: ${what} is broken`)
      assert.match(said, told)
      assert.match(lab.read('run/x.log'), told)
      for (const text of await words(operator, 'x')) assert.match(text, told)
    }
    write('')
    await operator.does(['upgrade', 'x'])
    assert.deepEqual(textsOf(await operator.status('x')), [])
  })

  test('a program that listens to events hears of a warning, which then is not in its log', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeFileSync(
      lab.path('app.mjs'),
      `import { createServer } from 'node:http'
import { serve } from '${operator.library}'
const onEvent = ({ type, about, text }) => { if (type === 'warning') console.log('heard of ' + about + ': ' + text) }
await serve(createServer((_, response) => response.end('x')), { host: '127.0.0.1', port: 0, onEvent })
`,
    )
    await operator.does(['start', '--no-keep', 'app.mjs', '--name', 'x', '--pid', 'x.pid'])
    rmSync(lab.path('x.pid'))
    assert.match(String(textsOf(await operator.status('x'))), /x\.pid is gone/)
    assert.match(lab.read('run/x.log'), /^heard of pidFile: .*x\.pid is gone/m)
    assert.doesNotMatch(lab.read('run/x.log'), /^cook-daemon/m)
  })

  test('a listener that a new version lets go with --release is told by its log, upgrade and status', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeUnmodified(lab, 'app.cjs', "require('node:net').createServer().listen(0, 'localhost')")
    await operator.does(['start', 'app.cjs', '--name', 'x'])
    writeUnmodified(lab, 'app.cjs', "require('node:net').createServer().listen('\\0cook-test-' + process.pid)")
    const told = /tcp:localhost:0/
    const release = ['--release', 'tcp:localhost:0']
    assert.match(await operator.does(['upgrade', 'x', ...release]), told)
    assert.match(lab.read('run/x.log'), told)
    for (const text of await words(operator, 'x')) assert.match(text, told)
    // An abstract socket of Linux is nobody's to hand over.
    assert.match(
      String(textsOf(await operator.status('x'))),
      /server at @cook-test-\d+ .* upgrades cannot hand it over/,
    )
  })

  test('a successor that was lost is told by the log and status of the old version, which serves again', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    writeUnmodified(lab)
    await operator.does(['start', 'app.cjs', '--name', 'x', '--drain-timeout', '20000'])
    const { pid } = await operator.status('x')
    // A request that is not answered keeps the old one in its drain.
    writeUnmodified(lab, 'app.cjs', "process.on('SIGURG', () => process.abort())")
    const { connect } = await import('node:net')
    const port = Number(/:(\d+)$/.exec(String((await operator.status('x')).listeners[0]?.address))?.[1])
    const client = connect(port, '127.0.0.1', () =>
      client.write('POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n'),
    )
    client.on('error', () => {})
    await eventually('the connection', async () => (await operator.status('x')).connections === 1 || undefined)
    await operator.does(['upgrade', 'x', '--no-wait'])
    const young = await operator.status('x')
    assert.notEqual(young.pid, pid)
    process.kill(young.pid, 'SIGKILL')
    const told = /generation 2\) crashed right after it took over/
    await eventually('the old one again', async () => {
      const status = await operator.status('x').catch(() => undefined)
      return status?.pid === pid && textsOf(status).length > 0 ? status : undefined
    })
    assert.match(lab.read('run/x.log'), told)
    for (const text of await words(operator, 'x')) assert.match(text, told)
    client.destroy()
  })
})
