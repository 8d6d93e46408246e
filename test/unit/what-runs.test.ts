/** How what runs is said, and what is doubted about it. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nodeText, otherNode, twoReleases, whatRuns } from '../../src/cli/what-runs.ts'
import { nextCommand, typedOf } from '../../src/process/command.ts'

const running = (script: string, cwd: string, resolved: { script: string; cwd: string }, node = process.version) => ({
  command: { execPath: '/opt/node/bin/node', execArgv: [], args: [script, '--port', '80'], cwd },
  resolved,
  node,
})

const current = running('/srv/current/dist/app.js', '/srv/current', {
  script: '/srv/releases/5/dist/app.js',
  cwd: '/srv/releases/5',
})

test('a script in its working directory is said in short, and any other with both paths', () => {
  assert.equal(whatRuns(current), 'dist/app.js in /srv/current → /srv/releases/5')
  const apart = running('/srv/current/app.js', '/var/web', { script: '/srv/releases/5/app.js', cwd: '/var/web' })
  assert.equal(whatRuns(apart), '/srv/current/app.js → /srv/releases/5/app.js, in /var/web')
  const moved = running('/srv/current/app.js', '/srv/current', {
    script: '/srv/releases/6/app.js',
    cwd: '/srv/releases/5',
  })
  assert.equal(whatRuns(moved), '/srv/current/app.js → /srv/releases/6/app.js, in /srv/current → /srv/releases/5')
})

test('a working directory in the release of a script behind a symlink is doubted, of the new release and of the old one', () => {
  const at = (release: string, cwd: string) =>
    running('/srv/current/dist/app.js', cwd, { script: `/srv/releases/${release}/dist/app.js`, cwd })
  const doubt =
    /symlink \/srv\/current, but its working directory \/srv\/releases\/5\/dist .* --cwd \/srv\/current\/dist$/
  assert.match(twoReleases(at('5', '/srv/releases/5/dist')) ?? '', doubt)
  assert.match(twoReleases(at('6', '/srv/releases/5/dist'), at('5', '/srv/releases/5/dist')) ?? '', doubt)
  assert.equal(twoReleases(at('5', '/srv/releases/50')), undefined)
  assert.equal(twoReleases(at('5', '/srv')), undefined)
  assert.equal(twoReleases(current), undefined)
})

test('the version of Node is said with the one before it, and one that the command does not share is doubted', () => {
  assert.equal(nodeText('v24.1.0', { ...current, node: 'v22.12.0' }), 'node v24.1.0 (was v22.12.0)')
  assert.equal(nodeText('v24.1.0', { ...current, node: 'v24.1.0' }), 'node v24.1.0')
  const old = { ...current, node: 'v18.0.0' }
  assert.equal(
    otherNode('web', old, old),
    `web runs on node v18.0.0 (/opt/node/bin/node), this command on ${process.version}. To change that: --node ${process.execPath}`,
  )
  assert.equal(otherNode('web', current, current), undefined)
  // It was changed just now.
  assert.equal(otherNode('web', old, current), undefined)
})

test('a script that was typed as relative moves with the working directory, or one of which nobody knows how it was typed, and an absolute one stays', () => {
  const at = (script?: string) => ({
    ...{ execPath: '/bin/node', execArgv: [], args: ['/srv/a/app.js', 'x'], cwd: '/srv/a' },
    ...(script !== undefined && { script }),
  })
  const moved = (script?: string) => nextCommand(at(script), { cwd: '/srv/b' }).args
  assert.deepEqual(moved('app.js'), ['/srv/b/app.js', 'x'])
  assert.deepEqual(moved('../a/app.js'), ['/srv/a/app.js', 'x'])
  assert.deepEqual(moved(), ['/srv/b/app.js', 'x'])
  assert.deepEqual(moved('/srv/a/app.js'), ['/srv/a/app.js', 'x'])
  // The next generation knows no more of it.
  assert.deepEqual(typedOf(at()), { execPath: '/bin/node', cwd: '/srv/a' })
  const gone = nextCommand(at('app.js'), {}, () => '/')
  assert.deepEqual([gone.cwd, gone.args[0], gone.script], ['/', '/srv/a/app.js', undefined])
})
