/** Generations one after the other, and everything that can happen to them in any order: in the end exactly one serves. `COOK_MODEL_RUNS=1000000` plays more. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stepNew, stepOld } from '../../src/core/protocol.ts'
import { searchFault, trueContract } from '../support/model/play.ts'
import type { Contract } from '../support/model/world.ts'

const runs = Number(process.env.COOK_MODEL_RUNS ?? 10_000)
/** A fault that is there is found in the first few hundred. */
const search = 20_000

const patient = { contract: trueContract, isPatient: true }

test('whatever happens in whatever order, somebody accepts at every moment, and in the end exactly one process serves and is the one in the pid file', () => {
  assert.equal(searchFault({ ...patient, keepsSpare: false }, runs), undefined)
})

test('with a spare of each listener until the new process has answered its bye, nobody but the world itself can leave the service without a process', () => {
  assert.equal(searchFault({ ...patient, keepsSpare: true }, runs), undefined)
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
        const isAsking = next.at === 'asking' && state.at !== 'asking' && next.answer?.ok === true
        return isAsking ? [{ ...next, at: 'accepted' }, [...effects, { do: 'commit' }]] : [next, effects]
      },
    },
    found: /own the service/,
  },
]

for (const { what, contract, found } of faults) {
  test(`the model finds ${what}`, () => {
    assert.match(
      searchFault({ ...patient, keepsSpare: false, contract: { ...trueContract, ...contract } }, search) ?? '',
      found,
    )
  })
}

// What follows is no fault of the contract's two tables, but of what src/daemon.ts does with them; docs/limits.md says it.

test('the model finds that of three generations the first and the last may both serve, if the second starts the third before the first has left', () => {
  const fault = searchFault({ contract: trueContract, keepsSpare: false, isPatient: false }, 10 * search)
  assert.match(fault ?? '', /\d\w and \d\w (serves|own the service)/)
})

test('the model finds that an old process which moves connections and a new one that closes the link itself may both serve', () => {
  const fault = searchFault({ ...patient, keepsSpare: false, evil: ['close late'] }, search)
  assert.match(fault ?? '', /1a and 2a (serves|own the service)|is rid of 2a/)
})
