/** Every error, as users read it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CookError, type CookErrorCode, type CookErrorValues } from 'cook-daemon'
import { errorTexts } from '../../src/error-texts.ts'
import { messageOf } from '../../src/errors.ts'

const codes = Object.keys(errorTexts) as CookErrorCode[]

/** Each placeholder gets its own name in angle brackets. */
function make(code: CookErrorCode): CookError {
  const names = [...errorTexts[code].text.matchAll(/\{(\w+)\}/g)].map(([, name = '']) => [name, `<${name}>`])
  return new CookError(code, Object.fromEntries(names) as CookErrorValues<typeof code>)
}

test('every code begins with ERR_COOK_ and is in capitals', () => {
  for (const code of codes) assert.match(code, /^ERR_COOK(_[A-Z]+)+$/)
})

test('every error has a text with its values filled in, and a help that needs none', () => {
  for (const code of codes) {
    const error = make(code)
    assert.ok(error instanceof Error && error.name === 'CookError' && error.code === code)
    assert.doesNotMatch(error.message, /[{}]|undefined/, code)
    for (const name of Object.keys(error.values)) assert.ok(error.message.includes(`<${name}>`), `${code}: ${name}`)
    assert.doesNotMatch(error.help, /\{\w+\}/, code)
    assert.match(error.help, /^[A-Z].*[.)]$/, code)
    assert.doesNotMatch(error.message, /\.$/, `${code} ends like a sentence, though others may quote it`)
  }
})

test('every failed upgrade says who serves now', () => {
  const failures = codes.filter((code) => /_(SUCCESSOR_\w+|LINK_BROKEN|STOPPED)$/.test(code))
  assert.ok(failures.length >= 6)
  for (const code of failures) assert.match(make(code).message, /\(pid <self>\) (still serves|serves again)/, code)
  // Where its keeper refuses it, nobody serves.
  assert.match(make('ERR_COOK_REFUSED').message, /<serves> must exit/)
  assert.match(make('ERR_COOK_UPGRADED').message, /the new process serves now/)
})

test('a value that looks like a placeholder stays as it is', () => {
  const error = new CookError('ERR_COOK_OPTION', { option: '{why}', why: '$& {option}' })
  assert.equal(error.message, '{why} $& {option}')
})

test('an error keeps what caused it, and what was thrown has a text whatever it is', () => {
  const cause = new Error('ENOENT')
  assert.equal(new CookError('ERR_COOK_NOTIFIED_TWICE', {}, { cause }).cause, cause)
  assert.equal(messageOf(cause), 'ENOENT')
  assert.equal(messageOf('a text'), 'a text')
  assert.equal(messageOf(undefined), 'undefined')
})
