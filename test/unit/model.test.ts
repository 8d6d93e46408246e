/**
 * Generations one after the other, and everything that can happen to them in any order: in the end
 * exactly one serves. `COOK_MODEL_RUNS=1000000` plays more.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stepNew } from '../../src/contract/new-side.ts'
import { stepOld } from '../../src/contract/old-side.ts'
import { takesAll } from '../support/extent.ts'
import { everythingPlayed, searchFault, trueContract } from '../support/model/play.ts'
import type { Contract } from '../support/model/world.ts'

const runs = Number(process.env.COOK_MODEL_RUNS ?? (takesAll ? 100_000 : 10_000))
/**
 * Where something is to be found, the worlds are the same each time: the claims are held in new
 * ones.
 */
const fixed = { seed: 1 }
const search = 20_000

/**
 * As with a version of protocol 1, which sends no spares and knows no `replacing`: a chain waits.
 */
const plain = { contract: trueContract, keepsSpare: false, chains: 'wait' } as const
const withSpare = { ...plain, keepsSpare: true } as const

test('whatever happens in whatever order, somebody accepts at every moment, and in the end exactly one process serves and is the one in the pid file', () => {
  assert.equal(searchFault(plain, runs), undefined)
})

test('with a spare of each listener until the new process has answered its bye, the same holds whenever the new one dies', () => {
  assert.equal(searchFault(withSpare, runs), undefined)
})

test('with the word `replacing`, by which a process releases its predecessor before it starts its own successor, the same holds for upgrades that do not wait for the last one to end', () => {
  assert.equal(searchFault({ ...withSpare, chains: 'release' }, runs), undefined)
})

test('the worlds that are played go far: four generations, every message, every kill, and a service that comes back', () => {
  const played = everythingPlayed({ ...withSpare, chains: 'release' }, 8_000, fixed)
  const wanted = [
    ...['welcome', 'accepted', 'refused', 'bye', 'broken'].map((message) => `2a reads ${message}`),
    ...['hello', 'done', 'confirmed', 'stop', 'broken', 'bye'].map((message) => `1a reads ${message} of 2a`),
    ...['1a starts generation 2', '3a starts generation 4', '4a writes the pid file', '2b writes the pid file'],
    ...['1a has failed to upgrade', '2a is ended by the kernel', 'the timer of 1a fires', '1a freezes', '1a thaws'],
    ...['1a takes the service back', '2a takes the service back', '2a looks for its predecessor', '1a leaves'],
    ...['1a goes on with the others', '1a hears that another worker has failed', '2a is let take over'],
    ...['1a waits for 2a no more, and kills it', '2a waits for 1a no more, and kills it'],
  ]
  assert.deepEqual(
    wanted.filter((name) => !played.has(name)),
    [],
  )
})

const faults: readonly { readonly what: string; readonly contract: Partial<Contract>; readonly found: RegExp }[] = [
  {
    what: 'a commit that does not wait for its confirmation',
    contract: {
      stepOld(state, event) {
        const [next, effects] = stepOld(state, event)
        return next.at === 'offered' ? [{ ...next, at: 'committed' }, [...effects, { do: 'commit' }]] : [next, effects]
      },
    },
    found: /nobody (accepts|serves)|is rid of/,
  },
  {
    what: 'a kill that is forgotten',
    contract: {
      stepOld(state, event) {
        const [next, effects] = stepOld(state, event)
        return [next, effects.filter((effect) => effect.do !== 'kill')]
      },
    },
    found: /own the service/,
  },
  {
    what: 'an offer without a deadline',
    contract: {
      stepOld(state, event) {
        const [next, effects] = stepOld(state, event)
        return [next, next.at === 'offered' ? effects.filter((effect) => effect.do !== 'timer') : effects]
      },
    },
    found: /nobody serves/,
  },
  {
    what: 'an end of the link that is taken for the end of the predecessor',
    contract: {
      stepNew(state, event) {
        const [next, effects] = stepNew(state, event)
        return effects.some((effect) => effect.do === 'look')
          ? stepNew(next, { type: 'looked', predecessorLives: false })
          : [next, effects]
      },
    },
    found: /own the service/,
  },
  {
    what: 'a new process that takes over with its own yes',
    contract: {
      stepNew(state, event) {
        const [next, effects] = stepNew(state, event)
        const isAsking = next.at === 'answered' && state.at !== 'answered' && next.answer?.ok === true
        return isAsking ? [{ ...next, at: 'accepted' }, [...effects, { do: 'commit' }]] : [next, effects]
      },
    },
    found: /own the service/,
  },
]

for (const { what, contract, found } of faults) {
  test(`the model finds ${what}`, () => {
    assert.match(searchFault({ ...plain, contract: { ...trueContract, ...contract } }, search, fixed) ?? '', found)
  })
}

// What follows would be no fault of the contract's two tables, but of what is done with them in the
// drain.

test('the model finds that without the word `replacing` the first and the last of three generations may both serve', () => {
  const fault = searchFault({ ...plain, chains: 'at once' }, search, fixed)
  assert.match(fault ?? '', /\d\w and \d\w (serves|own the service)/)
})

test('the model finds that an old process which takes the end of the link for a death may serve beside a new one that closed it', () => {
  const fault = searchFault({ ...plain, evil: ['close late'] }, search, fixed)
  assert.match(fault ?? '', /1a and 2\w own the service|is rid of 2/)
})
