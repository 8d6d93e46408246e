/** One of several workers, its successor or their keeper, killed or stopped at each step: all slots serve on. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import type { Identity } from '../../src/contract/environment.ts'
import type { Status } from '../../src/control/status.ts'
import { isGone, system } from '../../src/node/system.ts'
import { type Ended, Operator, portOf } from '../support/command.ts'
import { onlyInMatrix, takesAll } from '../support/extent.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab } from '../support/lab.ts'
import { randomFrom } from '../support/load/random.ts'
import { eventually } from '../support/waiting.ts'
import { Witnesses } from '../support/witnesses.ts'
import { bodiesOf, identityIn, keeperOf, logsOf, pidsOf, untilNobody, untilSettled } from '../support/workers.ts'

const workers = 3

/**
 * A release of a program that waits at its start, and in the answer to `/slow`, for as long as
 * there is a file of that step and its slot.
 */
function deploy(lab: Lab, operator: Operator, version: string, before = ''): void {
  mkdirSync(lab.path(version), { recursive: true })
  writeFileSync(
    lab.path(version, 'app.mjs'),
    `import { existsSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { serve } from '${operator.library}'
const slot = process.env.NODE_APP_INSTANCE
const path = (name) => ${JSON.stringify(lab.folder)} + '/' + name + '-' + slot
const tell = (name) => writeFileSync(path(name), String(process.pid))
const gate = async (name) => {
  if (existsSync(path('hold-' + name))) tell('at-' + name)
  while (existsSync(path('hold-' + name))) await new Promise((done) => setTimeout(done, 5))
}
tell('started-${version}')
await gate('boot')
${before}
const server = createServer(async (request, response) => {
  if (request.url === '/slow') await gate('drain')
  response.end('${version} ' + slot + ' ' + process.pid)
})
await serve(server, { host: '127.0.0.1', port: 0 })
tell('serves-${version}')
`,
  )
  rmSync(lab.path('next'), { force: true })
  symlinkSync(version, lab.path('next'))
  renameSync(lab.path('next'), lab.path('current'))
}

type Cell = {
  readonly slot: number
  readonly who: 'keeper' | 'old' | 'new'
  /** `go`: all are let go on, and one of them has not heard it yet. */
  readonly step: 'boot' | 'held' | 'go' | 'committed' | 'drain'
  readonly fault: 'SIGKILL' | 'SIGSTOP' | 'no'
  readonly isRolling: boolean
}

function pidAt(lab: Lab, name: string): number | undefined {
  return existsSync(lab.path(name)) ? Number(lab.read(name)) || undefined : undefined
}

/** A connection to the worker in this slot. */
async function connectTo(status: Status, slot: number): Promise<HttpConnection> {
  return eventually(`a connection to slot ${slot}`, async () => {
    const connection = await HttpConnection.open(portOf(status))
    connection.send('/')
    const { body } = await connection.answer()
    if (body.split(' ')[1] === `${slot}`) return connection
    connection.socket.destroy()
    return undefined
  })
}

/** Begins an upgrade; what it prints, and its end. */
function beginUpgrade(operator: Operator, isRolling: boolean) {
  const child = operator.begins(['upgrade', 'app', ...(isRolling ? ['--rolling'] : [])])
  let output = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  }
  const ended = new Promise<Ended>((done) => child.once('close', (code) => done({ code, stdout: output, stderr: '' })))
  return { ended, output: () => output }
}

async function runCell({ slot, who, step, fault, isRolling }: Cell): Promise<void> {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  deploy(lab, operator, 'one')
  await operator.does(['start', 'current/app.mjs', '--workers', `${workers}`])
  const before = await untilSettled(lab, operator, workers)
  const old = identityIn(before, slot)
  const other = (slot + 1) % workers
  // It stays ready, and waits, for as long as another one boots.
  const hold = {
    boot: `hold-boot-${slot}`,
    held: `hold-boot-${other}`,
    go: `hold-boot-${other}`,
    committed: undefined,
    drain: `hold-drain-${slot}`,
  }[step]
  const slow = step === 'drain' ? await connectTo(before, slot) : undefined
  if (hold !== undefined) writeFileSync(lab.path(hold), '')
  slow?.send('/slow')
  if (slow !== undefined) await eventually('the slow request', () => pidAt(lab, `at-drain-${slot}`))
  await using clients = new Witnesses(portOf(before), 6)
  await clients.untilMore()
  deploy(lab, operator, 'two', fault === 'no' ? `if (slot === '${slot}') throw new Error('no database here')` : '')
  const upgrade = beginUpgrade(operator, isRolling)
  const isThere = {
    boot: () => pidAt(lab, `at-boot-${slot}`),
    held: () => (upgrade.output().includes(`slot ${slot} ready`) ? pidAt(lab, `started-two-${slot}`) : undefined),
    go: () => (upgrade.output().includes(`slot ${slot} ready`) ? pidAt(lab, `started-two-${slot}`) : undefined),
    committed: () => pidAt(lab, `serves-two-${slot}`),
    drain: () => pidAt(lab, `serves-two-${slot}`),
  }[step]
  const pid = await eventually(() => `slot ${slot} at ${step}: ${upgrade.output()}\n${logsOf(lab)}`, isThere)
  const next: Identity = [pid, system.startTime(pid) ?? '']
  const hit = { keeper: keeperOf(before), old, new: next }[who]
  assert.ok(hit[0] > 1)
  if (step === 'go') {
    system.kill(old, 'SIGSTOP')
    rmSync(lab.path(`hold-boot-${other}`))
    await eventually('the others at their commit', () => pidAt(lab, `serves-two-${other}`))
  }
  if (fault !== 'no') system.kill(hit, fault)
  const from = fault === 'SIGKILL' ? await clients.untilGone(...hit) : undefined
  if (step === 'go') system.kill(old, 'SIGCONT')
  if (fault === 'SIGKILL') await clients.untilMore(clients.count)
  if (hold !== undefined) rmSync(lab.path(hold), { force: true })
  if (fault === 'SIGSTOP') {
    // Only the clock tells that time has passed for a process that does not run.
    await new Promise((done) => setTimeout(done, 1_000))
    system.kill(hit, 'SIGCONT')
  }
  const told = await upgrade.ended
  const words = () => `${told.code} ${told.stdout}\n${logsOf(lab)}`
  const status = await untilSettled(lab, operator, workers)
  const versions = new Set(
    (
      await eventually('one version', async () => {
        const bodies = await bodiesOf(await untilSettled(lab, operator, workers))
        // An upgrade one by one that has failed is ended by the next.
        const isOne = new Set(bodies.map((body) => body.split(' ')[0])).size === 1
        return isOne || (isRolling && told.code !== 0) ? bodies : undefined
      }).catch((error: Error) => {
        throw new Error(`${error.message}: ${words()}`)
      })
    ).map((body) => body.split(' ')[0]),
  )
  if (told.code === 0) assert.deepEqual([...versions], ['two'], words())
  if (fault === 'no') assert.equal(told.code, 1)
  if (fault === 'no' && !isRolling) assert.deepEqual(pidsOf(status), pidsOf(before), words())
  if (slow !== undefined && !(who === 'old' && fault === 'SIGKILL')) assert.match((await slow.answer()).body, /^one /)
  const losses = await clients.stop()
  const mayLose = fault === 'SIGKILL' && who !== 'keeper'
  assert.deepEqual(
    losses.filter(({ how, asked }) => !mayLose || how !== 'lost' || asked > (from ?? 0)),
    [],
    words(),
  )
  // What comes next is as ever, in each slot.
  deploy(lab, operator, 'three')
  await operator.does(['upgrade', 'app'])
  assert.deepEqual(await bodiesOf(await untilSettled(lab, operator, workers)), ['three 0', 'three 1', 'three 2'])
  await operator.does(['stop', 'app'])
  await untilNobody(lab)
}

const steps = ['boot', 'held', 'committed', 'drain'] as const
const modes = [false, true] as const
const cells: readonly Cell[] = modes.flatMap((isRolling) => [
  ...(['old', 'new', 'keeper'] as const).flatMap((who, at) =>
    // One by one, nobody waits for another.
    steps
      .filter((step) => !isRolling || step !== 'held')
      .flatMap((step, index) =>
        (['SIGKILL', 'SIGSTOP'] as const).map((fault) => ({
          slot: (at + index) % workers,
          who,
          step,
          fault,
          isRolling,
        })),
      ),
  ),
  ...[0, 1, 2].map((slot) => ({ slot, who: 'new', step: 'boot', fault: 'no', isRolling }) as const),
  ...(isRolling
    ? []
    : (['old', 'new', 'keeper'] as const).map(
        (who) => ({ slot: 1, who, step: 'go', fault: 'SIGKILL', isRolling }) as const,
      )),
])
/** In `npm test`: what the keeper decides for all is nobody else's to lose. */
const examples = ['old held SIGKILL false', 'keeper go SIGKILL false']

describe('an upgrade of three workers', { concurrency: 3 }, () => {
  for (const cell of cells) {
    const { slot, who, step, fault, isRolling } = cell
    const side = who === 'keeper' ? 'the keeper' : `the ${who} version in slot ${slot}`
    const what = { SIGKILL: 'is killed', SIGSTOP: 'stands still for a while', no: 'refuses' }[fault]
    const where = {
      boot: `while the new one in slot ${slot} boots`,
      held: 'while that is ready, and waits for the others',
      go: 'when all were let go on, and one of them has not heard it yet',
      committed: 'right behind its commit',
      drain: 'in the drain',
    }[step]
    const skip =
      !takesAll && !examples.includes(`${who} ${step} ${fault} ${isRolling}`) && 'npm run test:matrix runs it'
    test(
      `${isRolling ? 'one by one: ' : ''}${side} ${what} ${where}: every slot serves, in one version unless it was told otherwise, lost is only what the dead was answering, and the next upgrade is as ever`,
      { skip },
      () => runCell(cell),
    )
  }
})

test(
  'whoever is killed at whatever moment, of workers, successors and keepers under upgrades: every slot comes back, nobody is refused or hangs, and lost is only what the dead was answering',
  onlyInMatrix,
  async (context) => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    deploy(lab, operator, 'v0')
    await operator.does(['start', 'current/app.mjs', '--workers', `${workers}`])
    let status = await untilSettled(lab, operator, workers)
    await using clients = new Witnesses(portOf(status), 6)
    const seed = Number(process.env.COOK_SEED ?? Date.now() % 1_000_000)
    context.diagnostic(`COOK_SEED=${seed}`)
    const random = randomFrom(seed)
    const crashes = Number(process.env.COOK_CRASHES ?? 200)
    for (let done = 1; done <= crashes; done++) {
      await clients.untilMore(clients.count)
      const what = ['upgrade', 'upgrade', '--rolling', 'nothing'][random(0, 3)] ?? ''
      const version = `v${done}`
      if (what !== 'nothing') deploy(lab, operator, version)
      const upgrade = what === 'nothing' ? undefined : beginUpgrade(operator, what === '--rolling')
      const slot = random(0, workers - 1)
      const isNew = upgrade !== undefined && random(0, 2) === 0
      const started = isNew
        ? await eventually(
            () => `a start of ${version} in slot ${slot}: ${upgrade.output()}\n${logsOf(lab)}`,
            () => pidAt(lab, `started-${version}-${slot}`) ?? (upgrade.output().includes('✓') || undefined),
          )
        : undefined
      await new Promise((later) => setTimeout(later, random(0, what === 'nothing' ? 20 : 600)))
      const victims: readonly (readonly [string, () => Identity | undefined])[] = [
        ['keeper', () => keeperOf(status)],
        ['new', () => (typeof started === 'number' ? [started, system.startTime(started) ?? ''] : undefined)],
        [
          'old',
          () => {
            try {
              return identityIn(status, slot)
            } catch {
              return undefined
            }
          },
        ],
      ]
      const [name, look] = victims[random(0, 4) === 0 ? 0 : isNew ? 1 : 2] ?? assert.fail()
      const victim = look()
      if (victim === undefined || victim[1] === '' || isGone(victim)) continue
      const lostBefore = clients.losses.length
      system.kill(victim, 'SIGKILL')
      const from = await clients.untilGone(...victim)
      const told = await upgrade?.ended
      const words = () =>
        `seed ${seed}, ${done}: ${what}, ${name} of slot ${slot}, pid ${victim[0]}: ${told?.code} ${told?.stdout}\n${logsOf(lab)}`
      const [killed] = keeperOf(status)
      status = await untilSettled(
        lab,
        operator,
        workers,
        (now) => name !== 'keeper' || now.keeper?.pid !== killed,
        60_000,
      ).catch((error: Error) => {
        throw new Error(`${words()}\n${error.message}`)
      })
      if (told !== undefined && !(what === '--rolling' && told.code !== 0)) {
        const isOne = async () =>
          new Set((await bodiesOf(await untilSettled(lab, operator, workers))).map((body) => body.split(' ')[0]))
            .size === 1
        await eventually('one version', async () => (await isOne()) || undefined).catch((error: Error) => {
          throw new Error(`${words()}\n${error.message}`)
        })
      }
      status = await untilSettled(lab, operator, workers)
      const lost = clients.losses.slice(lostBefore)
      assert.deepEqual(
        lost.filter(({ asked, how }) => how !== 'lost' || asked > from || name === 'keeper'),
        [],
        words(),
      )
    }
    await operator.does(['upgrade', 'app'])
    await operator.does(['stop', 'app'])
    await untilNobody(lab)
  },
)
