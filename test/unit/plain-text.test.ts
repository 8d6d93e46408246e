/** What a service of another user prints on the terminal of root, and of which unit it is. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isServiceUnit, unitIn } from '../../src/node/units.ts'
import { plainer, plainText, plainValue } from '../../src/process/plain-text.ts'

const esc = '\u001b'

const texts: Readonly<Record<string, readonly [written: string, shown: string]>> = {
  'a word and a line': ['web serves\n\tsince ✓\n', 'web serves\n\tsince ✓\n'],
  colours: [`${esc}[31mred${esc}[0m`, 'red'],
  'the title of the window': [`${esc}]0;evil\u0007x`, ']0;evilx'],
  'a cursor that moves up and clears': [`a${esc}[2A${esc}[K${esc}[1;1Hb`, 'ab'],
  'a begin of line that hides what stood there': ['good\rbad', 'goodbad'],
  'control characters of eight bits': ['\u009b31mC1\u0085', '31mC1'],
  'text that runs backwards': ['a\u202eb\u2066c', 'abc'],
  'a key of the terminal': [`${esc}[5n${esc}P$q"p${esc}\\`, 'P$q"p\\'],
}

for (const [what, [written, shown]] of Object.entries(texts)) {
  test(`of another user's output, ${what}: nothing that steers a terminal is left, however it is cut`, () => {
    assert.equal(plainText(written), shown)
    const bytes = Buffer.from(written)
    for (let at = 0; at <= bytes.length; at++) {
      const plain = plainer()
      const pieces = [plain(bytes.subarray(0, at)), plain(bytes.subarray(at)), plain(Buffer.alloc(0), true)]
      // The number of a sequence that was cut may be seen; nothing of it steers.
      assert.equal(pieces.join(''), shown)
    }
  })
}

test('10,000 random texts of another user leave no control character, however they are cut', () => {
  let seed = 7
  const random = (below: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31
    return seed % below
  }
  const parts = [esc, '[', ']', '0', ';', 'm', 'A', '\u0007', '\u009b', '\r', 'é', '\u202e', 'x', '\n', '\u007f', '?']
  for (let round = 0; round < 10_000; round++) {
    const text = Array.from({ length: random(12) }, () => parts[random(parts.length)]).join('')
    const bytes = Buffer.from(text)
    const plain = plainer()
    const [one, other] = [random(bytes.length + 1), random(bytes.length + 1)].sort((a, b) => a - b)
    const cut = [bytes.subarray(0, one), bytes.subarray(one, other), bytes.subarray(other)]
    const shown = cut.map((piece) => plain(piece)).join('') + plain(Buffer.alloc(0), true)
    assert.doesNotMatch(shown, /[^\P{Cc}\n\t]|\u202e/u, JSON.stringify(text))
  }
})

test('a value of another user is plain in all its parts, names too, and has an end', () => {
  assert.deepEqual(plainValue({ [`a${esc}[1m`]: [`${esc}[2Jb`, 1, null, true] }), { a: ['b', 1, null, true] })
  let deep: unknown = 'x'
  for (let level = 0; level < 10_000; level++) deep = [deep]
  assert.ok(JSON.stringify(plainValue(deep)).length < 100)
})

const groups: Readonly<Record<string, { readonly name: string; readonly user?: number } | undefined>> = {
  '/system.slice/web.service': { name: 'web.service' },
  '/system.slice/system-web.slice/web@1.service': { name: 'web@1.service' },
  // Below its own group a unit with Delegate= may make any.
  '/system.slice/web.service/sshd.service': { name: 'web.service' },
  '/system.slice/_cpu.service': { name: 'cpu.service' },
  '/user.slice/user-7.slice/user@7.service/app.slice/web.service': { name: 'web.service', user: 7 },
  '/user.slice/user-7.slice/user@7.service/init.scope': undefined,
  '/user.slice/user-7.slice/session-1.scope': undefined,
  '/user.slice/user-7.slice/session-1.scope/sshd.service': undefined,
  '/docker/abc/system.slice/web.service': undefined,
  '/system.slice/--force.service': undefined,
  '/system.slice/a b.service': undefined,
  '/system.slice': undefined,
  '/': undefined,
}

test('the unit of a process is the one of systemd, whatever groups stand below it', () => {
  for (const [path, unit] of Object.entries(groups)) assert.deepEqual(unitIn(path), unit, path)
  for (const name of ['*.service', 'a[b].service', 'web', '-u.service', 'a\nb.service', '../x.service']) {
    assert.equal(isServiceUnit(name), false, name)
  }
})
