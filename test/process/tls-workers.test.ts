/** TLS connections move for operators too: unmodified programs, several workers, fewer of them. */
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { makeCertificate } from '../support/certificate.ts'
import { Operator, portOf } from '../support/command.ts'
import { onlyInMatrix } from '../support/extent.ts'
import { Lab } from '../support/lab.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { TlsClients } from '../support/tls-clients.ts'
import { eventually } from '../support/waiting.ts'
import { untilEven } from '../support/workers.ts'

const handler = new URL('../fixtures/load-server-handler.js', import.meta.url).href

function writeProgram(lab: Lab, module: 'http' | 'https'): void {
  makeCertificate(lab)
  writeFileSync(
    lab.path('app.mjs'),
    `import { readFileSync } from 'node:fs'
import { createServer } from 'node:${module}'
import { loadHandler } from '${handler}'
const options = { key: readFileSync('key.pem'), cert: readFileSync('cert.pem'), keepAliveTimeout: 120_000 }
createServer(options, loadHandler('one')).listen({ host: '127.0.0.1', port: 0 })
`,
  )
}

async function startSecure(lab: Lab, operator: Operator, workers: number): Promise<number> {
  writeProgram(lab, 'https')
  await operator.does(['start', 'app.mjs', '--move-tls', '--workers', String(workers)])
  return portOf(await operator.status('app'))
}

test(
  'an unmodified HTTPS program under --move-tls, three workers, upgrades and one worker less: clients that never retry lose nothing',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const port = await startSecure(lab, operator, 3)
    const count = 24
    await using load = keepAliveClients({ host: '127.0.0.1', port, tls: {} }, { count, pause: [0, 100] })
    await load.ready
    for (let upgrades = 0; upgrades < 2; upgrades++) {
      const told = await operator.does(['upgrade', 'app'])
      assert.match(told, new RegExp(`${count} connections moved`))
    }
    await operator.does(['scale', 'app', '2'])
    await eventually('two workers, and no other', async () => {
      const { generations } = await operator.status('app')
      return generations.length === 2 || undefined
    })
    const { failures, faults, reconnects } = await load.stop()
    assert.deepEqual([failures, reconnects], [{}, 0], JSON.stringify(faults.slice(0, 3)))
  },
)

test(
  'connections over TLS even out when workers come, those that are silent too, and none is lost',
  onlyInMatrix,
  async () => {
    await using lab = await Lab.open()
    await using operator = new Operator(lab)
    const port = await startSecure(lab, operator, 1)
    const count = 60
    const silent = 20
    await using clients = new TlsClients()
    for (let at = 0; at < silent; at++) await clients.open({ port })
    await using load = keepAliveClients(
      { host: '127.0.0.1', port, tls: {} },
      { count, weights: { small: 1 }, pause: [20, 200], silence: { every: 4, most: 1_000 } },
    )
    await load.ready
    await operator.does(['scale', 'app', '3'])
    await untilEven(operator, { connections: count + silent, workers: 3 })
    const { faults, failures, reconnects } = await load.stop()
    assert.deepEqual([faults, failures, reconnects], [[], {}, 0])
    for (const client of clients.all) assert.equal((await client.ask('/load?id=1&size=0&place=0')).status, 200)
  },
)

test('an unmodified program without TLS starts under --move-tls, and status warns of it', onlyInMatrix, async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'http')
  await operator.does(['start', 'app.mjs', '--move-tls'])
  const { warnings } = await operator.status('app')
  assert.deepEqual(
    warnings?.map(({ about, text }) => [about, text]),
    [['moveTls', 'moveTls needs a server with TLS 1.3: no server here has TLS']],
  )
})
