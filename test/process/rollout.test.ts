/** Instances behind a balancer are replaced one after the other, and it hears of that late. */
import assert from 'node:assert/strict'
import { Agent, get } from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import { test } from 'node:test'
import { isGone, system } from '../../src/node/system.ts'
import { Operator, portOf, writeProgram } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { eventually } from '../support/waiting.ts'

/** How late it hears that an instance is leaving, in milliseconds; and how long that waits. */
const endpointDelay = 1_500
const lameDuck = 4_000

/** By connection, as the proxy of a node: whoever connects gets the next instance of its list. */
async function openBalancer() {
  const ports: number[] = []
  let turn = 0
  const server = createServer({ allowHalfOpen: true }, (client) => {
    const instance = connect({ port: ports[turn++ % ports.length] ?? 0, host: '127.0.0.1', allowHalfOpen: true })
    client.pipe(instance).pipe(client)
    client.on('error', () => instance.destroy())
    instance.on('error', () => client.resetAndDestroy())
  })
  await new Promise<void>((listens) => server.listen(0, '127.0.0.1', listens))
  return { port: (server.address() as AddressInfo).port, ports, close: () => server.close() }
}

/** Clients that never retry; half of them keep their connection. */
class Clients {
  answers = 0
  readonly faults: string[] = []
  #isOver = false
  readonly #ended: Promise<unknown>

  constructor(port: number, count: number) {
    this.#ended = Promise.all(
      Array.from({ length: count }, async (_, client) => {
        const agent = client % 2 === 0 ? new Agent({ keepAlive: true, maxSockets: 1 }) : false
        while (!this.#isOver) {
          const fault = await ask(port, agent)
          if (fault === undefined) this.answers++
          else this.faults.push(`${agent === false ? 'single' : 'kept'} ${fault}`)
          await new Promise((rested) => setTimeout(rested, Math.random() * 20))
        }
        if (agent !== false) agent.destroy()
      }),
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true
    await this.#ended
  }
}

function ask(port: number, agent: Agent | false): Promise<string | undefined> {
  return new Promise((done) => {
    get({ port, host: '127.0.0.1', agent }, (response) => {
      response.resume().on('error', (error) => done(error.message))
      response.on('end', () => done(response.complete ? undefined : 'incomplete answer'))
    }).on('error', (error) => done(error.message))
  })
}

test('instances behind a balancer that hears late of it are replaced with a lame duck, and no request is lost', async () => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  writeProgram(lab, 'app.mjs', 'one')
  const balancer = await openBalancer()
  const start = async (name: string) => {
    await operator.does(['start', 'app.mjs', '--name', name, '--lame-duck', `${lameDuck}`])
    const status = await operator.status(name)
    balancer.ports.push(portOf(status))
    const { keeper } = status
    assert.ok(keeper !== undefined && keeper.pid > 1)
    return { name, port: portOf(status), keeper: [keeper.pid, keeper.startTime] as const }
  }
  const old = [await start('a'), await start('b')]
  {
    await using clients = new Clients(balancer.port, 10)
    for (const [index, one] of old.entries()) {
      await start(`c${index}`)
      system.kill(one.keeper, 'SIGTERM')
      await new Promise((heard) => setTimeout(heard, endpointDelay))
      balancer.ports.splice(balancer.ports.indexOf(one.port), 1)
      await eventually(`the end of ${one.name}`, () => isGone(one.keeper) || undefined)
    }
    assert.deepEqual(clients.faults, [])
    assert.ok(clients.answers > 100)
  }
  balancer.close()
  await operator.does(['stop', 'all'])
})
