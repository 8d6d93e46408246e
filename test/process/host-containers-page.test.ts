/** What docs/containers.md has to copy: its Dockerfile and its compose file, built and run. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { network, untilLogged } from '../support/containers.ts'
import { freePort } from '../support/free-port.ts'
import { inCompose, inContainersOnHost, Podman, packIn, program, repository } from '../support/podman.ts'
import { eventually, within } from '../support/waiting.ts'

/** The folder of a program with the Dockerfile of the page, on an image of our own. */
async function foldersOfPage(podman: Podman): Promise<{ readonly folder: string; readonly page: string }> {
  const page = readFileSync(`${repository}/docs/containers.md`, 'utf8')
  const [, dockerfile = ''] = /```dockerfile\n(.*?)```/s.exec(page) ?? []
  const folder = packIn(podman)
  writeFileSync(`${folder}/app.js`, "import '/srv/web/program.mjs'\n")
  writeFileSync(`${folder}/program.mjs`, program('v1', 0))
  await podman.imports('node:1')
  writeFileSync(`${folder}/Dockerfile`, dockerfile.replace(/^FROM .*/, 'FROM localhost/node:1'))
  return { folder, page }
}

test(
  'the Dockerfile of docs/containers.md makes an image that serves and is upgraded',
  inContainersOnHost,
  async () => {
    await using podman = await Podman.open()
    const { folder } = await foldersOfPage(podman)
    await podman.does(['build', '--network', 'host', '--tag', 'web', folder], 120_000)
    await podman.does(['run', '--detach', '--name', 'web', ...network, '--read-only', 'web'])
    await untilLogged(podman, 'v1 serves')
    const { code, stdout, stderr } = await podman.cook('web', 'upgrade')
    assert.equal(code, 0, stdout + stderr)
    await podman.does(['stop', '--time', '40', 'web'], 60_000)
    assert.equal(await podman.shows('web', '{{.State.ExitCode}}'), '0')
  },
)

test(
  'the compose file of docs/containers.md builds a service that is healthy, is upgraded and stopped in its grace period',
  inCompose,
  async () => {
    await using podman = await Podman.open()
    const { folder, page } = await foldersOfPage(podman)
    const [, file = ''] = /```yaml\n(services:.*?)```/s.exec(page) ?? []
    // Networks of their own need more than this machine may have.
    const here = file
      .replace('build: .', 'build: { context: ., network: host }')
      .replace(/ports: .*/, 'network_mode: host\n    container_name: web')
      .replaceAll('9464', `${await freePort()}`)
    writeFileSync(`${folder}/docker-compose.yml`, here)
    await using engine = podman.serves()
    const compose = async (...words: readonly string[]) => {
      const child = spawn('docker-compose', words, { cwd: folder, env: engine.env, stdio: ['ignore', 'pipe', 'pipe'] })
      const output = Promise.all([text(child.stdout), text(child.stderr)])
      const [code] = await within(`docker-compose ${words.join(' ')}`, once(child, 'close'), 180_000)
      assert.equal(code, 0, (await output).join(''))
      return (await output).join('')
    }
    await eventually('the service of the engine', () => existsSync(podman.path('docker.sock')) || undefined)
    await compose('up', '--detach')
    await untilLogged(podman, 'v1 serves')
    // That of compose leaves a process of the engine for five minutes.
    const { code, stdout, stderr } = await podman.cook('web', 'upgrade')
    assert.equal(code, 0, stdout + stderr)
    assert.deepEqual((await podman.status('web')).warnings, [])
    await podman.does(['healthcheck', 'run', 'web'])
    await compose('stop')
    assert.equal(await podman.shows('web', '{{.State.ExitCode}} {{.Config.StopTimeout}}'), '0 40')
    await compose('down')
    assert.equal((await podman.does(['ps', '--all', '--quiet'])).trim(), '')
  },
)
