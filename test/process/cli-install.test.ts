/**
 * The command as it is installed and run elsewhere: globally, through npx, and for programs in
 * TypeScript.
 */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Operator } from '../support/command.ts'
import { onlyInMatrix } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { within } from '../support/waiting.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))

/** A program that has never heard of this library, in a folder of its own without any package. */
const plain = `const server = require('node:http').createServer((_, response) => response.end(String(process.pid)))
server.listen(0, '127.0.0.1')
`

test(
  'from a global install, a program outside any project is started, upgraded and stopped',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const tarball = await pack(lab)
    await npm(lab, ['install', '--global', '--prefix', lab.path('global'), tarball])
    await isWorkedWith(lab, operator, lab.path('global/bin/cook-daemon'), [])
  },
)

test('through npx, outside of the project, the same', onlyInMatrix, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const tarball = await pack(lab)
  await isWorkedWith(lab, operator, 'npx', ['--yes', `--package=${tarball}`, 'cook-daemon'])
})

async function isWorkedWith(lab: Lab, operator: Operator, command: string, before: readonly string[]): Promise<void> {
  const folder = lab.makeFolder('elsewhere')
  writeFileSync(`${folder}/app.cjs`, plain)
  const does = (...args: string[]) => run(lab, folder, command, [...before, ...args])
  assert.match(await does('start', 'app.cjs'), /^✓ app serves on 127\.0\.0\.1:\d+/)
  const first = await operator.status('app')
  assert.equal(await operator.asks('app'), String(first.pid))
  assert.match(await does('upgrade', 'app'), /app serves generation 2/)
  const second = await operator.status('app')
  assert.notEqual(second.pid, first.pid)
  assert.deepEqual(second.listeners[0]?.address, first.listeners[0]?.address)
  assert.equal(await does('stop'), '✓ app has stopped\n')
}

const typed = `import { createServer, type ServerResponse } from 'node:http'
const answer = (response: ServerResponse): void => void response.end('typed' satisfies string)
createServer((_, response) => answer(response)).listen(0, '127.0.0.1')
`

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
const stripsTypes = major > 22 || (major === 22 && minor >= 18)

test(
  'a program in TypeScript is started and upgraded where Node runs it by itself',
  {
    skip: stripsTypes ? false : 'this Node runs no TypeScript',
  },
  () => runsTyped([]),
)

test('a program in TypeScript is started and upgraded through a loader: --node-arg --import=tsx', async () => {
  await runsTyped(['--node-arg', `--import=${import.meta.resolve('tsx')}`])
})

async function runsTyped(args: readonly string[]): Promise<void> {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeFileSync(lab.path('app.mts'), typed)
  // Compiled files are kept in the temporary folder.
  const env = { TMPDIR: lab.folder }
  await operator.does(['start', 'app.mts', ...args], { env })
  await operator.does(['upgrade'], { env })
  assert.equal(await operator.asks('app'), 'typed')
  assert.equal((await operator.status('app')).generation, 2)
}

/** The package as it would be published, from what is built already. */
async function pack(lab: Lab): Promise<string> {
  mkdirSync(lab.path('packed'))
  await npm(lab, ['pack', root, '--ignore-scripts', '--pack-destination', lab.path('packed')])
  const [file = ''] = readdirSync(lab.path('packed'))
  return lab.path('packed', file)
}

function npm(lab: Lab, args: readonly string[]): Promise<string> {
  return run(lab, lab.folder, 'npm', [...args, '--no-audit', '--no-fund', '--loglevel=error'])
}

/** With a cache of its own: nothing of this machine's is found, and nothing is left there. */
async function run(lab: Lab, cwd: string, command: string, args: readonly string[]): Promise<string> {
  const env = {
    ...process.env,
    ...lab.environment(),
    PWD: cwd,
    npm_config_cache: lab.path('npm'),
    npm_config_offline: 'true',
    TMPDIR: lab.folder,
  }
  const { stdout } = await within(
    `${command} ${args.join(' ')}`,
    promisify(execFile)(command, args, { cwd, env }),
    60_000,
  )
  return stdout
}
