/** The old process's end of an upgrade: starts the new version, hears whether it is up, and stays or goes. */
import type { ChildProcess } from 'node:child_process'
import {
  endGrace,
  type Identity,
  type OldEffect,
  type OldEvent,
  type OldSide,
  oldSide,
  protocolVersion,
  stepOld,
  writeStart,
} from '../contract/messages.ts'
import { deadline } from '../deadline.ts'
import { CookError, messageOf } from '../errors.ts'
import type { Packed } from '../listen/handles.ts'
import { now } from '../node/clock.ts'
import { untilGone } from '../node/processes.ts'
import { type Command, identify, isAlive, type System, system } from '../node/system.ts'
import type { UpgradePhases } from '../options.ts'
import { exitWords, spawned, spawnFault } from '../process/launcher.ts'
import { lastWords, linesSince, markLog } from '../process/log.ts'
import { toPieces, type Value } from './cloned-values.ts'
import { type Link, type LinkEvent, openLink } from './link.ts'

export type UpgradePlan = {
  readonly stage: 'parent' | 'daemon'
  readonly command: Command
  readonly environment: Readonly<Record<string, string | undefined>>
  readonly generation: number
  readonly handles: readonly Packed[]
  /** Generations alive before this one. */
  readonly living: readonly Identity[]
  /** Descriptor for the new version's stdout and stderr; undefined: our own. */
  readonly output: number | undefined
  readonly readyTimeout: number
  readonly overlap: number
  /** Undefined with the verbs, whose programs drain themselves. */
  readonly drainTimeout?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** TLS ticket keys by handle name, base64. */
  readonly tickets: Readonly<Record<string, string>>
  /** The value of a name that the successor asks for; may throw `ERR_COOK_STATE`. */
  save(name: string): Promise<Value>
  onOverlap(): void
  /** How far it has come, for whoever looks on. */
  onStep?(step: UpgradeStep): void
}

export type UpgradeStep = 'started' | 'booted' | 'ready' | 'serves'

export type Upgraded = {
  readonly identity: Identity
  /** The version of the contract that the successor speaks. */
  readonly protocol: number
  readonly phases: UpgradePhases
  /** Still open: for what follows the commit. Whoever has it says `bye` and closes it. */
  readonly link: Link
  /** Takes what comes over the link from now on. */
  onLink(listener: (event: LinkEvent) => void): void
}

/** One upgrade, from the spawn to the commit. Rejects with a `CookError`, and then nothing of the new version runs any more. */
export async function upgradeTo(plan: UpgradePlan, os: System = system): Promise<Upgraded> {
  const self = os.pid
  // Asked for here: it is 5 ms and 1 MB of every start (measured), and only an upgrade needs it.
  const nonce = process.getBuiltinModule('node:crypto').randomBytes(16).toString('hex')
  const mark = markLog(plan.output ?? 2)
  const times = [now()]
  const child = await start(plan, nonce, os).catch((cause: unknown) => {
    const values = { command: plan.command.execPath, why: spawnFault(plan.command, cause), self }
    throw new CookError('ERR_COOK_SUCCESSOR_SPAWN', values, { cause })
  })
  times.push(now())
  plan.onStep?.('started')
  const living = [...plan.living.filter((one) => isAlive(one, os)), identify(os)]
  const settings = {
    stage: plan.stage,
    nonce,
    living,
    tickets: plan.tickets,
    readyTimeout: plan.readyTimeout,
    overlap: plan.overlap,
    ...(plan.drainTimeout !== undefined && { drainTimeout: plan.drainTimeout }),
  }
  const { end, ...line } = await converse(child, oldSide(settings), times, plan, os)
  if (end.at !== 'committed' || end.successor === undefined) throw failed(end, child.pid ?? 0, self, linesSince(mark))
  child.unref()
  const [called = 0, started = 0, greeted = 0, done = 0, committed = 0] = times
  const phases = { spawn: started - called, boot: greeted - started, ready: done - greeted, commit: committed - done }
  return { ...end.successor, phases, ...line }
}

async function start(plan: UpgradePlan, nonce: string, os: System): Promise<ChildProcess> {
  const handles = plan.handles.map(({ record }) => record)
  const link = { protocol: protocolVersion, nonce, generation: plan.generation, predecessor: identify(os), handles }
  const output = [plan.output ?? 1, plan.output ?? 2]
  return spawned(() =>
    os.spawn(plan.command, {
      env: writeStart(plan.environment, { stage: plan.stage, link }),
      stdio: ['ignore', ...output, 'ipc', ...plan.handles.map(({ fd }) => fd)],
    }),
  )
}

/** What an onlooker is told when our side of the contract comes here. */
const steps: Readonly<Partial<Record<OldSide['at'], UpgradeStep>>> = {
  greeted: 'booted',
  overlapping: 'ready',
  offered: 'ready',
}

/** Plays our side of the contract until it is decided. */
function converse(
  child: ChildProcess,
  first: OldSide,
  times: number[],
  { signal, save, onOverlap, onStep }: UpgradePlan,
  os: System,
): Promise<{ readonly end: OldSide } & Pick<Upgraded, 'link' | 'onLink'>> {
  return new Promise((settle) => {
    let side = first
    let stopTimer = () => {}
    let later: ((event: LinkEvent) => void) | undefined
    /** What came right behind the commit, before anybody listened. */
    const early: LinkEvent[] = []
    const link: Link = openLink(child, (event) => {
      if (later !== undefined) later(event)
      else if (side.at === 'committed') early.push(event)
      else step(event)
    })
    const decided = (end: OldSide) =>
      settle({
        end,
        link,
        onLink(listener) {
          later = listener
          for (const event of early.splice(0)) listener(event)
        },
      })
    const stop = () => step({ type: 'stop' })

    function step(event: OldEvent): void {
      const [next, effects] = stepOld(side, event)
      // The overlap is part of the way to the commit: the new version had said that it is up.
      const isStep = next.at !== side.at && next.at !== 'ending' && side.at !== 'overlapping'
      if (isStep || next.at === 'committed') times.push(now())
      const told = next.at === side.at || side.at === 'overlapping' ? undefined : steps[next.at]
      side = next
      if (told !== undefined) onStep?.(told)
      for (const effect of effects) carryOut(effect)
    }

    function carryOut(effect: OldEffect): void {
      switch (effect.do) {
        case 'send':
          link.send(effect.message)
          return
        case 'save':
          void answer(effect.name)
          return
        case 'overlap':
          onOverlap()
          return
        case 'timer':
          stopTimer()
          stopTimer = deadline(effect.ms, () => step({ type: 'timer' }))
          return
        case 'kill':
          child.kill('SIGKILL')
          for (const identity of side.known) os.kill(identity, 'SIGKILL')
          return
        case 'commit':
          stopTimer()
          signal?.removeEventListener('abort', stop)
          decided(side)
          return
        case 'fail':
          stopTimer()
          signal?.removeEventListener('abort', stop)
          link.close()
          void endKnown(side.known, os).then(() => decided(side))
          return
      }
    }

    async function answer(name: string): Promise<void> {
      try {
        for (const piece of toPieces(name, await save(name))) {
          // Piece by piece, as the kernel takes them: 64 MiB at once would stand in memory twice and stall the loop.
          await new Promise<void>((sent) => link.send(piece, sent))
        }
      } catch (error) {
        const known: Readonly<Record<string, string | number>> = error instanceof CookError ? error.values : {}
        const names = known.names === undefined ? {} : { names: String(known.names).split(', ') }
        const fault = String(known.why ?? messageOf(error))
        link.send({ type: 'value', name, version: 0, part: '', isLast: true, fault, ...names })
      }
    }

    child.once('exit', (code, exitSignal) => step({ type: 'exit', exit: { code, signal: exitSignal } }))
    carryOut({ do: 'timer', ms: first.readyTimeout })
    if (signal?.aborted) stop()
    else signal?.addEventListener('abort', stop)
  })
}

/** A daemon that a `parent` stage started is no child of ours: that its link has ended is no proof that it is gone. */
async function endKnown(identities: readonly Identity[], os: System): Promise<void> {
  if (await untilGone(identities, endGrace)) return
  for (const identity of identities) os.kill(identity, 'SIGKILL')
  await untilGone(identities, endGrace)
}

/** The failure in words. */
function failed(end: OldSide, started: number, self: number, lines: string): CookError {
  const pid = end.successor?.identity[0] ?? end.known.at(-1)?.[0] ?? started
  const who = `pid ${pid}`
  const words = lastWords(end.dying ?? end.waits, lines)
  const failure = end.failure ?? { why: 'exited' }
  switch (failure.why) {
    case 'exited': {
      // In the documents' way the process that we can wait for is the one in between.
      const isSeen = end.exit !== undefined && (end.stage === 'daemon' || end.known.length === 0)
      const how = isSeen && end.exit !== undefined ? exitWords(end.exit) : 'its link ended'
      return new CookError('ERR_COOK_SUCCESSOR_EXITED', { who, how, words, self })
    }
    case 'said-no':
      return new CookError('ERR_COOK_SUCCESSOR_SAID_NO', { pid, reason: failure.reason || 'it gave no reason', self })
    case 'timeout':
      return new CookError('ERR_COOK_SUCCESSOR_TIMEOUT', { who, ms: failure.ms, step: failure.step, words, self })
    case 'broken':
      return new CookError('ERR_COOK_LINK_BROKEN', { who, why: failure.detail, self })
    case 'protocol':
      return new CookError('ERR_COOK_PROTOCOL', { why: failure.reason, pid: self })
    case 'stopped':
      return new CookError('ERR_COOK_STOPPED', { who, self })
  }
}
