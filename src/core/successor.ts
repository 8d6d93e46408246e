/** The new process's end of an upgrade. */
import { CookError } from '../errors.ts'
import { type Link, type LinkEvent, takeLink } from '../node/link.ts'
import { channelDescriptor } from '../node/sockets.ts'
import { identify, isAlive, type System, system } from '../node/system.ts'
import {
  envLink,
  type Identity,
  type LinkRecord,
  linkFd,
  type NewEffect,
  type NewEvent,
  newSide,
  stepNew,
} from './protocol.ts'

export type Succession = {
  readonly predecessor: Identity
  /** Generations that lived when the predecessor welcomed us, itself among them. */
  readonly living: readonly Identity[]
  readonly isCommitted: boolean
  /** Tells the predecessor; resolves at commit, or after a no when that was heard. Rejects with `ERR_COOK_REFUSED`. */
  notify(ok: boolean, reason: string): Promise<void>
  /** Why this process is about to die. */
  tellDying(reason: string): void
}

export type SuccessionPlan = {
  /** Resolves when nobody else reads the link any more. */
  readonly released: Promise<void>
  onCommit(): void
}

/** Takes up the link to the predecessor. Throws `ERR_COOK_ENVIRONMENT` if descriptor 3 is no link although the predecessor lives. */
export function succeed(record: LinkRecord, plan: SuccessionPlan, os: System = system): Succession {
  const { predecessor, nonce } = record
  let side = newSide(nonce, identify(os))
  let living: readonly Identity[] = [predecessor]
  let isCommitted = false
  let wasAsked = false
  const decided = deferred()

  const link = channelDescriptor() === linkFd ? takeLink(onLink) : undefined
  if (link === undefined && isAlive(predecessor, os)) {
    const why = `descriptor ${linkFd} is not the link to the process ${predecessor[0]} that it names`
    throw new CookError('ERR_COOK_ENVIRONMENT', { variable: envLink, why })
  }

  function onLink(event: LinkEvent): void {
    // Garbage from the predecessor: the upgrade cannot end well, and it is its task to say so.
    step(event.type === 'broken' ? { type: 'message', message: 'broken' } : event)
    if (event.type === 'message' && typeof event.message === 'object' && event.message.type === 'welcome') {
      living = event.message.living
    }
  }

  function step(event: NewEvent): void {
    const [next, effects] = stepNew(side, event)
    side = next
    for (const effect of effects) carryOut(effect, link)
  }

  function carryOut(effect: NewEffect, on: Link | undefined): void {
    switch (effect.do) {
      case 'send':
        on?.send(effect.message)
        return
      case 'commit':
        isCommitted = true
        plan.onCommit()
        decided.resolve(undefined)
        return
      case 'refuse':
        decided.resolve(effect.reason)
        // A process that nobody accepted and that does not even ask must not live on beside the predecessor.
        if (!wasAsked)
          throwLater(new CookError('ERR_COOK_REFUSED', { predecessor: predecessor[0], reason: effect.reason }))
        return
      case 'look':
        void lookFor(predecessor, os).then((predecessorLives) => step({ type: 'looked', predecessorLives }))
        return
      case 'close':
        on?.close()
        return
    }
  }

  // The predecessor was gone before we looked; nothing will tell us again.
  if (link === undefined) step({ type: 'closed' })
  else void plan.released.then(() => step({ type: 'go' }))

  return {
    predecessor,
    get living() {
      return living
    },
    get isCommitted() {
      return isCommitted
    },
    async notify(ok, reason) {
      wasAsked = true
      link?.hold(true)
      step({ type: 'notify', ok, reason })
      const refusal = await decided.promise
      link?.hold(false)
      if (ok && refusal !== undefined) {
        throw new CookError('ERR_COOK_REFUSED', { predecessor: predecessor[0], reason: refusal })
      }
    },
    tellDying(reason) {
      if (!isCommitted) link?.send({ type: 'dying', reason })
    },
  }
}

/**
 * Whether the predecessor still lives after its end of the link has ended. Exiting, it closes the link some milliseconds before it is
 * gone, and there is no event for that; a living one says `refused` before it closes, so the long wait is for nobody.
 */
async function lookFor(predecessor: Identity, os: System): Promise<boolean> {
  for (let look = 0; look < 200; look++) {
    if (!isAlive(predecessor, os)) return false
    await new Promise((done) => setTimeout(done, 10))
  }
  return true
}

function throwLater(error: CookError): void {
  setImmediate(() => {
    throw error
  })
}

/** Promise.withResolvers, which Node 20 lacks; it settles with the reason of a refusal. */
function deferred() {
  let resolve: (value: string | undefined) => void = () => {}
  const promise = new Promise<string | undefined>((settle) => {
    resolve = settle
  })
  return { promise, resolve }
}
