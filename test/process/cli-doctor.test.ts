/** What `cook-daemon doctor` finds, and that it finds nothing where nothing is wrong. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, renameSync, rmSync, statfsSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { Operator, writeProgram } from '../support/command.ts'
import { Lab } from '../support/lab.ts'

type Finding = { readonly of: string; readonly check: string; readonly level: string; readonly text: string }

const memory = '/dev/shm'
const noMemory = () => {
  try {
    return statfsSync(memory).type !== 0x01021994 && `${memory} is not in memory`
  } catch {
    return `there is no ${memory}`
  }
}

/** What is found of a service. The machine may have a fault of its own. */
async function found(operator: Operator, name: string): Promise<readonly Finding[]> {
  const { stdout } = await operator.types(['doctor', name, '--json'])
  return (JSON.parse(stdout) as readonly Finding[]).filter(({ of }) => of === name)
}

test('doctor finds nothing to mend in a service that was just started, and tells the rest as a table', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeFileSync(
    lab.path('app.mjs'),
    "import { createServer } from 'node:http'; createServer((_, response) => response.end()).listen(0, '127.0.0.1')",
  )
  await operator.does(['start', 'app.mjs', '--log', lab.path('app.log')])
  const findings = await found(operator, 'app')
  assert.deepEqual(
    findings.filter(({ level }) => level === 'warning' || level === 'fault'),
    [],
  )
  assert.ok(findings.some(({ check, text }) => check === 'keep-alive time' && text.startsWith('5000 ms on ')))
  const { stdout } = await operator.types(['doctor'])
  assert.match(stdout, /^machine\n {2}✓ node +v\d+/)
  assert.match(
    stdout,
    /\napp\n {2}✓ serves +generation 1, pid \d+, ready\n {2}✓ keeper +pid \d+\n {2}✓ release +\S+app\.mjs\n/,
  )
  assert.equal((await operator.types(['doctor', 'nobody'])).code, 3)
})

test('doctor finds a release that is gone, a service without a keeper, one that is down and one that does not answer', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  mkdirSync(lab.path('releases/1'), { recursive: true })
  writeProgram(lab, 'releases/1/app.mjs', 'one')
  symlinkSync('releases/1', lab.path('current'))
  await operator.does(['start', 'current/app.mjs', '--name', 'web'])
  renameSync(lab.path('releases/1'), lab.path('releases/gone'))
  const [gone] = (await found(operator, 'web')).filter(({ level }) => level === 'fault')
  assert.equal(gone?.check, 'release')
  assert.match(gone?.text ?? '', /releases\/1\/app\.mjs is gone: it cannot be restarted after a crash$/)
  renameSync(lab.path('releases/gone'), lab.path('releases/1'))
  assert.deepEqual(
    (await found(operator, 'web')).filter(({ level }) => level === 'fault'),
    [],
  )
  await operator.does(['start', 'current/app.mjs', '--name', 'alone', '--no-keep'])
  const alone = await found(operator, 'alone')
  assert.ok(alone.some(({ check, level }) => check === 'keeper' && level === 'warning'))
  await operator.does(['stop', 'web'])
  const [down] = await found(operator, 'web')
  assert.deepEqual([down?.check, down?.level], ['serves', 'note'])
  const { pid } = await operator.status('alone')
  process.kill(pid, 'SIGSTOP')
  try {
    const [silent] = await found(operator, 'alone')
    assert.deepEqual([silent?.level, silent?.text], ['fault', 'it does not respond'])
  } finally {
    process.kill(pid, 'SIGCONT')
  }
})

test('doctor finds a log that is in memory, and a limit of descriptors that is nearly used up', {
  skip: noMemory(),
}, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const folder = mkdtempSync(join(memory, 'cook-'))
  try {
    writeFileSync(
      lab.path('app.mjs'),
      `import { openSync } from 'node:fs'
import { createServer } from 'node:http'
for (let opened = 0; opened < 70; opened++) openSync('/dev/null', 'r')
createServer((_, response) => response.end('one')).listen(0, '127.0.0.1')`,
    )
    const limit = 'ulimit -n 100'
    await operator.does(['start', 'app.mjs', '--log', join(folder, 'app.log')], { before: limit })
    const findings = (await found(operator, 'app')).filter(({ level }) => level === 'warning')
    assert.deepEqual(
      findings.map(({ check }) => check),
      ['log', 'open files'],
      JSON.stringify(findings),
    )
    assert.match(findings[1]?.text ?? '', /^pid \d+ has \d+ of 100$/)
    const { code, stdout } = await operator.types(['doctor', 'app'], { before: limit })
    assert.equal(code, 1)
    assert.match(stdout, /! open files +at most 100 per process/)
    await operator.does(['stop', 'app'])
  } finally {
    rmSync(folder, { recursive: true })
  }
})
