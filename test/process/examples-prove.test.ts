/** examples/prove-on-pull-request, as somebody copies it. */
import assert from 'node:assert/strict'
import { cpSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Operator } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { proves } from '../support/prove.ts'
import { readReport } from '../support/report.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const folder = join(root, 'examples/prove-on-pull-request')
const workflow = readFileSync(join(folder, '.github/workflows/prove.yml'), 'utf8')

test('the example of a pull request proves its program, and its workflow keeps the page', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  for (const name of readdirSync(folder)) cpSync(join(folder, name), lab.path(name), { recursive: true })
  const { scripts } = JSON.parse(lab.read('package.json'))
  const run = [...workflow.matchAll(/- run: (.*)/g)].map(([, words]) => words)
  assert.deepEqual(run, ['npm ci', 'npm run prove'])
  const [command, verb, ...words] = String(scripts.prove).split(' ')
  assert.deepEqual([command, verb], ['cook-daemon', 'prove'])
  const args = [...words, '--upgrades', '2', '--clients', '5']
  const { code, stdout, stderr } = await proves(lab, operator, args, { PORT: '0' })
  assert.equal(code, 0, stdout + stderr)
  const [, page] = /^ +path: (.*)$/m.exec(workflow) ?? []
  assert.equal(readReport(lab.read(String(page))).title, 'Proved: app.js')
})

test('the example of a pull request pins the same actions as this repository', () => {
  const workflows = join(root, '.github/workflows')
  const ours = readdirSync(workflows).map((name) => readFileSync(join(workflows, name), 'utf8'))
  const pins = (text: string) => [...text.matchAll(/uses: (\S+)@([0-9a-f]{40}) # v\S+/g)]
  const known = new Map(ours.flatMap(pins).map(([, action, commit]) => [action, commit]))
  assert.equal(pins(workflow).length, workflow.split('uses:').length - 1)
  for (const [, action, commit] of pins(workflow)) assert.equal(commit, known.get(action) ?? commit, action)
})
