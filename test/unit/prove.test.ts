/** The page of a proof, and the file in which it is: what nobody may bring into either. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { checkReport, writeReport } from '../../src/cli/prove-file.ts'
import { html } from '../../src/cli/prove-markup.ts'
import { reportMark, reportOf } from '../../src/cli/prove-report.ts'
import type { Round, Span } from '../../src/cli/prove-rounds.ts'
import { type Cell, cellTime, Tape } from '../../src/cli/prove-tape.ts'
import { timelineOf } from '../../src/cli/prove-timeline.ts'
import { readReport } from '../support/report.ts'

test('the page of a proof has everything that comes from outside as text', () => {
  const hostile = `"'><script>alert(1)</script><img src=x onerror=alert(1)>\u0000\u202e&`
  const page = reportOf(proofOf({ failures: [[hostile, 3]], url: hostile, node: hostile }), {
    script: hostile,
    args: [hostile],
    words: ['prove', hostile],
  })
  const { title, pictures } = readReport(page)
  assert.equal(title, `NOT PROVED: ${hostile.replace('\u0000', '\uFFFD').replace('\u202e', '\uFFFD')}`)
  assert.equal(pictures[0]?.crosses, 1)
  assert.equal(html`${['<', "'"]}`.text, '&#60;&#39;')
})

test('a timeline tells answers by the version that gave them, and by their time where they do not say it', () => {
  const { tape, rounds } = proofOf({
    answers: [
      [-20, 0],
      [60, 1],
      [70, 0],
      [30, undefined],
      [65, undefined],
    ],
    failures: [['ECONNRESET', 2]],
  })
  const [measured] = rounds
  assert.ok(measured !== undefined)
  const timeline = timelineOf(measured, tape)
  const sum = (what: 'old' | 'new' | 'bad') => timeline.bins.reduce((all, bin) => all + bin[what], 0)
  assert.deepEqual([sum('old'), sum('new'), sum('bad'), timeline.unmarked], [3, 2, 0, 2])
  assert.deepEqual(
    timeline.marks.map(({ what, at }) => `${what} ${at}`),
    ['begin 0', 'commit 50', 'end 100'],
  )
  const bad = timelineOf({ ...measured, round: { ...measured.round, kind: 'exits' } }, tape)
  assert.equal(
    bad.bins.reduce((all, bin) => all + bin.bad, 0),
    2,
  )
})

test('a report replaces a report and nothing else, and is there whole with the mode that it had', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cook-report-'))
  const at = (name: string) => join(folder, name)
  try {
    writeReport(at('new.html'), `${reportMark}one`)
    assert.equal(statSync(at('new.html')).mode & 0o777, 0o644 & ~process.umask())
    chmodSync(at('new.html'), 0o600)
    writeReport(at('new.html'), `${reportMark}two`)
    assert.deepEqual(
      [readFileSync(at('new.html'), 'utf8'), statSync(at('new.html')).mode & 0o777],
      [`${reportMark}two`, 0o600],
    )
    mkdirSync(at('folder'))
    writeFileSync(at('app.js'), 'serve()')
    symlinkSync(at('new.html'), at('link'))
    execFileSync('mkfifo', [at('pipe')])
    for (const [name, why] of [
      ['folder', /it is a folder/],
      ['app.js', /the file there was not written by prove/],
      ['link', /it is a symlink/],
      ['pipe', /it is not a regular file/],
      ['none/page.html', /none is not a folder/],
    ] as const) {
      assert.throws(() => checkReport(at(name)), why)
      assert.throws(() => writeReport(at(name), ''), why)
    }
    assert.equal(readFileSync(at('app.js'), 'utf8'), 'serve()')
    assert.deepEqual(readdirSync(folder).sort(), ['app.js', 'folder', 'link', 'new.html', 'pipe'])
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('the header that tells the version breaks no answer, however a program sends its head', () => {
  const heads = [
    'response.writeHead(200, { a: 1 })',
    "response.writeHead(200, 'fine', { a: 1 })",
    "response.writeHead(200, [['a', '1'], ['a', '2']])",
    "response.writeHead(200, ['a', '1', 'a', '2'])",
    "response.setHeader('a', '1')",
    'response.flushHeaders()',
    "response.writeHead = () => { throw new Error('own') }; response.socket.end('HTTP/1.1 200 OK\\r\\nconnection: close\\r\\ncontent-length: 0\\r\\n\\r\\n')",
  ]
  const program = `
const { createServer, get } = require('node:http')
const heads = [${heads.map((head) => `(response) => { ${head} }`).join(',')}]
const server = createServer((request, response) => {
  heads[request.url.slice(1)](response)
  response.end()
}).listen(0, '127.0.0.1', async () => {
  const all = []
  for (const at of heads.keys()) {
    all.push(await new Promise((done) => get({ port: server.address().port, host: '127.0.0.1', path: '/' + at, agent: false }, (response) => {
      response.resume()
      done([response.statusCode, response.rawHeaders.filter((_, at, all) => /^(a|cook-daemon.*)$/.test(all[at & ~1])).join(' ')])
    })))
  }
  console.log(JSON.stringify([all, Object.keys(process.env).filter((name) => name.startsWith('COOK_DAEMON_PROVE'))]))
  server.close()
})
process.on('uncaughtException', () => {})`
  const module = fileURLToPath(new URL('../../bundle/proved.cjs', import.meta.url))
  const output = execFileSync(process.execPath, ['--require', module, '-e', program], {
    env: { ...process.env, COOK_DAEMON_PROVE_VERSION: '7' },
    encoding: 'utf8',
  })
  const mark = 'cook-daemon-prove-version 7'
  assert.deepEqual(JSON.parse(output), [
    [
      [200, `${mark} a 1`],
      [200, `${mark} a 1`],
      [200, 'a 1 a 2'],
      [200, 'a 1 a 2'],
      [200, `a 1 ${mark}`],
      [200, mark],
      [200, ''],
    ],
    [],
  ])
})

type Seen = {
  /** When, in milliseconds since the begin, and by which version. */
  readonly answers?: readonly (readonly [number, number | undefined])[]
  readonly failures?: readonly (readonly [string, number])[]
  readonly url?: string
  readonly node?: string
}

/** Of one upgrade, which commits after 50 ms and ends after 100. */
function proofOf({ answers = [], failures = [], url = 'http://localhost/', node = 'v20.0.0' }: Seen) {
  const tape = new Tape()
  const begin = 1_000
  const cellAt = (ms: number): Cell => {
    const at = Math.floor((begin + ms) / cellTime)
    const cell = tape.cells.get(at) ?? { answers: new Map(), failures: new Map(), pings: 0 }
    tape.cells.set(at, cell)
    return cell
  }
  for (const [ms, version] of answers) cellAt(ms).answers.set(version, 1)
  for (const [why, count] of failures) {
    cellAt(55).failures.set(why, count)
    tape.failures.set(why, count)
  }
  const failed = failures.reduce((sum, [, count]) => sum + count, 0)
  const counts = { answered: answers.length, pings: 0, failed, reconnected: 0, returned: 0 }
  const round: Round = {
    ...{ kind: 'good', seconds: 0.1, isRight: true, said: '' },
    ...counts,
    failures: Object.fromEntries(failures),
  }
  const span: Span = { begin, commit: begin + 50, end: begin + 100, version: 1 }
  return {
    ...{ isProved: failed === 0, target: { text: url, isTls: false, request: {} } },
    ...{
      rounds: [{ round, span }],
      tape,
      counts,
      workers: 1,
      isKept: true,
      movesTls: false,
      clients: 1,
      upgrades: 1,
      node,
    },
  }
}
