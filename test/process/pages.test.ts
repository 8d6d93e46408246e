/** The programs and the commands of the pages run as they are printed. */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { transform } from 'esbuild'

import { bin, Operator } from '../support/command.ts'
import { takesAll } from '../support/extent.ts'
import { freePort } from '../support/free-port.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))

/** What others run: as root on port 80, in an init system, in the shell of a person. */
const others = /^sudo |^cook-daemon systemd |completion|^npm |^# |^[A-Z_]+=\S*$/

type Page = {
  readonly name: string
  /** What the page has started before its commands. */
  readonly before?: string
  /** What it has started before its first request. */
  readonly beforeCurl?: string
}

const pages: readonly Page[] = [
  { name: 'cli', beforeCurl: 'npx cook-daemon start server.js --name web' },
  { name: 'config' },
  { name: 'drain-and-deadlines' },
  { name: 'failure-and-rollback', before: 'npx cook-daemon start app.js' },
  { name: 'from-server-close' },
  { name: 'keeper' },
  { name: 'monitoring' },
  { name: 'preload' },
  { name: 'unmodified-programs' },
  { name: 'workers', before: 'npx cook-daemon start app.js --name web --workers 2' },
]

describe('the pages', { concurrency: 2 }, () => {
  test('every program of a page that serves is started, upgraded and stopped', async () => {
    const names = [
      'websockets',
      'from-server-close',
      'failure-and-rollback',
      'drain-and-deadlines',
      'library',
      'state-and-hooks',
    ]
    for (const name of takesAll ? names : names.slice(0, 3)) {
      const programs = blocksOf(name, 'ts').filter((code) => /\.?(listen|serve)\(/.test(code))
      assert.ok(programs.length > 0, `${name} has no program`)
      for (const program of takesAll ? programs : programs.slice(0, 1)) await run(program, name)
    }
  })

  for (const page of pages) {
    test(`every command of docs/${page.name}.md does what it says`, async () => {
      await using lab = await Lab.open()
      await using operator = new Operator(lab)
      const shell = await prepare(lab, operator, page)
      const blocks = blocksOf(page.name, 'sh').map((block) => block.trim().split('\n'))
      const begin = blocks.findIndex(([line = '']) => line.startsWith('curl '))
      if (page.before !== undefined) blocks.unshift([page.before])
      else if (page.beforeCurl !== undefined) blocks.splice(begin, 0, [page.beforeCurl])
      const lines = blocks.flat().map((line) => line.split(/ +#/)[0] ?? '')
      const own = lines.filter((line) => line !== '' && !others.test(line))
      assert.ok(own.length > 0)
      for (const line of own) await shell(line)
    })
  }
})

/** As one that somebody has copied, and runs under the command. */
async function run(program: string, page: string): Promise<void> {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const { code } = await transform(onOwnPlaces(lab, program, await freePort()), { loader: 'ts', format: 'esm' })
  writeFileSync(lab.path('app.mjs'), code)
  linkPackages(lab)
  await operator.does(['start', 'app.mjs'])
  assert.match(await operator.does(['upgrade', 'app']), /✓ app serves generation 2/, `${page}: ${program}`)
  await operator.does(['stop', 'app'])
}

/** A folder with what the commands name; returns what types one, and expects that it is done. */
async function prepare(lab: Lab, operator: Operator, { name }: Page): Promise<(line: string) => Promise<void>> {
  const [port, admin] = [await freePort(), await freePort()]
  linkPackages(lab)
  const server = `require('node:http').createServer((request, response) => response.end('hello\\n')).listen(process.env.PORT)`
  mkdirSync(lab.path('dist'))
  mkdirSync(lab.path('releases/41'), { recursive: true })
  for (const file of ['app.js', 'server.js', 'dist/server.js', 'releases/41/app.js'])
    writeFileSync(lab.path(file), server)
  for (const file of ['consumer.js', 'dist/jobs.js'])
    writeFileSync(lab.path(file), "process.send?.('ready'); setInterval(() => {}, 1000)")
  for (const json of blocksOf(name, 'json')) writeFileSync(lab.path('cook.config.json'), json)
  const commands = lab.makeFolder('commands')
  const shim = (file: string, does: string) =>
    writeFileSync(`${commands}/${file}`, `#!/bin/sh\nexec ${does} "$@"\n`, { mode: 0o755 })
  shim('cook-daemon', `"${process.execPath}" "${bin}"`)
  shim('npx', '')
  const env = {
    ...process.env,
    ...lab.environment(),
    PORT: String(port),
    PATH: `${commands}:${process.env.PATH}`,
    TMPDIR: lab.folder,
  }
  return async (line) => {
    const typed = onOwnPlaces(lab, line, port).replaceAll('9464', String(admin))
    const pidBefore = pidIn(lab)
    try {
      if (isForeground(line)) await inForeground(lab, typed, env)
      else await within(typed, promisify(execFile)('sh', ['-e', '-c', typed], { cwd: lab.folder, env }), 60_000)
      if (typed.startsWith('kill ')) await untilNewPid(lab, pidBefore)
    } finally {
      // What it started ends with the test.
      await operator.types(['list'])
    }
  }
}

function pidIn(lab: Lab): string | undefined {
  return existsSync(lab.path('app.pid')) ? lab.read('app.pid').trim() : undefined
}

/** A person types the next line when a signal has done what it is for. */
async function untilNewPid(lab: Lab, before: string | undefined): Promise<void> {
  await eventually('another pid in the pid file, or none', () => pidIn(lab) !== before || undefined)
}

/** Of the service, until somebody stops it. */
function isForeground(line: string): boolean {
  return / (run|node --require) /.test(line)
}

/** Until it serves; what is typed behind it ends it, or the end of the test does. */
async function inForeground(lab: Lab, line: string, env: NodeJS.ProcessEnv): Promise<void> {
  const child = spawn('sh', ['-c', `exec env ${line}`], { cwd: lab.folder, env, stdio: 'ignore' })
  const ended = once(child, 'exit').then(([code, signal]) => {
    throw new Error(`${line} ended with ${code ?? signal}`)
  })
  const serves = eventually(`an answer of ${line}`, async () => {
    const response = await fetch(`http://127.0.0.1:${env.PORT}`).catch(() => undefined)
    return response?.ok || undefined
  })
  await Promise.race([serves, ended])
  ended.catch(() => {})
}

function linkPackages(lab: Lab): void {
  mkdirSync(lab.path('node_modules'))
  symlinkSync(root, lab.path('node_modules/cook-daemon'))
  symlinkSync(`${root}node_modules/ws`, lab.path('node_modules/ws'))
}

/** The same, where nobody else is. */
function onOwnPlaces(lab: Lab, text: string, port: number): string {
  return text
    .replaceAll(/8080|7000/g, String(port))
    .replace('--upgrades 12', '--upgrades 2')
    .replaceAll('/run/app.pid', lab.path('app.pid'))
    .replaceAll('/srv/web', lab.folder)
    .replaceAll('~/.cook-daemon', lab.path('run'))
}

function blocksOf(page: string, language: string): string[] {
  const text = readFileSync(`${root}docs/${page}.md`, 'utf8')
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n(.*?)^\`\`\`$`, 'gms'))].map(([, block = '']) => block)
}
