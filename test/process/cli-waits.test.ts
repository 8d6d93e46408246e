/** What `upgrade` says of a new version that does not become ready, and when it gives it up. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { Operator } from '../support/command.ts'
import { onlyInMatrix } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'

/** A loopback address of this process alone, so that a port that is typed is free on it. */
const host = `127.${(process.pid >> 16) & 127}.${(process.pid >> 8) & 255}.${process.pid & 255}`

/** Programs that know nothing of the library, which listen on 3120 and do what follows. */
function write(lab: Lab, file: string, lines: string): void {
  writeFileSync(
    lab.path(file),
    `const { createServer } = require('node:http')
const listen = (port) => createServer((_, response) => response.end('' + process.pid)).listen(port, '${host}')
${lines}
`,
  )
}

async function failedUpgrade(operator: Operator, name: string, more: readonly string[] = []) {
  const before = await operator.status(name)
  const { code, stdout, stderr } = await operator.types(['upgrade', name, ...more])
  assert.equal(code, 1, stdout)
  assert.equal((await operator.status(name)).pid, before.pid)
  return { stdout, stderr }
}

describe('what a new version waits for', { concurrency: 4 }, () => {
  test('a changed port is said at once, fails long before the timeout, and says what to do', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    write(lab, 'app.cjs', 'listen(3120)')
    await operator.does(['start', 'app.cjs'])
    write(lab, 'app.cjs', "listen(3125); console.log('boots')")
    const { stdout, stderr } = await failedUpgrade(operator, 'app')
    assert.match(stdout, new RegExp(`waits: the program listens on ${host}:3125, and has not opened ${host}:3120`))
    assert.match(stderr, new RegExp(`listens on ${host}:3125, but not on ${host}:3120, where the old version listens`))
    assert.match(stderr, /The old version \(pid \d+\) still serves/)
    assert.match(stderr, /--release .* PORT/)
    assert.doesNotMatch(stderr, /notifyUpgradeDone/)
    // Its own last words, and not ours when it hears of its refusal.
    assert.match(stderr, /It printed:\n {2}boots\n/)
    assert.doesNotMatch(stderr, /refused this process|CookError/)
    const { lastUpgrade } = await operator.status('app')
    assert.equal(lastUpgrade?.code, 'ERR_COOK_LISTENERS_MISSING')
    assert.ok(Number(lastUpgrade?.seconds) < 30, `${lastUpgrade?.seconds} s`)
    await operator.does(['upgrade', 'app', '--release', '3120'])
    assert.deepEqual(
      (await operator.status('app')).listeners.map(({ address }) => address),
      [`${host}:3125`],
    )
  })

  test('a new version that opens one of two listeners and has nothing left to do fails long before the timeout', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    write(lab, 'app.cjs', 'listen(3121); listen(3122)')
    await operator.does(['start', 'app.cjs'])
    write(lab, 'app.cjs', "listen(3121); process.on('beforeExit', () => console.log('heard of its end'))")
    const { stderr } = await failedUpgrade(operator, 'app')
    assert.match(stderr, new RegExp(`does not listen on ${host}:3122, where the old version listens`))
    assert.doesNotMatch(lab.read('run/app.log'), /heard of its end/)
  })

  test(
    'a new version that listens elsewhere first, and where it should once its database answers, is waited for',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const late = `
const { connect, createServer: createDatabase } = require('node:net')
// Slow, and only there at the third try: nothing but a timer, or a connection, is in the loop meanwhile.
let tries = 0
const query = () => {
  if (++tries < 3) return setTimeout(query, 1_200)
  const database = createDatabase((socket) => setTimeout(() => socket.end('rows'), 1_200).unref()).listen(0, () => {
    connect(database.address().port).once('data', () => { database.close(); listen(3123) })
  })
}
listen(3126)
query()`
      write(lab, 'app.cjs', 'listen(3123)')
      await operator.does(['start', 'app.cjs'])
      write(lab, 'app.cjs', late)
      assert.match(await operator.does(['upgrade', 'app']), /waits: the program listens on .*:3126/)
      assert.deepEqual((await operator.status('app')).listeners.map(({ address }) => address).sort(), [
        `${host}:3123`,
        `${host}:3126`,
      ])
    },
  )

  test(
    'a new version that is slow is said to be waited for, and a timer of the program keeps it from being given up',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      write(lab, 'app.cjs', 'listen(3124)')
      await operator.does(['start', 'app.cjs'])
      write(lab, 'app.cjs', 'listen(3127); setInterval(() => {}, 1_000)')
      const { stdout, stderr } = await failedUpgrade(operator, 'app', ['--ready-timeout', '3500'])
      assert.match(stdout, /waits: the program listens on .*:3127/)
      assert.match(stderr, /it was not ready after 3\.5 s, and was killed/)
      assert.match(stderr, new RegExp(`but not on ${host}:3124`))
      write(lab, 'app.cjs', 'setInterval(() => {}, 1_000)')
      const slow = await failedUpgrade(operator, 'app', ['--ready-timeout', '6000'])
      assert.match(slow.stdout, new RegExp(`waits: the program has not opened ${host}:3124`))
    },
  )
})
