/** Whoever follows the first guide word for word sees what it says. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { get, type IncomingMessage } from 'node:http'
import { createServer } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { type Ended, Operator } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

const guide = readFileSync(new URL('../../../docs/first-upgrade.md', import.meta.url), 'utf8')

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
  assert.match(done[0]?.stdout ?? '', new RegExp(`^app serves on \\[::\\]:${port} \\(pid \\d+, generation 1\\), log `))
  assert.match(done[1]?.stdout ?? '', /serves: generation 2.*1 handed over, 0 served, 0 closed, 0 cut/s)
  assert.match(done[2]?.stderr ?? '', /this version is broken.*still serves/s)
  assert.match(answers.join(''), /^version 1, process (\d+)\nversion 2, process (?!\1)\d+\n$/)
  const connections = [...lab.output.matchAll(/^on connection (\d+): version [12], process \d+$/gm)].map(
    ([, one]) => one,
  )
  assert.equal(new Set(connections).size, 1, lab.output)
})

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
