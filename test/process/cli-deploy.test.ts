/** Deploys run what they say, and say what they run: script, working directory, Node, options. */
import assert from 'node:assert/strict'
import { existsSync, mkdirSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { nodeAt } from '../../src/cli/node-binary.ts'
import { isSameProgram } from '../../src/cli/what-runs.ts'
import { Operator } from '../support/command.ts'
import { onlyInMatrix, takesAll } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'

/** Answers with its release, and with what it was started with. */
const program = (version: string) => `const { readFileSync } = require('node:fs')
const told = {
  version: '${version}',
  file: readFileSync('.env', 'utf8'),
  pwd: process.env.PWD,
  args: process.argv.slice(2),
  execArgv: process.execArgv.slice(2),
}
process.send?.('ready')
require('node:http').createServer((_, response) => response.end(JSON.stringify(told))).listen(0, '127.0.0.1')`

function makeReleases(lab: Lab, folder = 'releases'): void {
  for (const version of ['1', '2', '3']) {
    mkdirSync(lab.path(folder, version), { recursive: true })
    writeFileSync(lab.path(folder, version, 'app.cjs'), program(version))
    writeFileSync(lab.path(folder, version, '.env'), `env ${version}`)
  }
  pointTo(lab, `${folder}/1`)
}

function pointTo(lab: Lab, release: string): void {
  symlinkSync(release, lab.path('next'))
  renameSync(lab.path('next'), lab.path('current'))
}

const told = async (operator: Operator) => JSON.parse(await operator.asks('app'))

const root = new URL('../../..', import.meta.url)

/** As a deploy agent, `cd -P` or a unit: the path in $PWD is not the one that was meant. */
const noPwd = { PWD: '/' }

describe('a deploy', { concurrency: 3 }, () => {
  test('--cwd is kept as it was typed, where $PWD does not say it: each upgrade runs the release that is current', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    makeReleases(lab)
    const cwd = lab.path('releases/1')
    const started = await operator.does(['start', 'app.cjs', '--cwd', '../../current'], { cwd, env: noPwd })
    assert.match(started, new RegExp(`\n  app.cjs in ${lab.path('current')} → ${lab.path('releases/1')}, node v`))
    pointTo(lab, 'releases/2')
    const upgraded = await operator.does(['upgrade', 'app'])
    assert.match(upgraded, new RegExp(`\n  app.cjs in ${lab.path('current')} → ${lab.path('releases/2')}\n`))
    const { version, file, pwd } = await told(operator)
    assert.deepEqual([version, file, pwd], ['2', 'env 2', lab.path('current')])
    pointTo(lab, 'releases/3')
    const restarted = await operator.does(['restart', 'app'], { cwd: '/', env: noPwd })
    assert.match(restarted, new RegExp(`\n  app.cjs in ${lab.path('current')} → ${lab.path('releases/3')}, node v`))
    assert.equal((await told(operator)).file, 'env 3')
    const status = await operator.status('app')
    const resolved = { cwd: lab.path('releases/3'), script: lab.path('releases/3/app.cjs') }
    assert.deepEqual([status.command.cwd, status.resolved], [lab.path('current'), resolved])
    const shown = await operator.does(['status', 'app'])
    assert.match(shown, new RegExp(`cwd +${lab.path('current')} → ${lab.path('releases/3')}\n`))
    assert.match(shown, new RegExp(`node +${process.version} \\(${process.execPath}\\)`))
  })

  test(
    'an upgrade with --cwd moves a script that was typed as relative, with its copy of the library, and says what it runs',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      makeReleases(lab)
      for (const version of ['1', '2', '3']) {
        mkdirSync(lab.path('releases', version, 'node_modules'))
        symlinkSync(fileURLToPath(root), lab.path('releases', version, 'node_modules/cook-daemon'))
      }
      await operator.does(['start', 'app.cjs'], { cwd: lab.path('current'), env: noPwd })
      pointTo(lab, 'releases/2')
      const same = await operator.does(['upgrade', 'app'])
      assert.match(same, new RegExp(`\n  app.cjs in ${lab.path('releases/1')}\n`))
      const moved = await operator.does(['upgrade', 'app', '--cwd', 'current'])
      assert.match(moved, new RegExp(`\n  app.cjs in ${lab.path('current')} → ${lab.path('releases/2')}\n`))
      assert.equal((await told(operator)).version, '2')
      const { command } = await operator.status('app')
      assert.equal(command.execArgv[1], lab.path('current/node_modules/cook-daemon/dist/bundle/preload.cjs'))
      pointTo(lab, 'releases/3')
      await operator.does(['upgrade', 'app'])
      assert.equal((await told(operator)).file, 'env 3')
    },
  )

  test('--update-env from another folder, and a deploy in the middle of an upgrade, leave the release behind its symlink', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    makeReleases(lab)
    await operator.does(['start', 'app.cjs'], { cwd: lab.path('current') })
    // Node boots while the symlink changes.
    const flip = `require('node:fs').symlinkSync('releases/3', '${lab.path('next')}'); require('node:fs').renameSync('${lab.path('next')}', '${lab.path('current')}')`
    writeFileSync(lab.path('flip.cjs'), `if (process.argv[1]?.endsWith('/app.cjs')) { ${flip} }`)
    pointTo(lab, 'releases/2')
    const env = { NODE_OPTIONS: `--require ${lab.path('flip.cjs')}` }
    await operator.does(['upgrade', 'app', '--update-env'], { cwd: '/', env })
    await operator.does(['upgrade', 'app', '--update-env'], { cwd: '/' })
    const { version, file, pwd } = await told(operator)
    assert.deepEqual([version, file, pwd], ['3', 'env 3', lab.path('current')])
  })

  test(
    'script and working directory of two releases are warned of, at the start and at each upgrade',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      makeReleases(lab)
      const pinned =
        /through the symlink \S+\/current, but its working directory \S+\/releases\/1 .*--cwd \S+\/current\n/
      const cwd = lab.path('releases/1')
      const started = await operator.types(['start', lab.path('current/app.cjs')], { cwd })
      assert.match(started.stderr, pinned)
      pointTo(lab, 'releases/2')
      const upgraded = await operator.types(['upgrade', 'app'])
      assert.match(upgraded.stderr, pinned)
      assert.equal(upgraded.code, 0)
      const { version, file } = await told(operator)
      assert.deepEqual([version, file], ['2', 'env 1'])
      const mended = await operator.types(['upgrade', 'app', '--cwd', 'current'])
      assert.equal(mended.stderr, '')
      assert.equal((await told(operator)).file, 'env 2')
      await operator.does(['stop', 'app'])
      const other = await operator.types(['start', lab.path('releases/2/app.cjs')], { cwd: lab.path('current') })
      assert.match(other.stderr, /follows the symlink \S+\/current, but the script \S+\/releases\/2\/app\.cjs does not/)
    },
  )

  test(
    '--node is taken by start, upgrade and restart as it was typed, and what cannot be is refused before anything happens',
    onlyInMatrix,
    async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      makeReleases(lab)
      for (const name of ['one', 'two']) symlinkSync(process.execPath, lab.path(name))
      await operator.does(['start', 'app.cjs', '--cwd', 'current', '--node', lab.path('one')])
      const nodeOf = async () => (await operator.status('app')).command.execPath
      assert.equal(await nodeOf(), lab.path('one'))
      await operator.does(['upgrade', 'app'])
      assert.equal(await nodeOf(), lab.path('one'))
      await operator.does(['upgrade', 'app', '--node', './two'])
      await operator.does(['restart', 'app'])
      const before = await operator.status('app')
      assert.equal(before.command.execPath, lab.path('two'))
      for (const args of [
        ['upgrade', 'app', '--node'],
        ['restart', 'app', '--node'],
        ['restart', 'app', '--cwd'],
        ['start', 'current/app.cjs', '--name', 'new', '--cwd'],
      ]) {
        const { code, stdout, stderr } = await operator.types([...args, './missing'])
        assert.match(stderr, /\/missing does not exist/)
        assert.deepEqual([code, stdout], [2, ''])
      }
      assert.equal((await operator.status('app')).pid, before.pid)
    },
  )

  test('what is not Node, or too old a Node, is refused as such', async () => {
    await using lab = await Lab.open()
    writeFileSync(lab.path('plain'), '#!/bin/sh\n')
    const says = (file: string, text: string) => {
      writeFileSync(lab.path(file), `#!/bin/sh\necho '${text}'\n`, { mode: 0o755 })
      return file
    }
    for (const [node, why] of [
      ['missing-in-path', /no such program in \$PATH/],
      ['/', /is not executable/],
      ['./plain', /is not executable/],
      [`./${says('other', '24.1.0')}`, /is not Node/],
      [`./${says('bun', '["node","24.1.0",true]')}`, /is not Node/],
      [`./${says('old', '["node","20.18.3",false]')}`, /is Node 20\.18\.3; cook-daemon needs 20\.19/],
      [`./${says('odd', '["node","22.11.0",false]')}`, /is Node 22\.11\.0; cook/],
    ] as const) {
      assert.throws(() => nodeAt(node, lab.folder), why)
    }
    assert.equal(nodeAt(`./${says('new', '["node","28.0.0",false]')}`, lab.folder), lab.path('new'))
  })

  test('every option of an upgrade is taken by the new version and by those after it, and none of them stays if it fails', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    makeReleases(lab)
    const first = ['--drain-timeout', '1234', '--pid', 'first.pid']
    await operator.does(['start', 'app.cjs', '--cwd', 'current', ...first, '--', 'a'], { cwd: lab.folder })
    const before = await operator.status('app')
    const options = [
      ...['--wait-ready', '--ready-timeout', '20000', '--drain-timeout', '4321', '--overlap', '1'],
      ...['--log', 'second.log', '--pid', 'second.pid', '--node-arg', '--no-deprecation', '--no-move-connections'],
    ]
    writeFileSync(lab.path('releases/1/app.cjs'), "throw new Error('a bad version')")
    assert.equal((await operator.types(['upgrade', 'app', ...options, '--', 'b', 'c'])).code, 1)
    const after = await operator.status('app')
    assert.deepEqual([after.pid, after.program, after.command], [before.pid, before.program, before.command])
    writeFileSync(lab.path('releases/1/app.cjs'), program('1'))
    await operator.does(['upgrade', 'app', ...options, '--', 'b', 'c'])
    await operator.does(['upgrade', 'app'])
    const { args, execArgv } = await told(operator)
    assert.deepEqual([args, execArgv], [['b', 'c'], ['--no-deprecation']])
    const now = await operator.status('app')
    assert.deepEqual(now.program, {
      name: 'app',
      waitReady: true,
      readyTimeout: 20_000,
      drainTimeout: 4321,
      overlap: 1,
      logFile: lab.path('second.log'),
      pidFile: lab.path('second.pid'),
      moveConnections: false,
    })
    assert.deepEqual([now.drainTimeout, now.logFile], [4321, lab.path('second.log')])
    assert.equal(lab.read('second.pid'), `${now.keeper?.pid}\n`)
    assert.equal(existsSync(lab.path('first.pid')), false)
    assert.equal(await operator.does(['logs', 'app', '--path']), `${lab.path('second.log')}\n`)
    for (const option of [
      ['--log', 'missing/log'],
      ['--pid', 'missing/pid'],
      ['--pid', '.'],
    ]) {
      const { code, stderr } = await operator.types(['upgrade', 'app', ...option])
      assert.equal(code, 1)
      assert.match(stderr, /cannot be used|could not be written/)
    }
    assert.equal((await operator.status('app')).pid, now.pid)
  })

  test('a name from the name of a file is not taken for the program: upgrade --or-start, start and run of another one are refused, with both paths', async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    makeReleases(lab)
    makeReleases(lab, 'others')
    pointTo(lab, 'releases/1')
    await operator.does(['start', 'app.cjs', '--cwd', 'current'])
    const before = await operator.status('app')
    const cwd = lab.path('others/1')
    const both = /app\.cjs in \S+\/current → \S+\/releases\/1[\s\S]*\/others\/1/
    for (const [code, args] of [
      [2, ['upgrade', '--or-start', 'app.cjs']],
      [2, ['upgrade', 'app', '--or-start', 'app.cjs', '--', 'x']],
      [2, ['upgrade', '--or-start', 'app.cjs', '--', 'x']],
      [1, ['start', 'app.cjs']],
      [1, ['run', 'app.cjs']],
    ] as const) {
      const ended = await operator.types(args, { cwd })
      assert.match(ended.stderr, both)
      assert.deepEqual([ended.code, ended.stdout], [code, ''])
    }
    assert.equal((await operator.status('app')).pid, before.pid)
    // The same by another way.
    await operator.does(['upgrade', '--or-start', 'app.cjs', '--', '--x'], { cwd: lab.path('releases/1'), env: noPwd })
    assert.deepEqual((await told(operator)).args, ['--x'])
    await operator.does(['upgrade', 'app', '--or-start', lab.path('current/app.cjs')], { cwd: '/' })
    assert.equal((await operator.status('app')).generation, 3)
  })

  test('a file that is shared by two projects is a program of its own in each of them, unless it is called by its name', async () => {
    await using lab = await Lab.open()
    makeReleases(lab)
    writeFileSync(lab.path('shared.cjs'), '')
    const at = (file: string, folder: string) => ({
      ...{ execPath: process.execPath, execArgv: [] },
      ...{ args: [lab.path(file)], cwd: lab.path(folder) },
    })
    const [one, two] = [at('shared.cjs', 'releases/1'), at('shared.cjs', 'releases/2')]
    assert.deepEqual([isSameProgram(one, two, false), isSameProgram(one, two, true)], [false, true])
    assert.equal(isSameProgram(one, at('shared.cjs', 'current'), false), true)
    // One that lies in a folder of its own is known by its path.
    assert.equal(isSameProgram(at('current/app.cjs', 'current'), at('releases/1/app.cjs', 'releases/2'), false), true)
    assert.equal(isSameProgram(at('releases/2/app.cjs', 'current'), at('releases/1/app.cjs', 'current'), true), false)
  })

  const lines = Object.entries(JSON.parse(process.env.COOK_TEST_NODES ?? '{}') as Record<string, string>)
  const others = lines.filter(([line]) => line !== process.versions.node.split('.')[0])
  const skip = others.length === 0 && 'COOK_TEST_NODES names no other Node'
  test('another Node is said: when the command runs on it, and when the new version does', { skip }, async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    makeReleases(lab)
    const node = String(others[0]?.[1])
    await operator.does(['start', 'app.cjs', '--cwd', 'current', '--node', node])
    const { node: version } = await operator.status('app')
    const same = await operator.types(['upgrade', 'app'])
    assert.match(same.stderr, new RegExp(`app runs on node ${version} \\(.*\\), this command on ${process.version}`))
    const changed = await operator.does(['upgrade', 'app', '--node', process.execPath])
    assert.match(changed, new RegExp(`node ${process.version} \\(was ${version}\\)\n`))
    assert.equal((await operator.types(['upgrade', 'app'])).stderr, '')
    if (takesAll)
      assert.match(await operator.does(['restart', 'app', '--node', node]), new RegExp(`node ${version} \\(was`))
  })
})
