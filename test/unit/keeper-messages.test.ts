/** What a keeper and its workers believe: of the channel between them, and of a record on disk. */
import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { fromKeeperWire, type KeeperMessage, toKeeperWire } from '../../src/contract/keeper-messages.ts'
import { readRecord, type ServiceRecord } from '../../src/keeper/plan.ts'
import { recordedNames, recordOf, writeRecord } from '../../src/keeper/records.ts'
import { Lab } from '../support/lab.ts'

const command = { execPath: '/node', execArgv: ['--flag'], args: ['/app.js', 'one'], cwd: '/', script: 'app.js' }

const every: readonly KeeperMessage[] = [
  { type: 'handle', record: { name: 'web', inode: 7 } },
  { type: 'handles', inodes: [1, 2] },
  { type: 'spawn', id: 1, record: { nonce: 'n' }, command, environment: { A: 'b' }, log: '/log' },
  { type: 'kill', id: 1 },
  { type: 'serves', generation: 2, drainTimeout: 30_000, pidFile: '/pid' },
  { type: 'stopping' },
  { type: 'pong' },
  { type: 'cluster' },
  { type: 'failed', why: 'no' },
  { type: 'keeper', execPath: '/node', file: '/keeper.js', name: 'web', folder: '/run' },
  { type: 'spawned', id: 1, pid: 7, startTime: '8' },
  { type: 'spawnFailed', id: 1, why: 'no' },
  { type: 'exit', id: 1, code: 3, signal: 'SIGKILL' },
  { type: 'upgrade' },
  { type: 'ping' },
  { type: 'renew', execPath: '/node', file: '/keeper.js' },
]

test('what worker and keeper say to each other arrives as it was said, also with fields of a later version', () => {
  for (const message of every) {
    const wire = JSON.parse(JSON.stringify({ ...toKeeperWire(message), later: { of: 'another version' } }))
    assert.deepEqual(fromKeeperWire(wire), message)
  }
})

test('garbage on the channel between worker and keeper is ignored, whatever it is', () => {
  const { cmd } = toKeeperWire({ type: 'ping' }) as { cmd: string }
  const types = every.map(({ type }) => type)
  const broken = fc.record(
    {
      cmd: fc.constantFrom(cmd, cmd, cmd, 'NODE_COOK', 1),
      type: fc.oneof(fc.constantFrom(...types, '__proto__', 'constructor', 'toString'), fc.anything()),
      id: fc.anything(),
      record: fc.anything(),
      command: fc.anything(),
      environment: fc.anything(),
      inodes: fc.anything(),
      generation: fc.anything(),
      drainTimeout: fc.anything(),
      pid: fc.anything(),
      why: fc.anything(),
    },
    { requiredKeys: [] },
  )
  fc.assert(
    fc.property(fc.oneof(fc.anything(), broken, fc.jsonValue()), (raw) => {
      const message = fromKeeperWire(raw)
      if (message === undefined) return
      // What is understood is whole, and nothing but what the table knows.
      assert.ok((types as readonly unknown[]).includes(message.type))
      assert.deepEqual(fromKeeperWire(toKeeperWire(message)), message)
      if (message.type === 'spawned') assert.ok(message.pid > 0, 'a pid that would mean more than one process')
    }),
    { numRuns: 5_000 },
  )
})

const record: ServiceRecord = {
  format: 1,
  plan: {
    ...{ name: 'web', folder: '/run', command, environment: { SECRET: 'x' }, program: {}, options: {} },
    file: '/keeper.js',
  },
  state: 'serving',
  place: 'here',
  keeper: { pid: 70, startTime: '8' },
  release: { command, typed: { execPath: '/node', cwd: '/', script: 'app.js' }, environment: {} },
  generation: 3,
  restarts: { crash: 1, hang: 0, memory: 0 },
  lastExit: { generation: 2, pid: 71, code: null, signal: 'SIGKILL', at: 5, words: '' },
  slots: [
    {
      ...{ slot: 0, release: { command, typed: { execPath: '/node', cwd: '/' }, environment: {} }, isProven: true },
      ...{ generation: 3, restarts: { crash: 1, hang: 0, memory: 0 } },
    },
  ],
  at: 6,
}

test('a record is read as it was written', () => {
  assert.deepEqual(readRecord(JSON.parse(JSON.stringify(record))), record)
})

test('a record that is broken in any of its parts, or of another release, is none', () => {
  const paths = (value: unknown): string[][] => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return []
    return Object.entries(value).flatMap(([name, part]) => [[name], ...paths(part).map((path) => [name, ...path])])
  }
  // Names of a user's own environment are no fields.
  const all = paths(record).filter((path) => path.at(-2) !== 'environment')
  const garbage = fc.constantFrom<unknown>(null, 7.5, -1, 'x', true, [], [null], {}, { command: 1 }, Number.NaN, 1e99)
  fc.assert(
    fc.property(fc.constantFrom(...all), garbage, (path, given) => {
      const value = JSON.parse(JSON.stringify(record))
      const last = path.at(-1) ?? ''
      const holder = path.slice(0, -1).reduce((at, name) => at[name], value)
      holder[last] = given
      const read = readRecord(value)
      if (read !== undefined) use(read)
    }),
    { numRuns: 5_000 },
  )
  for (const value of [undefined, null, 'text', [], { ...record, format: 2 }, { ...record, plan: undefined }]) {
    assert.equal(readRecord(value), undefined)
  }
})

/** All that anybody takes from a record, with the types that it says. */
function use({ plan, release, slots, keeper, restarts, lastExit, ...rest }: ServiceRecord): void {
  const releases = [release, ...slots.flatMap((one) => [one.release, one.before ?? one.release])]
  const commands = [plan.command, ...releases.map(({ command: one }) => one)]
  for (const { execPath, execArgv, args, cwd } of commands) {
    for (const text of [execPath, ...execArgv, ...args, cwd]) assert.equal(typeof text, 'string')
  }
  for (const { typed } of releases) {
    assert.equal(typeof typed.cwd, 'string')
    assert.equal(typeof typed.execPath, 'string')
  }
  for (const environment of [plan.environment, ...releases.map(({ environment: one }) => one)]) {
    for (const text of Object.values(environment)) assert.equal(typeof text, 'string')
  }
  for (const number of [restarts.crash, restarts.hang, restarts.memory, rest.generation, rest.at]) {
    assert.ok(Number.isSafeInteger(number), `${number}`)
  }
  assert.ok(Number.isSafeInteger(keeper.pid) && keeper.pid > 0)
  assert.equal(typeof keeper.startTime, 'string')
  assert.equal(typeof plan.name, 'string')
  assert.equal(typeof plan.file, 'string')
  if (lastExit !== undefined) assert.equal(typeof lastExit.words, 'string')
}

test('a record file that is cut, empty, no file, or no one else than its user may read is not believed, and keeps nobody from listing the others', async () => {
  await using lab = await Lab.open()
  const folder = lab.makeFolder('records')
  writeRecord(folder, record)
  assert.deepEqual(recordOf(folder, 'web'), record)
  const whole = readFileSync(lab.path('records/web.service'), 'utf8')
  writeFileSync(lab.path('records/cut.service'), whole.slice(0, -20))
  writeFileSync(lab.path('records/empty.service'), '')
  mkdirSync(lab.path('records/folder.service'))
  symlinkSync('nowhere', lab.path('records/dead.service'))
  symlinkSync('/dev/zero', lab.path('records/endless.service'))
  for (const name of ['cut', 'empty', 'folder', 'dead', 'endless', 'none'])
    assert.equal(recordOf(folder, name), undefined)
  assert.ok(recordedNames(folder).includes('web'))
})
