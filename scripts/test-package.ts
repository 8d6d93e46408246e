/**
 * Installs the packed package as its users do, with each package manager, and runs it there under
 * each supported line of Node.
 */
import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { tmpdir } from 'node:os'
import { basename, delimiter, dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import type { Identity } from '../src/contract/environment.ts'
import type { Status } from '../src/control/status.ts'
import { isAlive, system } from '../src/node/system.ts'
import { eventually, within } from '../test/support/waiting.ts'
import { removeLeftovers } from './leftovers.ts'
import { lines, nodeBinary, root } from './node-lines.ts'
import { faultsOf } from './package-content.ts'

type Manager = {
  /** Installs what follows. */
  readonly add: readonly string[]
  /** Runs the command of the package. */
  readonly run: readonly string[]
  /** Runs a program. @default node itself */
  readonly node?: readonly string[]
}

const managerPackages = ['pnpm@10.34.8', 'yarn@1.22.22', '@yarnpkg/cli-dist@4.18.1']
// Both have a command of the same name.
const classic = ['node', '../tools/node_modules/yarn/bin/yarn.js']
const berry = ['node', '../tools/node_modules/@yarnpkg/cli-dist/bin/yarn.js']
const managers: Readonly<Record<string, Manager>> = {
  npm: {
    add: ['npm', 'install', '--no-audit', '--no-fund', '--ignore-scripts'],
    run: ['npx', '--no-install', 'cook-daemon'],
  },
  pnpm: { add: ['pnpm', 'add', '--ignore-scripts'], run: ['pnpm', 'exec', 'cook-daemon'] },
  yarn: {
    add: [...classic, 'add', '--ignore-scripts', '--non-interactive'],
    run: [...classic, '--silent', 'cook-daemon'],
  },
  // Without node_modules: the package stays in an archive, out of which Node is made to read.
  berry: { add: [...berry, 'add'], run: [...berry, 'run', 'cook-daemon'], node: [...berry, 'node'] },
}
/** What the TypeScript programs need beside the package. */
const typesPackages = ['@types/node@20.19.43', '@types/ws@8.18.2', 'ws@8.23.0']
/** Time for one command, in milliseconds; a registry may be slow. */
const commandTimeout = 240_000

const fixtures = join(root, 'test/fixtures/package')
const counts = { passed: 0, failed: 0, skipped: 0 }

// Numbers choose lines, words package managers; with --quick only the running line, and not the
// slowest manager: npm run test:package -- 22 pnpm
const chosen = process.argv.slice(2)
const running = lines.filter((line) => process.versions.node.startsWith(`${line}.`))
const chosenLines = chosen.includes('--quick') ? running : orAll(lines)
const chosenManagers = orAll(Object.keys(managers)).filter((name) => name !== 'berry' || !chosen.includes('--quick'))

// The name of the folder is the mark by which everything that is started here is found again.
const folder = mkdtempSync(join(realpathSync(tmpdir()), 'cook-'))
Object.assign(process.env, {
  COOK_TEST_RUN: basename(folder),
  COOK_DAEMON_HOME: join(folder, 'run'),
  npm_config_cache: join(folder, 'cache'),
})
const tools = join(folder, 'tools')
const packed = pack()

await check('the package holds what it should, and nothing else', () => {
  mkdirSync(join(folder, 'unpacked'))
  demand(spawnSync('tar', ['xzf', packed, '-C', join(folder, 'unpacked')], { encoding: 'utf8' }))
  const faults = faultsOf(join(folder, 'unpacked/package'))
  if (faults.length > 0) throw new Error(faults.join('\n'))
})

if (isRegistryThere()) await withRegistry()
else skip(`everything with a package manager: npm has no registry here`)

const left = (await removeLeftovers(basename(folder), folder)).filter((what) => what.startsWith('process '))
for (const what of left) say('failed', `left behind: ${what}`)
counts.failed += left.length
if (counts.failed > 0 || counts.passed === 0) process.exitCode = 1
process.stdout.write(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped\n`)

async function withRegistry(): Promise<void> {
  demand(
    run(tools, process.execPath, [
      'npm',
      'install',
      '--no-audit',
      '--no-fund',
      '--ignore-scripts',
      '--prefix',
      tools,
      ...managerPackages,
    ]),
  )
  for (const manager of chosenManagers) {
    const project = join(folder, manager)
    const installed = await check(`${manager} installs it`, () => install(project, manager))
    for (const line of installed ? chosenLines : []) {
      const node = nodeBinary(line)
      const where = `${manager}, Node ${line}`
      await check(`${where}: an ES module becomes a daemon, and is upgraded`, () =>
        livesAsDaemon(project, node, manager, 'esm.mjs'),
      )
      const requires = `${where}: a CommonJS program requires it, and is upgraded`
      // Yarn's way of reading archives does not reach what a required ES module imports there: its
      // limit, not ours.
      if (manager === 'berry' && line === '20') skip(requires)
      else await check(requires, () => livesAsDaemon(project, node, manager, 'cjs.cjs'))
      // Nobody can copy out of an archive.
      if (manager !== 'berry') {
        await check(
          `${where}: require, import and a second copy share one state`,
          () => void demand(run(project, node, ['node', 'copies.cjs'])),
        )
      }
      await check(`${where}: the command starts, upgrades and stops a program`, () =>
        livesUnderCommand(project, node, manager),
      )
    }
  }
  if (chosenManagers.includes('npm')) await checkTypes()
}

async function checkTypes(): Promise<void> {
  const project = join(folder, 'types')
  await check('npm installs it beside the types of Node and ws', () => install(project, 'npm', typesPackages))
  const strict = {
    strict: true,
    exactOptionalPropertyTypes: true,
    skipLibCheck: false,
    noEmit: true,
    target: 'es2023',
    types: ['node'],
  }
  const kinds = {
    'TypeScript with nodenext': { module: 'nodenext' },
    'TypeScript with a bundler': { module: 'esnext', moduleResolution: 'bundler' },
  }
  for (const [name, options] of Object.entries(kinds)) {
    // A bundler's TypeScript takes no `import x = require()`.
    const files = options.module === 'nodenext' ? ['types.ts', 'types.cts'] : ['types.ts']
    writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions: { ...strict, ...options }, files }))
    await check(`${name}: strict programs compile, with the declarations themselves checked`, () => {
      demand(run(project, process.execPath, ['node', join(root, 'node_modules/typescript/bin/tsc'), '-p', project]))
    })
  }
}

function pack(): string {
  const args = ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder]
  const { stdout } = demand(spawnSync('npm', args, { cwd: root, encoding: 'utf8' }))
  return join(folder, stdout.trim())
}

function isRegistryThere(): boolean {
  return spawnSync('npm', ['view', managerPackages[0] ?? '', 'version'], { timeout: commandTimeout }).status === 0
}

function install(project: string, manager: string, others: readonly string[] = []): void {
  mkdirSync(project)
  cpSync(fixtures, project, { recursive: true })
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'project', private: true, type: 'module' }))
  // A workspace above would be asked first.
  writeFileSync(join(project, 'pnpm-workspace.yaml'), 'packages: []\n')
  if (manager === 'berry') {
    writeFileSync(join(project, 'yarn.lock'), '')
    writeFileSync(join(project, '.yarnrc.yml'), 'nodeLinker: pnp\nenableTelemetry: false\nenableGlobalCache: false\n')
  }
  demand(run(project, process.execPath, [...(managers[manager]?.add ?? []), `cook-daemon@file:${packed}`, ...others]))
}

/**
 * The program itself becomes a daemon: started, upgraded by its signal, and stopped, with nothing
 * to read on stderr.
 */
async function livesAsDaemon(project: string, node: string, manager: string, program: string): Promise<void> {
  for (const name of ['app.pid', 'app.port', 'app.log']) rmSync(join(project, name), { force: true })
  const { stderr } = demand(run(project, node, [...(managers[manager]?.node ?? ['node']), program]))
  if (stderr !== '') throw new Error(`it says ${stderr}`)
  const first = await eventually('a pid file', () => identityIn(project))
  try {
    await answers(project, 'generation 1')
    system.kill(first, 'SIGUSR2')
    const second = await eventually('another pid in the pid file', () => {
      const now = identityIn(project)
      return now === undefined || now[0] === first[0] ? undefined : now
    })
    await answers(project, 'generation 2')
    system.kill(second, 'SIGTERM')
    await eventually('the end of both', () => (!isAlive(first) && !isAlive(second)) || undefined)
  } catch (error) {
    throw new Error(`${(error as Error).message}\n${readFileSync(join(project, 'app.log'), 'utf8')}`)
  } finally {
    for (const one of [first, identityIn(project)]) if (one !== undefined) system.kill(one, 'SIGKILL')
  }
}

async function livesUnderCommand(project: string, node: string, manager: string): Promise<void> {
  const command = (...args: readonly string[]) =>
    demand(run(project, node, [...(managers[manager]?.run ?? []), ...args])).stdout
  cpSync(join(fixtures, 'plain.mjs'), join(project, 'plain.mjs'))
  const { listeners } = JSON.parse(command('start', 'plain.mjs', '--json')) as Status
  const port = Number(/:(\d+)$/.exec(listeners[0]?.address ?? '')?.[1])
  await isAnswered(port, 'version 1')
  const next = readFileSync(join(fixtures, 'plain.mjs'), 'utf8').replace('version = 1', 'version = 2')
  writeFileSync(join(project, 'plain.mjs'), next)
  command('upgrade', 'plain')
  await isAnswered(port, 'version 2')
  command('stop', 'plain')
}

function identityIn(project: string): Identity | undefined {
  const file = join(project, 'app.pid')
  const pid = existsSync(file) ? Number(readFileSync(file, 'utf8')) : 0
  const startTime = pid === 0 ? undefined : system.startTime(pid)
  return startTime === undefined ? undefined : [pid, startTime]
}

async function answers(project: string, words: string): Promise<void> {
  const file = join(project, 'app.port')
  const port = await eventually('its port', () => (existsSync(file) && Number(readFileSync(file, 'utf8'))) || undefined)
  await isAnswered(port, words)
}

/** A new version may say another thing until it is told that the service is its own. */
async function isAnswered(port: number, words: string): Promise<void> {
  await eventually(`the answer "${words}" on port ${port}`, async () =>
    (await ask(port)) === words ? true : undefined,
  )
}

function ask(port: number): Promise<string> {
  const answered = new Promise<string>((resolve, reject) => {
    get({ port, host: '127.0.0.1', agent: false }, (response) => text(response).then(resolve, reject)).on(
      'error',
      reject,
    )
  })
  return within(`an answer on port ${port}`, answered)
}

/** A command in a project, with this Node before all others on its path. */
function run(cwd: string, node: string, [command = '', ...args]: readonly string[]): SpawnSyncReturns<string> {
  mkdirSync(cwd, { recursive: true })
  const path = [dirname(node), join(tools, 'node_modules/.bin'), process.env.PATH].join(delimiter)
  const file = command === 'node' ? node : command
  return spawnSync(file, args, {
    cwd,
    env: { ...process.env, PWD: cwd, PATH: path },
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: commandTimeout,
  })
}

function demand(done: SpawnSyncReturns<string>): SpawnSyncReturns<string> {
  const { status, signal, error, stdout, stderr } = done
  if (status !== 0) throw new Error(`${error?.message ?? signal ?? `exit code ${status}`}\n${stdout}${stderr}`)
  return done
}

/** Returns whether it passed. */
async function check(what: string, look: () => void | Promise<void>): Promise<boolean> {
  const started = performance.now()
  try {
    await look()
    counts.passed += 1
    say('ok', `${what}, ${((performance.now() - started) / 1000).toFixed(1)} s`)
    return true
  } catch (error) {
    counts.failed += 1
    say('failed', `${what}\n${(error as Error).message}`)
    return false
  }
}

function skip(what: string): void {
  counts.skipped += 1
  say('skipped', what)
}

function say(how: string, what: string): void {
  process.stdout.write(`${how.padEnd(8)}${what}\n`)
}

function orAll(all: readonly string[]): readonly string[] {
  const some = all.filter((one) => chosen.includes(one))
  return some.length > 0 ? some : all
}
