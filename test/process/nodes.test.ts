/** Upgrades from each line of Node to each: old and new need not run the same. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { connectAllTheTime } from '../support/clients.ts'
import { Lab } from '../support/lab.ts'
import { leave, openListener, upgradeOnce } from '../support/steps.ts'
import { eventually } from '../support/waiting.ts'

/** Binaries by line; scripts/test-matrix.ts gives all, and without it there is the running one. */
const nodes: Readonly<Record<string, string>> = JSON.parse(
  process.env.COOK_TEST_NODES ?? JSON.stringify({ [String(process.versions.node.split('.')[0])]: process.execPath }),
)
const lines = Object.keys(nodes)

for (const from of lines) {
  test(`an upgrade from Node ${from} to ${lines.join(', ')}, both ways, refuses no connection`, async () => {
    await using lab = await Lab.open()
    // From this line to the next and back again, without end: each generation but the first is an
    // upgraded one.
    let puppet = await lab.start('puppet', { args: ['--daemonize={}'], execPath: binary(from) })
    const port = await openListener(puppet)
    const load = connectAllTheTime({ port, host: '127.0.0.1' }, 4)
    const versions: string[] = []
    for (const stage of ['daemon', 'parent'] as const) {
      for (const to of lines) {
        for (const line of [to, from]) {
          const young = await upgradeOnce(lab, puppet, { stage, execPath: binary(line) })
          assert.equal(await versionOf(young), line)
          const before = load.answers
          await eventually('answers while both accept', () => load.answers > before + 10 || undefined)
          await leave(puppet)
          puppet = young
          versions.push(line)
        }
      }
    }
    const { answers, failures } = await load.stop()
    assert.deepEqual(failures, [])
    assert.equal(versions.length, 4 * lines.length)
    assert.ok(answers.size > 1)
  })
}

function binary(line: string): string {
  return nodes[line] ?? assert.fail(`no Node ${line}`)
}

function versionOf(puppet: { run(task: () => string): Promise<string> }): Promise<string> {
  return puppet.run(() => String(process.versions.node.split('.')[0]))
}
