/** Whoever follows the README or the first guide word for word sees what they say. */
import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { isAlive, system } from '../../src/node/system.ts'
import { type Ended, Operator } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))

const guide = readFileSync(`${root}docs/first-upgrade.md`, 'utf8')
const readme = readFileSync(`${root}README.md`, 'utf8')

test('docs/first-upgrade.md: its commands do what it says, and its client keeps one connection through a good and a bad version', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const port = await freePort()
  const blocks = [...guide.replaceAll('8080', String(port)).matchAll(/^```(js|sh)\n(.*?)^```$/gms)]
  const [server = '', client = ''] = blocks.flatMap(([, language, text = '']) => (language === 'js' ? [text] : []))
  writeFileSync(lab.path('app.mjs'), server)
  writeFileSync(lab.path('client.mjs'), client)
  // The first installs the package: scripts/test-package.ts does that.
  const commands = blocks
    .flatMap(([, language, text = '']) => (language === 'sh' ? text.trim().split('\n') : []))
    .slice(3)

  const done: Ended[] = []
  const answers: string[] = []
  const type = async (line: string) => {
    if (line.startsWith('npx cook-daemon ')) {
      // The client, which never stops by itself, would be the first to notice.
      if (line.includes(' stop ')) assert.equal(running?.exitCode, null, lab.output)
      done.push(await operator.types(line.split(' ').slice(2)))
    } else if (line.startsWith('curl ')) answers.push(await askOnce(line.slice(5)))
    else if (line.startsWith('sed ')) execFileSync('sh', ['-c', line], { cwd: lab.folder })
    else assert.equal(line, 'node client.mjs')
  }
  let running: ReturnType<Lab['spawn']> | undefined
  for (const line of commands) {
    await type(line)
    if (line === 'node client.mjs') {
      running = lab.spawn(lab.path('client.mjs'))
      await eventually('an answer of the first version', () => /version 1/.test(lab.output) || undefined)
    }
    if (line === 'npx cook-daemon upgrade app') {
      await eventually('an answer of the second version', () => /version 2/.test(lab.output) || undefined)
    }
  }

  assert.deepEqual(
    done.map(({ code }) => code),
    [0, 0, 1, 0, 0],
  )
  assert.match(
    done[0]?.stdout ?? '',
    new RegExp(`^✓ app serves on \\[::\\]:${port} \\(pid \\d+, generation 1\\), log `),
  )
  assert.match(done[1]?.stdout ?? '', /1 connection moved, 0 finished, 0 closed, 0 cut.*app serves generation 2 on /s)
  assert.match(done[2]?.stderr ?? '', /still serves\. It printed:\n.*this version is broken/s)
  assert.match(answers.join(''), /^version 1, process (\d+)\nversion 2, process (?!\1)\d+\n$/)
  const connections = [...lab.output.matchAll(/^on connection (\d+): version [12], process \d+$/gm)].map(
    ([, one]) => one,
  )
  assert.equal(new Set(connections).size, 1, lab.output)
})

test('README.md: its first examples run as printed, in an empty folder', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const folder = lab.makeFolder('hello')
  const run = (line: string) => typeInShell(lab, folder, line)
  const port = await freePort()
  const text = readme.replaceAll('8080', String(port))

  const start = chapter(text, 'Try it')
  const [install = [], commands = []] = start.lines
  // A registry has neither: the package comes from here, and so does Express.
  const tarball = await pack(lab)
  for (const line of install) await run(line.replace('express cook-daemon', tarball))
  assert.equal(install.at(-1), 'npm install express cook-daemon')
  for (const name of readdirSync(`${root}node_modules`).filter((name) => /^[a-z]/.test(name))) {
    symlinkSync(`${root}node_modules/${name}`, `${folder}/node_modules/${name}`)
  }
  writeFileSync(`${folder}/app.mjs`, start.code)
  const answers: string[] = []
  for (const line of commands) {
    const [typed = ''] = line.split(/ +#/)
    if (typed.startsWith('curl ')) answers.push(await askOnce(typed.slice(5)))
    else await run(typed)
    // What it started ends with the test.
    if (/ (start|upgrade) /.test(typed)) await operator.status('app')
  }
  assert.match(answers.join(''), /^answered by process (\d+)\nanswered by process (?!\1)\d+\n$/)

  const own = chapter(text, 'In your own code')
  writeFileSync(`${folder}/server.mjs`, own.code)
  const serving = async () => {
    const pid = Number(/\d+$/m.exec(await askOnce(`http://localhost:${port}`))?.[0])
    return [pid, system.startTime(pid) ?? ''] as const
  }
  const [[begin = '', upgrade = '', stop = ''] = []] = own.lines
  await run(begin)
  const first = await serving()
  try {
    await run(upgrade)
    await eventually('the end of the first version', () => !isAlive(first) || undefined)
    const second = await serving()
    await run(stop)
    await eventually('the end of the second version', () => !isAlive(second) || undefined)
  } finally {
    const last = readdirSync(folder).includes('server.pid') ? Number(readFileSync(`${folder}/server.pid`, 'utf8')) : 0
    for (const pid of new Set([first[0], last])) if (pid > 0) system.kill([pid, system.startTime(pid) ?? ''], 'SIGKILL')
  }
})

/** Of a chapter: the program, and the lines of each block that is typed. */
function chapter(page: string, title: string): { readonly code: string; readonly lines: readonly string[][] } {
  const [, body = ''] = new RegExp(`^## ${title}\n(.*?)^## `, 'ms').exec(page) ?? []
  const blocks = [...body.matchAll(/^```(js|sh)\n(.*?)^```$/gms)].map(([, kind, text = '']) => ({ kind, text }))
  return {
    code: blocks.find(({ kind }) => kind === 'js')?.text ?? '',
    lines: blocks.filter(({ kind }) => kind === 'sh').map(({ text }) => text.trim().split('\n')),
  }
}

/** The package as it would be published, from what is built already. */
async function pack(lab: Lab): Promise<string> {
  mkdirSync(lab.path('packed'))
  await typeInShell(lab, root, `npm pack --ignore-scripts --pack-destination ${lab.path('packed')}`)
  return lab.path('packed', ...readdirSync(lab.path('packed')))
}

/** With a cache of its own, and without a registry. */
async function typeInShell(lab: Lab, cwd: string, line: string): Promise<void> {
  const npm = { npm_config_cache: lab.path('npm'), npm_config_offline: 'true', npm_config_audit: 'false' }
  const env = { ...process.env, ...lab.environment(), PWD: cwd, ...npm }
  await within(line, promisify(execFile)('sh', ['-c', line], { cwd, env }), 60_000)
}

/** As curl does, on a connection that ends with the answer. */
async function askOnce(url: string): Promise<string> {
  const [response] = (await once(get(url, { agent: false }), 'response')) as [IncomingMessage]
  return text(response)
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0)
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  await new Promise((closed) => server.close(closed))
  return port
}
