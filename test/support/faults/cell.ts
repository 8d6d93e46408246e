/** Runs one cell of the fault matrix: the fault, at its step, on its side; then everything that must hold whatever the fault was. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { UpgradeOptions } from 'cook-daemon'
import { isAlive, system } from '../../../src/node/system.ts'
import { HttpConnection } from '../http-connection.ts'
import { Lab, type Puppet } from '../lab.ts'
import { eventually, within } from '../waiting.ts'
import { CellClients } from './clients.ts'
import { descriptorsOf, filesIn, processesOf } from './left.ts'
import type { Cell, Fault, Outcome, Side, Step } from './table.ts'
import { FullVolume } from './volume.ts'
import { spawnScript } from './wrapper.ts'

/** Deadlines of the library that a fault may have to outlast, in milliseconds: enough for a boot on a slow machine, and little enough to wait for. */
const short = { readyTimeout: 4_000, drainTimeout: 1_500 }
const long = { readyTimeout: 60_000, drainTimeout: 20_000 }
/** How long both accept at the step `done`, in milliseconds: it holds the new version there. */
const overlap = 300

/** What is done to a process from outside to make it slow: it runs for a part of the time. */
const slice = { stopped: 25, running: 10 }

const afterCommit: readonly Step[] = ['handover', 'drain', 'exit']

export async function runCell(cell: Cell): Promise<Outcome> {
  await using lab = await Lab.open()
  await using volume = cell.fault === 'disk' ? FullVolume.mount(lab.makeFolder('disk')) : undefined
  const run = new Run(lab, volume, cell)
  await run.start()
  await using clients = await CellClients.start(run.port, cell.step === 'drain' || cell.step === 'handover')
  if (clients.hasSlow) await run.old.event('asked')
  await run.untilFault()
  await run.untilOver(clients)
  const outcome = { ...(await run.outcome()), clients: '' }
  if (process.env.DEBUG) console.log(lab.output, JSON.stringify(run.old.events.filter((e) => e.event === 'drained' || e.event === 'hook-failed')))
  const serving = await run.checkWhoServes()
  outcome.clients = clients.lost(run.dead)
  await run.checkNext(serving, clients)
  return outcome
}

class Run {
  readonly #lab: Lab
  readonly #volume: FullVolume | undefined
  readonly #cell: Cell
  old!: Puppet
  young: Puppet | undefined
  port = 0
  #descriptors: readonly string[] = []
  #upgrading!: Promise<string>
  readonly #ends: (() => unknown)[] = []

  constructor(lab: Lab, volume: FullVolume | undefined, cell: Cell) {
    this.#lab = lab
    this.#volume = volume
    this.#cell = cell
  }

  get #folder(): string {
    return this.#volume?.folder ?? this.#lab.folder
  }

  async start(): Promise<void> {
    const { side, step, fault } = this.#cell
    const args = this.#volume === undefined ? [] : [`--daemonize=${JSON.stringify({ logFile: `${this.#folder}/log` })}`]
    this.old = await this.#lab.start('puppet', { args })
    const isOwn = side === 'old' && ['state', 'handover', 'exit'].includes(step)
    const plan = { ...this.#options(), ...(isOwn && { step, fault }) }
    this.port = await this.old.run(({ serveWithFault }, given) => serveWithFault(given), plan)
    this.#descriptors = await descriptorsOf(this.old)
  }

  #options() {
    const { fault, step, waits } = this.#cell
    const isAfter = afterCommit.includes(step)
    const deadlines = {
      readyTimeout: (waits && !isAfter ? short : long).readyTimeout,
      drainTimeout: (waits && isAfter ? short : long).drainTimeout,
    }
    return { pidFile: `${this.#folder}/pid`, ...deadlines, ...(step === 'done' && fault !== 'slow' && { overlap }) }
  }

  /** Begins the upgrade and brings both sides to the step, with the fault. */
  async untilFault(): Promise<void> {
    const { side, step, fault, stage = 'daemon' } = this.#cell
    const before = !afterCommit.includes(step)
    if (step === 'spawn' && side === 'old' && fault === 'descriptors') await this.#inflict(this.old)
    const options: UpgradeOptions = { stage, args: stage === 'parent' ? ['--daemonize={}'] : [] }
    if (step === 'spawn') Object.assign(options, { execPath: spawnScript(this.#lab, side === 'new' ? fault : 'hold') })
    this.#upgrading = this.old.run(
      ({ kept }, given) =>
        Promise.resolve(kept.daemon?.upgrade(given)).then(
          () => 'succeeds',
          (error) => `${error.code}: ${error.message}`,
        ),
      options,
    )
    this.#upgrading.catch(() => {})
    if (step === 'spawn') {
      await this.#atSpawn()
      return
    }
    const young = await this.#next()
    const isHeld = side === 'old' && !['state', 'handover', 'exit'].includes(step)
    const fromOutside = (fault === 'slow' || fault === 'disk') && before
    const plan = {
      ...this.#options(),
      ...(side === 'new' && { step, fault: fromOutside ? ('hold' as const) : fault }),
      ...(isHeld && { step, fault: 'hold' as const }),
    }
    young.run(({ serveWithFault }, given) => serveWithFault(given), plan).catch(() => {})
    if (step === 'drain') {
      await this.#untilStoppedAccepting()
      await this.#inflict(side === 'new' ? young : this.old)
      return
    }
    if (side === 'new') {
      await this.#reached(young)
      if (fault === 'slow' || fault === 'disk') await this.#inflict(young)
      if (fromOutside) this.#release(young)
      return
    }
    if (!isHeld) {
      await this.#reached(this.old)
      if (fault === 'slow') this.#slow(this.old)
      return
    }
    await young.event('at')
    await this.#inflict(this.old)
    this.#release(young)
  }

  #release(puppet: Puppet): void {
    puppet.run(({ kept }) => (kept.release as () => void)()).catch(() => {})
  }

  async #atSpawn(): Promise<void> {
    const { side, fault } = this.#cell
    if (side === 'new' && fault === 'link') await this.#serveNext()
    if (side === 'new' && fault !== 'slow' && fault !== 'disk') return
    if (fault === 'descriptors') return
    const file = this.#lab.path('bin', 'pid')
    const pid = await eventually('the process', () =>
      existsSync(file) ? Number(readFileSync(file, 'utf8')) || undefined : undefined,
    )
    if (side === 'old' || fault === 'disk') await this.#inflict(this.old)
    else this.#slow({ pid, startTime: system.startTime(pid) })
    writeFileSync(this.#lab.path('bin', 'go'), '')
    await this.#serveNext()
  }

  async #serveNext(): Promise<void> {
    const young = await this.#next()
    young.run(({ serveWithFault }, given) => serveWithFault(given), this.#options()).catch(() => {})
  }

  async #next(): Promise<Puppet> {
    this.young = await this.#lab.next()
    return this.young
  }

  /** A process that dies of it does not say so any more. */
  async #reached(puppet: Puppet): Promise<void> {
    await Promise.race([puppet.event('at'), puppet.gone])
  }

  async #inflict(puppet: Puppet): Promise<void> {
    const { fault } = this.#cell
    if (fault === 'disk') this.#volume?.fill()
    else if (fault === 'slow') this.#slow(puppet)
    else {
      const done = puppet.run(({ inflict }, given) => inflict(given), fault)
      const isQuiet = fault === 'SIGSTOP' || fault === 'loop'
      if (isQuiet) done.catch(() => {})
      else await done.catch(() => {})
      if (isQuiet) await stands(puppet.pid, fault)
    }
  }

  #slow(one: { readonly pid: number; readonly startTime: string | undefined }): void {
    let isOver = false
    const identity = [one.pid, one.startTime ?? ''] as const
    const running = (async () => {
      while (!isOver && isAlive(identity)) {
        system.kill(identity, 'SIGSTOP')
        await pause(slice.stopped)
        system.kill(identity, 'SIGCONT')
        await pause(slice.running)
      }
    })()
    this.#ends.push(() => {
      isOver = true
      return running
    })
  }

  async #untilStoppedAccepting(): Promise<void> {
    await eventually('that the old version accepts no more', async () =>
      (await this.old.run(({ kept }) => kept.server?.listening)) === false ? true : undefined,
    )
  }

  /** The fault has had all its consequences: one of the two serves, and the other is gone. */
  async untilOver(clients: CellClients): Promise<void> {
    const { side, step, fault, serves } = this.#cell
    const patient = side === 'old' ? this.old : this.young
    if (fault === 'SIGSTOP' || (fault === 'loop' && side === 'old' && !afterCommit.includes(step))) {
      await this.#outlast(patient)
    }
    if (fault === 'descriptors') {
      await Promise.race([this.#upgrading, this.old.gone]).catch(() => {})
      if (afterCommit.includes(step)) await clients.untilAsked()
      await patient?.run(({ giveDescriptorsBack }) => giveDescriptorsBack()).catch(() => {})
    }
    await this.#upgrading.catch(() => {})
    if (serves === 'new') await this.#finishSlow(clients)
    await within(`the end of the ${serves === 'old' ? 'new' : 'old'} version`, (serves === 'old' ? this.young?.gone : this.old.gone) ?? Promise.resolve())
    if (serves === 'old') {
      await eventually('that the old version is ready', async () =>
        (await this.old.run(({ kept }) => kept.daemon?.phase)) === 'ready' || undefined,
      )
      await this.#finishSlow(clients)
    }
    for (const end of this.#ends.splice(0)) await end()
    await clients.slowIsOver
  }

  async #finishSlow(clients: CellClients): Promise<void> {
    if (clients.hasSlow) await this.old.run(({ kept }) => (kept.finish as () => void)()).catch(() => {})
  }

  /** Until the deadline of the other side, and for an owner before the commit, which has none, until the operator's. */
  async #outlast(patient: Puppet | undefined): Promise<void> {
    const { side, step, fault } = this.#cell
    if (side === 'old' && !afterCommit.includes(step)) {
      // The clock is all that can tell that a deadline has passed for a process that does not run.
      await pause(fault === 'loop' ? 200 : short.readyTimeout + 500)
      patient?.kill(fault === 'loop' ? 'SIGKILL' : 'SIGCONT')
      return
    }
    if (side === 'old') await within('the end of the old version, which stands still', this.old.gone)
    else {
      await this.#upgrading.catch(() => {})
      if (afterCommit.includes(step)) await this.old.event('successor-lost')
    }
    patient?.kill('SIGCONT')
  }

  async outcome(): Promise<Omit<Outcome, 'clients'>> {
    const said = await this.#upgrading.catch(() => '–')
    const events = [this.old, this.young].flatMap((puppet, at) => {
      const names = (puppet?.events ?? []).map(({ event }) => event).filter((name) => told.has(name))
      return [...new Set(names)].map((name) => `${at === 0 ? 'old' : 'new'}: ${name}`)
    })
    return { upgrade: said, events }
  }

  get dead(): Puppet | undefined {
    return this.#cell.serves === 'old' ? this.young : this.old
  }

  /** Exactly one process, and the pid file names it. */
  async checkWhoServes(): Promise<Puppet> {
    const serving = this.#cell.serves === 'old' ? this.old : this.young
    assert.ok(serving !== undefined, 'there was no new version')
    const answers = new Set<string>()
    for (let asked = 0; asked < 6; asked++) answers.add(await pidAt(this.port))
    answers.add(await pidAt(`${this.#folder}/app.sock`))
    assert.deepEqual([...answers], [String(serving.pid)], 'who answers')
    assert.equal(readFileSync(`${this.#folder}/pid`, 'utf8').trim(), String(serving.pid), 'whom the pid file names')
    assert.deepEqual(await untilAlone(this.#lab.folder, serving.pid), [], 'processes that are left')
    return serving
  }

  /** The next upgrade works, clients lose nothing by it, and nothing of either is left. */
  async checkNext(serving: Puppet, clients: CellClients): Promise<void> {
    this.#volume?.empty()
    const before = clients.failures()
    const upgrading = serving.run(({ kept }) => kept.daemon?.upgrade({ args: [], execPath: process.execPath, overlap: 0, stage: 'daemon' }).then(() => {}))
    upgrading.catch(() => {})
    const next = await this.#lab.next()
    await next.run(({ serveWithFault }, given) => serveWithFault(given), { ...long, pidFile: `${this.#folder}/pid` })
    await upgrading
    await within('the end of the one before', serving.gone)
    assert.equal(await pidAt(this.port), String(next.pid), 'who answers after the next upgrade')
    assert.equal(readFileSync(`${this.#folder}/pid`, 'utf8').trim(), String(next.pid))
    await clients.stop()
    assert.deepEqual(clients.failures(), before, 'what clients lost by the next upgrade')
    assert.deepEqual(await untilAlone(this.#lab.folder, next.pid), [], 'processes that are left')
    let found: readonly string[] = []
    await eventually(
      'the descriptors of a process that has nothing to do',
      async () => {
        found = await descriptorsOf(next)
        return String(found) === String(this.#descriptors) || undefined
      },
      3_000,
    ).catch(() => assert.deepEqual(found, this.#descriptors, 'descriptors of the one that serves now'))
    assert.deepEqual(filesIn(this.#folder), this.#volume === undefined ? ['app.sock', 'lab', 'pid'] : ['app.sock', 'log', 'pid'])
  }
}

/** Events that tell an operator something; the phases come at each upgrade. */
const told = new Set(['upgraded', 'upgrade-failed', 'successor-lost', 'hook-failed', 'unclaimed'])

async function pidAt(where: number | string): Promise<string> {
  const connection = await HttpConnection.open(typeof where === 'number' ? where : { path: where })
  const { body } = await connection.ask('/pid')
  connection.socket.destroy()
  return body
}

async function untilAlone(mark: string, pid: number): Promise<readonly string[]> {
  let others: readonly string[] = []
  const look = () => {
    others = processesOf(mark).filter((one) => one.pid !== pid).map(({ words }) => words)
    return others.length === 0 || pause(20).then(() => undefined)
  }
  await eventually('the end of all others', look, 5_000).catch(() => {})
  return others
}

/** The kernel says so. */
async function stands(pid: number, fault: Fault): Promise<void> {
  if (fault === 'SIGSTOP') await eventually('a process that stands', () => stateOf(pid) === 'T' || undefined)
}

function stateOf(pid: number): string | undefined {
  return /\) (\w) /.exec(existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8') : '')?.[1]
}

function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms))
}
