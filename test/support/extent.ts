/**
 * How much of the tests runs: `npm test` takes an example of what repeats itself, `npm run
 * test:matrix` takes all. Decided here and nowhere else.
 */
export const takesAll = process.env.COOK_TEST_ALL === '1'

/** For a test that stays out of `npm test`; no promise of the README may. */
export const onlyInMatrix = { skip: !takesAll && 'npm run test:matrix runs it' }

/** For a test that needs a machine of its own for longer than others take. */
export const onlyOnHost = {
  skip: !takesAll && process.env.COOK_TEST_HOST !== '1' && 'npm run test:host runs it',
}
