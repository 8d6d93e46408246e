/**
 * Runs one cell of the fault matrix: the fault, at its step, on its side; then everything that must
 * hold whatever the fault was.
 */
import assert from 'node:assert/strict'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import type { DaemonUpgradeOptions, DrainReport, UpgradeOptions } from 'cook-daemon'
import { isAlive, system } from '../../../src/node/system.ts'
import type { Plan } from '../../fixtures/faults.ts'
import { FullDisk } from '../full-disk.ts'
import { HttpConnection } from '../http-connection.ts'
import { Lab, type Puppet } from '../lab.ts'
import { eventually, within } from '../waiting.ts'
import { CellClients } from './clients.ts'
import { beforeDaemonize, spawnScript } from './early.ts'
import { descriptorsOf, filesIn, processesOf } from './left.ts'
import type { Cell, Fault, Side, Step } from './table.ts'

export type Place = {
  readonly side: Side
  readonly step: Step
  readonly fault: Fault
  readonly stage: 'daemon' | 'parent'
}

/**
 * Deadlines of the library, in milliseconds: where a fault has to outlast one, enough for a boot on
 * a slow machine and little enough to wait for.
 */
const short = { readyTimeout: 4_000, drainTimeout: 2_000 }
/** For a drain that a fault makes wait for its end, and that has something to do before. */
const middle = { drainTimeout: 5_000 }
const long = { readyTimeout: 60_000, drainTimeout: 20_000 }
/**
 * How long both accept at the step `done`, in milliseconds: it holds the new version there, until a
 * machine with many cells at once has brought the fault to the old one.
 */
const overlap = 1_500
/** What makes a process slow: it runs for a part of the time, in milliseconds. */
const slice = { stopped: 25, running: 10 }
/** How long an owner stands before the operator kills it: nothing waits for anything then. */
const loopFor = 200

const afterCommit: readonly Step[] = ['handover', 'drain', 'exit']
/** Where the old version itself is at the step, and needs nobody to tell it so. */
const ownSteps: readonly Step[] = ['state', 'handover', 'exit']
/** Events that tell an operator something; the others come at each upgrade. */
const told: readonly string[] = [
  'upgraded',
  'upgrade-failed',
  'successor-lost',
  'predecessor-killed',
  'hook-failed',
  'unclaimed',
]

/** Rejects if anything is not as the table says. */
export async function runCell(place: Place, expected: Cell): Promise<void> {
  await using lab = await Lab.open()
  using disk = place.fault === 'disk' ? FullDisk.mount(lab.makeFolder('disk')) : undefined
  const run = new Run(lab, disk, place, expected)
  await run.start()
  await using clients = await CellClients.start(run.port, place.step === 'drain' || place.step === 'handover')
  await run.untilAccepted()
  if (clients.hasSlow) await run.old.event('asked')
  await run.untilFault()
  await run.untilOver(clients)
  await run.checkReport()
  await run.checkWhoServes()
  clients.check(expected.clients, run.drained)
  await run.checkNext(clients)
}

class Run {
  readonly #lab: Lab
  readonly #disk: FullDisk | undefined
  #hasNoPid = false
  readonly #place: Place
  readonly #expected: Cell
  old!: Puppet
  #young: Puppet | undefined
  port = 0
  #descriptors: readonly string[] = []
  #upgrading!: Promise<string>
  #stopSlowing: () => Promise<unknown> = async () => {}

  constructor(lab: Lab, disk: FullDisk | undefined, place: Place, expected: Cell) {
    this.#lab = lab
    this.#disk = disk
    this.#place = place
    this.#expected = expected
  }

  /** Where pid file and Unix path are. */
  get #folder(): string {
    return this.#disk?.folder ?? this.#lab.folder
  }

  get #isAfter(): boolean {
    return afterCommit.includes(this.#place.step)
  }

  get #patient(): Puppet | undefined {
    return this.#place.side === 'old' ? this.old : this.#young
  }

  get drained(): DrainReport | undefined {
    const event = this.old.events.find((one) => one.event === 'drained')
    return (event?.value as { readonly report: DrainReport } | undefined)?.report
  }

  async start(): Promise<void> {
    const { side, step, fault } = this.#place
    const logFile = `${this.#folder}/log`
    const args = this.#disk === undefined ? [] : [`--daemonize=${JSON.stringify({ logFile })}`]
    this.old = await this.#lab.start('puppet', { args })
    const isOwn = side === 'old' && ownSteps.includes(step)
    this.port = await this.#serve(this.old, { ...this.#options(), ...(isOwn && { step, fault }) })
    this.#descriptors = await descriptorsOf(this.old)
  }

  /** What still waits in the queue of the listener belongs to no process. */
  async untilAccepted(): Promise<void> {
    const areAccepted = async () => (await this.#connections()) >= CellClients.lasting || undefined
    await eventually('the connections of the clients', areAccepted)
  }

  #connections(): Promise<number> {
    return this.old.run(
      ({ kept }) => new Promise<number>((told) => kept.server?.getConnections((_, found) => told(found))),
    )
  }

  #serve(puppet: Puppet, plan: Plan): Promise<number> {
    return puppet.run(({ serveWithFault }, given) => serveWithFault(given), plan)
  }

  #options(): Plan {
    const { fault, step } = this.#place
    const waits = fault === 'SIGSTOP' || fault === 'loop'
    return {
      pidFile: `${this.#folder}/pid`,
      readyTimeout: (waits && !this.#isAfter ? short : long).readyTimeout,
      drainTimeout: this.#drainTimeout(),
      ...(step === 'done' && { overlap }),
    }
  }

  /**
   * Short only where it has to pass; what comes before the fault must fit in it on a slow machine
   * too.
   */
  #drainTimeout(): number {
    const { side, fault, step } = this.#place
    const stands = fault === 'SIGSTOP' || fault === 'loop'
    const stalls = stands || fault === 'link' || fault === 'garbage' || (fault === 'descriptors' && side === 'new')
    if (step === 'handover' && stalls) return short.drainTimeout
    const waits = stands || (fault === 'descriptors' && side === 'new') || (fault === 'link' && step === 'drain')
    return (this.#isAfter && waits ? middle : long).drainTimeout
  }

  /** Begins the upgrade and brings both sides to the step, with the fault. */
  async untilFault(): Promise<void> {
    const { side, step, fault, stage } = this.#place
    const isEarly = step === 'spawn' || (step === 'boot' && stage === 'parent')
    // The spawn itself is what fails.
    if (step === 'spawn' && side === 'old' && fault === 'descriptors') await this.#inflict(this.old)
    this.#upgrading = this.old.run(
      ({ kept }, given) =>
        Promise.resolve(kept.daemon?.upgrade(given)).then(
          () => 'succeeds',
          (error) => `${error.code}: ${error.message}`,
        ),
      this.#upgradeOptions(),
    )
    this.#upgrading.catch(() => {})
    if (isEarly) await this.#faultBeforeProgram()
    else if (step === 'drain') await this.#faultInDrain()
    else await this.#faultAtStep()
  }

  #upgradeOptions(): UpgradeOptions {
    const { side, step, fault, stage } = this.#place
    const args = stage === 'parent' ? ['--daemonize={}'] : []
    const what = side === 'old' ? 'hold' : fault
    if (step === 'spawn') return { stage, args, execPath: spawnScript(this.#lab, what) }
    if (step === 'boot' && stage === 'parent') return { stage, args: [beforeDaemonize(this.#lab, what), ...args] }
    return { stage, args }
  }

  async #faultBeforeProgram(): Promise<void> {
    const { side, fault } = this.#place
    const comesFromOutside = side === 'old' || fault === 'slow' || fault === 'disk'
    if (comesFromOutside && fault !== 'descriptors') {
      const pid = await eventually('the new process', () => numberIn(this.#lab.path('bin', 'pid')))
      if (side === 'old' || fault === 'disk') await this.#inflict(this.old)
      else this.#slow([pid, system.startTime(pid) ?? ''])
      writeFileSync(this.#lab.path('bin', 'go'), '')
    }
    // What is dead, stands still or is killed at once runs no program; one without its link finds
    // out in its program.
    const runsOn =
      side === 'old' ? fault !== 'descriptors' && fault !== 'garbage' : ['slow', 'disk', 'link'].includes(fault)
    if (!runsOn) return
    this.#young = await this.#lab.next()
    this.#serve(this.#young, this.#options()).catch(() => {})
  }

  async #faultInDrain(): Promise<void> {
    this.#young = await this.#lab.next()
    await this.#serve(this.#young, this.#options())
    // Only the long request is left: what else was there has moved.
    const isReached = async () => (await this.#connections()) <= 1 || undefined
    await eventually('that the old version accepts no more', async () =>
      (await this.old.run(({ kept }) => kept.server?.listening)) === false ? isReached() : undefined,
    )
    await this.#inflict(this.#place.side === 'old' ? this.old : this.#young)
  }

  async #faultAtStep(): Promise<void> {
    const { side, step, fault } = this.#place
    const young = await this.#lab.next()
    this.#young = young
    const comesFromOutside = fault === 'slow' || fault === 'disk'
    // The new version waits at the step until the fault is there; after the commit nothing can be
    // held.
    const isHeld = !this.#isAfter && (side === 'new' ? comesFromOutside : !ownSteps.includes(step))
    const plan: Plan = isHeld
      ? { ...this.#options(), step, fault: 'hold' }
      : side === 'new'
        ? { ...this.#options(), step, fault }
        : this.#options()
    this.#serve(young, plan).catch(() => {})
    const first = isHeld || side === 'new' ? young : this.old
    // One that dies of it may not come to say so.
    await Promise.race([first.event('at'), first.gone])
    if (isHeld || comesFromOutside) await this.#inflict(side === 'old' ? this.old : young)
    if (isHeld) young.run(({ kept }) => (kept.release as () => void)()).catch(() => {})
  }

  async #inflict(puppet: Puppet): Promise<void> {
    const { fault } = this.#place
    if (fault === 'disk') this.#disk?.fill()
    else if (fault === 'slow') this.#slow([puppet.pid, puppet.startTime ?? ''])
    else {
      const inflicted = puppet.run(({ inflict }, given) => inflict(given), fault).catch(() => {})
      if (fault === 'SIGSTOP') await eventually('a process that stands', () => stateOf(puppet.pid) === 'T' || undefined)
      else if (fault !== 'loop') await inflicted
    }
  }

  #slow(identity: readonly [number, string]): void {
    let isOver = false
    const slowing = (async () => {
      while (!isOver && isAlive(identity)) {
        system.kill(identity, 'SIGSTOP')
        await pause(slice.stopped)
        system.kill(identity, 'SIGCONT')
        await pause(slice.running)
      }
    })()
    this.#stopSlowing = () => {
      isOver = true
      return slowing
    }
  }

  /** The fault has had all its consequences: one of the two serves, and the other is gone. */
  async untilOver(clients: CellClients): Promise<void> {
    const { side, fault } = this.#place
    const { serves } = this.#expected
    // Else it would be cut at drainTimeout, whatever the other side does.
    if (side === 'new' && this.#isAfter) await this.#finishSlow(clients)
    if (fault === 'SIGSTOP' || fault === 'loop') await this.#outlast()
    if (fault === 'descriptors') {
      await this.#upgrading.catch(() => {})
      // At the handover it lasts until the old version has given up.
      if (this.#place.step === 'handover' && side === 'new') await this.old.gone
      else if (this.#isAfter) await clients.untilAsked()
      const given = this.#patient?.run(({ giveDescriptorsBack }) => giveDescriptorsBack())
      // An old version may be on its way out.
      await (side === 'old' ? given?.catch(() => {}) : given)
    }
    await this.#upgrading.catch(() => {})
    if (serves === 'new') await this.#finishSlow(clients)
    const dead = serves === 'old' ? this.#young : this.old
    await within(`the end of the ${serves === 'old' ? 'new' : 'old'} version`, dead?.gone ?? Promise.resolve())
    if (serves === 'old') {
      await eventually(
        'that the old version is ready',
        async () => (await this.old.run(({ kept }) => kept.daemon?.phase)) === 'ready' || undefined,
      )
      await this.#finishSlow(clients)
    }
    await this.#stopSlowing()
    await clients.untilSlowIsOver()
  }

  async #finishSlow(clients: CellClients): Promise<void> {
    if (clients.hasSlow) await this.old.run(({ kept }) => (kept.finish as () => void)()).catch(() => {})
  }

  /**
   * Until the other side's deadline has passed; the owner before the commit has none but the
   * operator's.
   */
  async #outlast(): Promise<void> {
    const { side, step, fault } = this.#place
    if (side === 'old' && !this.#isAfter) {
      // Only the clock tells that a deadline has passed for a process that does not run.
      await pause(fault === 'loop' ? loopFor : short.readyTimeout + 500)
      this.old.kill(fault === 'loop' ? 'SIGKILL' : 'SIGCONT')
      return
    }
    if (side === 'old' && step === 'exit') {
      assert.equal(
        await pidAt(this.port),
        String(this.#young?.pid),
        'who answers beside an old version that stands still',
      )
      this.old.kill(fault === 'loop' ? 'SIGKILL' : 'SIGCONT')
      return
    }
    if (side === 'old') await within('the end of the old version, which stands still', this.old.gone)
    else if (!this.#isAfter) await this.#upgrading.catch(() => {})
    else if (this.#young !== undefined) await within('the end of the new version, which stands still', this.#young.gone)
    this.#patient?.kill('SIGCONT')
  }

  /** What upgrade() said, and the events. */
  async checkReport(): Promise<void> {
    const said = await this.#upgrading.catch(() => '–')
    const { upgrade, events } = this.#expected
    const [code = '', words = ''] = upgrade.split(': ')
    assert.ok(said.startsWith(code) && said.includes(words), `${said} is not ${upgrade}`)
    const found = (
      [
        ['old', this.old],
        ['new', this.#young],
      ] as const
    ).flatMap(([side, puppet]) => {
      const names = (puppet?.events ?? []).map(({ event }) => event).filter((name) => told.includes(name))
      return [...new Set(names)].map((name) => `${side}: ${name}`)
    })
    // A descriptor that is free for a moment is enough for a pid file.
    this.#hasNoPid = found.includes('new: hook-failed')
    const expected = this.#expected.pidFile === 'old' && !this.#hasNoPid ? events.filter(isNoHook) : events
    assert.deepEqual(found, expected)
  }

  get #serving(): Puppet {
    const serving = this.#expected.serves === 'old' ? this.old : this.#young
    assert.ok(serving !== undefined, 'there was no new version')
    return serving
  }

  /** Exactly one process, on both listeners, and the pid file names it. */
  async checkWhoServes(): Promise<void> {
    const { pid } = this.#serving
    const answers = new Set<string>()
    for (let asked = 0; asked < 6; asked++) answers.add(await pidAt(this.port))
    answers.add(await pidAt(`${this.#folder}/app.sock`))
    assert.deepEqual([...answers], [String(pid)], 'who answers')
    const named = this.#expected.pidFile === 'old' && this.#hasNoPid ? this.old.pid : pid
    assert.equal(numberIn(`${this.#folder}/pid`), named, 'whom the pid file names')
    assert.deepEqual(await othersThan(pid, this.#lab.folder), [], 'processes that are left')
  }

  /** The next upgrade works, clients lose nothing by it, and nothing of either is left. */
  async checkNext(clients: CellClients): Promise<void> {
    const serving = this.#serving
    this.#disk?.empty()
    const before = clients.failures
    // A version that has closed the link never hears the bye of its predecessor, and waits for it
    // as long as it may.
    const { drainTimeout } = this.#place.fault === 'link' ? middle : long
    const plain: DaemonUpgradeOptions = {
      stage: 'daemon',
      args: [],
      execPath: process.execPath,
      overlap: 0,
      drainTimeout,
    }
    const upgrading = serving.run(async ({ kept }, given) => void (await kept.daemon?.upgrade(given)), plain)
    upgrading.catch(() => {})
    const next = await this.#lab.next()
    await this.#serve(next, { ...long, pidFile: `${this.#folder}/pid` })
    await upgrading
    await within('the end of the one before', serving.gone)
    assert.equal(await pidAt(this.port), String(next.pid), 'who answers after the next upgrade')
    assert.equal(numberIn(`${this.#folder}/pid`), next.pid, 'whom the pid file names after it')
    await clients.stop()
    assert.deepEqual(clients.failures, before, 'what clients lost by it')
    assert.deepEqual(await othersThan(next.pid, this.#lab.folder), [], 'processes that are left after it')
    let found: readonly string[] = []
    const isSame = async () => {
      found = await descriptorsOf(next)
      return String(found) === String(this.#descriptors) || pause(20).then(() => undefined)
    }
    // What ends in the next turns of the loop is not left.
    await eventually('what a first start has open', isSame, 5_000).catch(() =>
      assert.deepEqual(found, this.#descriptors, 'descriptors of the one that serves now'),
    )
    const files = this.#disk === undefined ? ['app.sock', 'lab', 'pid'] : ['app.sock', 'log', 'pid']
    assert.deepEqual(filesIn(this.#folder), files)
  }
}

async function pidAt(where: number | string): Promise<string> {
  const connection = await HttpConnection.open(typeof where === 'number' ? where : { path: where })
  const { body } = await connection.ask('/pid')
  connection.socket.destroy()
  return body
}

function numberIn(file: string): number | undefined {
  return existsSync(file) ? Number(readFileSync(file, 'utf8')) || undefined : undefined
}

/** What is on its way out when we look is not left. */
async function othersThan(pid: number, mark: string): Promise<readonly string[]> {
  let others: readonly string[] = []
  const look = () => {
    others = processesOf(mark).flatMap((one) => (one.pid === pid ? [] : one.words))
    return others.length === 0 || pause(20).then(() => undefined)
  }
  await eventually('the end of all others', look, 5_000).catch(() => {})
  return others
}

function stateOf(pid: number): string | undefined {
  return /\) (\w) /.exec(readFileSync(`/proc/${pid}/stat`, 'latin1'))?.[1]
}

function pause(ms: number): Promise<undefined> {
  return new Promise((done) => setTimeout(() => done(undefined), ms))
}

function isNoHook(event: string): boolean {
  return event !== 'new: hook-failed'
}
