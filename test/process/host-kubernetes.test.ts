/** Pods of docs/kubernetes.md: they start as the page has them. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { inContainersOnHost, installIn, Podman, repository } from '../support/podman.ts'
import { eventually } from '../support/waiting.ts'

const manifest = () => {
  const page = readFileSync(`${repository}/docs/kubernetes.md`, 'utf8')
  return /```yaml\n(.*?)```/s.exec(page)?.[1] ?? ''
}

const app = `require('node:http').createServer((request, response) => {
  setTimeout(() => response.end('answer'), Math.random() * 30)
}).listen(process.env.PORT, () => console.log('serves'))
`

/** With the manifest's image: its Dockerfile is tested with containers. */
async function open(): Promise<Podman> {
  const podman = await Podman.open()
  installIn(podman.root)
  writeFileSync(`${podman.root}/srv/web/app.js`, app)
  await podman.imports('base:1')
  const lines = ['FROM localhost/base:1', 'WORKDIR /srv/web', 'ENV PATH=/srv/web/node_modules/.bin:$PATH', 'USER node']
  writeFileSync(podman.path('Dockerfile'), `${lines.join('\n')}\n`)
  await podman.does(['build', '--tag', 'web:1', '--file', podman.path('Dockerfile'), podman.path('t')], 120_000)
  return podman
}

test(
  'podman play kube runs the manifest of docs/kubernetes.md as it stands, and exec upgrades it',
  inContainersOnHost,
  async () => {
    await using podman = await open()
    writeFileSync(podman.path('web.yaml'), manifest())
    await podman.does(['play', 'kube', '--network', 'none', podman.path('web.yaml')], 120_000)
    const names = (await podman.does(['ps', '--format', '{{.Names}}'])).split('\n')
    const container = names.find((name) => name.endsWith('-web')) ?? assert.fail(names.join(' '))
    const asks = `fetch('http://127.0.0.1:9464/readyz').then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))`
    await eventually('that it is ready', async () => {
      const { code } = await podman.runs(['exec', container, 'node', '-e', asks])
      return code === 0 || undefined
    })
    const { code, stdout, stderr } = await podman.cook(container, 'upgrade')
    assert.equal(code, 0, stdout + stderr)
    const { warnings } = await podman.status(container)
    assert.deepEqual(warnings, [])
    await podman.does(['play', 'kube', '--down', podman.path('web.yaml')], 120_000)
    assert.equal((await podman.does(['ps', '--all', '--quiet'])).trim(), '')
  },
)
