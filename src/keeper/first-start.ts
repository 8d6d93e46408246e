/** The keeper plays the predecessor for a worker that is started while nobody serves. */
import type { LinkRecord } from '../contract/environment.ts'
import type { News } from '../contract/messages.ts'
import { oldSide } from '../contract/old-side.ts'
import { CookError } from '../errors.ts'
import { adoptChannel } from '../node/channel.ts'
import type { End } from '../node/pair.ts'
import type { Command } from '../node/system.ts'
import { exitWords, spawnFault } from '../process/launcher.ts'
import { lastWords } from '../process/log.ts'
import { sendValue } from '../upgrade/cloned-values.ts'
import { type Conversation, converse, type Partner } from '../upgrade/conversation.ts'
import { type LinkEvent, openLink } from '../upgrade/link.ts'
import type { Worker } from './worker.ts'

type Given = {
  readonly link: LinkRecord
  /** The keeper's end of it. */
  readonly own: Pick<End, 'fd' | 'detach'>
  readonly readyTimeout: number
  readonly signal: AbortSignal
  /** What the service has behind it. */
  readonly news: News
  /** It is up; it serves when it has confirmed that it may. */
  onReady(): void
  /** What the worker writes is seen by whoever reads the error. */
  readonly isShown: boolean
}

/** Resolves when the worker serves. Rejects, with nothing of it left, if it does not come up. */
export async function untilServes(worker: Worker, given: Given): Promise<void> {
  const { link, own, readyTimeout, signal, news, isShown } = given
  const partner: Partner = {
    identity: worker.identity,
    open(onEvent) {
      const link = openLink(adoptChannel(own.fd), (event) => isItsOwn(event, worker) && onEvent(event))
      own.detach()
      return link
    },
    onExit: (hear) => worker.onExit(hear),
    kill() {},
    unref() {},
  }
  const begin = oldSide({ stage: 'daemon', nonce: link.nonce, living: [], tickets: {}, readyTimeout, overlap: 0 })
  const conversation = await converse(partner, begin, {
    signal,
    handed: link.handles.map(({ inode }) => inode),
    onStep: (step) => step === 'ready' && given.onReady(),
    // There is no state to give.
    save: (name, to) => void sendValue(to, name, { value: undefined, version: 0 }),
    overlap() {},
    printed: () => worker.words,
    opened() {},
  })
  if (conversation.end.at !== 'committed') throw failed(worker, conversation, isShown)
  conversation.hear(() => {})
  conversation.link.send({ type: 'news', ...news })
  conversation.link.send({ type: 'bye' })
}

/** As a start without a keeper tells it (process/launcher.ts). */
function failed(worker: Worker, { end, seen, printed }: Conversation, isShown: boolean): CookError {
  const { failure, dying, exit } = end
  const [pid] = worker.identity
  const words = seen + (isShown ? '' : printed || lastWords(dying, ''))
  switch (failure?.why) {
    case 'said-no':
      return new CookError('ERR_COOK_DAEMON_FAILED', { pid, reason: failure.reason })
    case 'timeout':
      return new CookError('ERR_COOK_DAEMON_TIMEOUT', { pid, goal: 'ready', ms: failure.ms, words })
    default: {
      const how = exitWords(exit ?? worker.exited ?? { code: null, signal: 'SIGKILL' })
      return new CookError('ERR_COOK_DAEMON_EXITED', { pid, goal: 'was ready', how, words })
    }
  }
}

export function notSpawned(command: Command, cause: unknown): CookError {
  const values = { command: command.execPath, why: spawnFault(command, cause) }
  return new CookError('ERR_COOK_DAEMON_SPAWN', values, { cause })
}

/** It speaks for itself alone: whom else it names would be killed at a failure. */
function isItsOwn(event: LinkEvent, { identity: [pid, startTime] }: Worker): boolean {
  if (event.type !== 'message' || typeof event.message !== 'object') return true
  const { message } = event
  if (message.type === 'spawned') return false
  return message.type !== 'hello' || (message.pid === pid && message.startTime === startTime)
}
