/** Who may decide what a user starts: a configuration of somebody else is not read, and not run. */
import assert from 'node:assert/strict'
import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'
import { test } from 'node:test'
import { faultOfSource } from '../../src/process/trust.ts'
import { Operator } from '../support/command.ts'
import { Lab } from '../support/lab.ts'

const nobody = 65_534
const isRoot = process.getuid?.() === 0
const asRoot = { skip: !isRoot && 'only root can play another user' }

const web = "require('node:http').createServer((request, response) => response.end('ok')).listen(0, '127.0.0.1')"

/** Says whose rights it has, and leaves a mark where anybody may. */
const code = `
console.error([process.getuid(), process.getgid(), ...process.getgroups()].join(' '), process.env.SECRET)
require('node:fs').writeFileSync('MARK', '')
module.exports = { services: [{ name: 'web', script: 'web.js' }] }`

/** A folder with a configuration in it, each root's; and how to change that. */
function laid(lab: Lab, name: string, file: string) {
  const folder = lab.makeFolder(name)
  writeFileSync(`${folder}/web.js`, web)
  const mark = lab.path(`${name}.mark`)
  const services = [{ name: 'web', script: 'web.js' }]
  writeFileSync(`${folder}/${file}`, file.endsWith('.json') ? JSON.stringify({ services }) : code.replace('MARK', mark))
  return { folder, file: `${folder}/${file}`, mark }
}

/** The folder of a test run is closed to others, and so is that of a lab. */
function openWay(folder: string): void {
  for (let at = folder; at !== '/'; at = dirname(at)) {
    const { mode } = statSync(at)
    if ((mode & 0o001) === 0) chmodSync(at, mode | 0o011)
  }
}

type Trap = (place: { readonly folder: string; readonly file: string }) => void

const traps: Readonly<Record<string, { readonly lay: Trap; readonly words: RegExp }>> = {
  'belongs to another user': {
    lay: ({ file }) => chownSync(file, nobody, nobody),
    words: /cook\.config\.\w+ belongs to user 65534/,
  },
  'others can write': {
    lay: ({ file }) => chmodSync(file, 0o646),
    words: /others can write to \S+\/cook\.config/,
  },
  'its group can write': {
    lay: ({ file }) => {
      chownSync(file, 0, nobody)
      chmodSync(file, 0o664)
    },
    words: /others can write to \S+\/cook\.config/,
  },
  'lies in a folder of another user': {
    lay: ({ folder }) => chownSync(folder, nobody, nobody),
    words: /lies-in-a-folder-of-another-user\S* belongs to user 65534/,
  },
  'lies in a folder in which others can write': {
    lay: ({ folder }) => chmodSync(folder, 0o777),
    words: /others can write to \S+-can-write/,
  },
  'is a symlink to a file of another user': {
    lay: ({ folder, file }) => {
      rmSync(file)
      writeFileSync(`${folder}/his`, '{}')
      chownSync(`${folder}/his`, nobody, nobody)
      symlinkSync('his', file)
    },
    words: /his belongs to user 65534/,
  },
  'is a symlink of another user': {
    lay: ({ folder, file }) => {
      renameSync(file, `${folder}/mine`)
      symlinkSync('mine', file)
      lchownSync(file, nobody, nobody)
    },
    words: /cook\.config\.\w+ belongs to user 65534/,
  },
  'has another name in a folder like /tmp': {
    lay: ({ folder, file }) => {
      linkSync(file, `${folder}/second`)
      chmodSync(folder, 0o1777)
    },
    words: /cook\.config\.\w+ has a hard link/,
  },
}

test(
  'as root a configuration that another user could have written is refused, as code and as JSON, and nothing of it is run',
  asRoot,
  async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    for (const [what, { lay, words }] of Object.entries(traps)) {
      for (const ending of ['cjs', 'json']) {
        const place = laid(lab, `${what.replace(/\W+/g, '-')}-${ending}`, `cook.config.${ending}`)
        assert.equal(faultOfSource(place.file), undefined, what)
        lay(place)
        assert.match(faultOfSource(place.file) ?? '', words, what)
        // The command asks that very question; once for each form is enough.
        if (what !== 'belongs to another user') continue
        for (const typed of [['start'], ['status']]) {
          const { code: exit, stdout, stderr } = await operator.types(typed, { cwd: place.folder })
          assert.match(stderr, /was not read, because another user can change it: /)
          assert.match(stderr, words)
          assert.deepEqual([exit, stdout, existsSync(place.mark)], [1, '', false])
        }
      }
    }
    assert.equal(await operator.does(['list']), 'no service is running\n')
  },
)

test(
  "a configuration that is root's in folders of root is read, also behind a symlink of root and in a folder like /tmp",
  asRoot,
  async () => {
    await using lab = await Lab.open()
    const { folder, file } = laid(lab, 'good', 'cook.config.json')
    symlinkSync(folder, lab.path('current'))
    assert.equal(faultOfSource(lab.path('current', 'cook.config.json')), undefined)
    chmodSync(folder, 0o1777)
    assert.equal(faultOfSource(file), undefined)
    // A link that leads in a circle is no file.
    symlinkSync('loop', lab.path('loop'))
    assert.match(faultOfSource(lab.path('loop')) ?? '', /is a symlink loop/)
  },
)

test(
  '--allow-owner evaluates a configuration as that user, without the environment of root, and believes nobody else',
  asRoot,
  async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    openWay(lab.folder)
    const { folder, file } = laid(lab, 'his', 'cook.config.cjs')
    writeFileSync(file, code.replace('MARK', `${folder}/mark`))
    for (const path of [folder, file]) chownSync(path, nobody, nobody)
    const typed = ['start', '--allow-owner', 'nobody']
    const { code: exit, stderr } = await operator.types(typed, { cwd: folder, env: { SECRET: 'of root' } })
    assert.equal(stderr, `${nobody} ${nobody} ${nobody} undefined\n`)
    assert.equal(exit, 0)
    assert.equal(statSync(`${folder}/mark`).uid, nobody)
    assert.equal(await operator.asks('web'), 'ok')
    // A third one.
    chownSync(file, 1, 1)
    const third = await operator.types(['status', '--allow-owner', 'nobody'], { cwd: folder })
    assert.match(third.stderr, /belongs to user 1\n/)
    const none = await operator.types(['status', '--allow-owner', 'no-such-user'], { cwd: folder })
    assert.deepEqual([none.code, /there is no user no-such-user/.test(none.stderr)], [2, true])
  },
)

test('a user who is not root takes a configuration of their own and of root, and of nobody else', {
  skip: isRoot && 'root is another user',
}, async () => {
  await using lab = await Lab.open()
  mkdirSync(lab.path('own'))
  writeFileSync(lab.path('own/cook.config.json'), '{}')
  assert.equal(faultOfSource(lab.path('own/cook.config.json')), undefined)
  chmodSync(lab.path('own'), 0o777)
  assert.match(faultOfSource(lab.path('own/cook.config.json')) ?? '', /others can write to/)
})
