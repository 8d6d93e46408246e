/** What callers may pass. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { checkDaemonizeOptions, checkUpgradeOptions } from '../../src/check.ts'
import { CookError } from '../../src/errors.ts'

const everyDaemonizeOption = {
  logFile: 'log',
  cwd: '/',
  umask: 0o027,
  env: { A: '1' },
  waitReady: true,
  readyTimeout: 0,
}

const everyUpgradeOption = {
  stage: 'daemon',
  readyTimeout: 2 ** 31 - 1,
  overlap: 0,
  signal: new AbortController().signal,
  execPath: '/usr/bin/node',
  execArgv: ['--no-warnings'],
  script: 'app.js',
  args: [],
  cwd: '/',
  env: {},
} as const

test('every option can be given, left out, or be undefined', () => {
  for (const [check, options] of [
    [checkDaemonizeOptions, everyDaemonizeOption],
    [checkUpgradeOptions, everyUpgradeOption],
  ] as const) {
    check({})
    check(options)
    check(Object.fromEntries(Object.keys(options).map((name) => [name, undefined])))
  }
})

test('an option of a wrong type or out of its range is an error that names it and what it takes', () => {
  const wrong: readonly [option: string, value: unknown, text: RegExp][] = [
    ['stage', 'child', /'parent' or 'daemon'/],
    ['readyTimeout', -1, /from 0 to 2147483647/],
    ['readyTimeout', 2 ** 31, /from 0 to 2147483647/],
    ['readyTimeout', Number.NaN, /milliseconds/],
    ['readyTimeout', '5s', /milliseconds/],
    ['overlap', Number.POSITIVE_INFINITY, /milliseconds/],
    ['signal', new AbortController(), /an AbortSignal/],
    ['execPath', '', /a string that is not empty/],
    ['script', 'app\0.js', /a string that is not empty/],
    ['execArgv', '--no-warnings', /an array of strings/],
    ['args', [1], /an array of strings/],
    ['env', ['A=1'], /an object of strings/],
    ['env', null, /an object of strings/],
  ]
  for (const [option, value, text] of wrong) refuses(() => checkUpgradeOptions({ [option]: value }), option, text)
  refuses(() => checkDaemonizeOptions({ umask: 0o1000 } as object), 'umask', /from 0 to 0o777/)
  refuses(() => checkDaemonizeOptions({ umask: '027' } as object), 'umask', /from 0 to 0o777/)
  refuses(() => checkDaemonizeOptions({ waitReady: 1 } as object), 'waitReady', /true or false/)
})

test('a misspelt option is told, with those that there are, also where an object has something of that name', () => {
  for (const option of ['readytimeout', 'constructor', '__proto__ ', 'toString']) {
    refuses(() => checkUpgradeOptions({ [option]: 1 }), option, /is not an option; the options are stage, readyTimeout/)
  }
  refuses(() => checkUpgradeOptions({ logFile: 'x' } as object), 'logFile', /is not an option/)
})

test('options that are no object are told', () => {
  for (const value of [null, 5, 'parent', true] as unknown[])
    refuses(() => checkUpgradeOptions(value as object), 'options', /must be an object/)
})

test('whatever is passed, it is taken or refused with the code that users match on', () => {
  const anything = fc.oneof(
    fc.anything(),
    fc.dictionary(fc.constantFrom(...Object.keys({ ...everyUpgradeOption, ...everyDaemonizeOption })), fc.anything()),
  )
  fc.assert(
    fc.property(anything, fc.constantFrom(checkDaemonizeOptions, checkUpgradeOptions), (options, check) => {
      try {
        check(options as object)
      } catch (error) {
        assert.ok(error instanceof CookError, String(error))
        assert.equal(error.code, 'ERR_COOK_OPTION')
      }
    }),
    { numRuns: 2_000 },
  )
})

function refuses(check: () => void, option: string, text: RegExp): void {
  assert.throws(check, (error: CookError<'ERR_COOK_OPTION'>) => {
    assert.equal(error.code, 'ERR_COOK_OPTION')
    assert.equal(error.values.option, option)
    assert.match(error.message, text)
    return true
  })
}
