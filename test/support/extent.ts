/**
 * How much of the tests runs: `npm test` takes an example of what repeats itself, `npm run
 * test:matrix` takes all. Decided here and nowhere else.
 */
export const takesAll = process.env.COOK_TEST_ALL === '1'
