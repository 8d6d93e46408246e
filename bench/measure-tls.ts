/** What `moveTls` costs: on connections that OpenSSL has, in handshakes, and after a move. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { Agent, get } from 'node:https'
import { fileURLToPath } from 'node:url'
import type { Row } from './rows.ts'
import { compare, ratio, summarize } from './statistics.ts'

export type TlsSizes = { readonly rounds: number; readonly requests: number; readonly idle: number }

const connections = 10
const program = fileURLToPath(new URL('programs/tls-server.js', import.meta.url))

export async function* measureNative({ rounds, requests }: TlsSizes): AsyncGenerator<Row> {
  await using moving = await open('moves')
  await using plain = await open('stays')
  for (const { what, goal, isKept, share } of [
    { what: 'CPU of a small request: with moveTls / without', goal: 1.03, isKept: true, share: 1 },
    { what: 'CPU of a handshake and a request: with / without', goal: 1.1, isKept: false, share: 0.2 },
  ]) {
    const costs: [number[], number[]] = [[], []]
    const agents = [moving, plain].map(() => new Agent({ keepAlive: isKept, maxSockets: connections }))
    for (let round = -2; round < rounds; round++) {
      for (const at of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
        const cost = await costOf([moving, plain][at]?.port ?? 0, agents[at], Math.ceil(requests * share), '/')
        if (round >= 0) costs[at].push(cost)
      }
    }
    for (const agent of agents) agent.destroy()
    yield { what, unit: 'x', goal, ...compare(...costs, ratio) }
  }
}

export async function* measureMoved({ rounds, requests, idle }: TlsSizes): AsyncGenerator<Row> {
  await using server = await open('moves')
  const { port } = server
  const before = await memoryOf(port)
  const moved = new Agent({ keepAlive: true, maxSockets: connections })
  await costOf(port, moved, connections * 3, '/')
  const many = new Agent({ keepAlive: true, maxSockets: idle })
  await Promise.all(Array.from({ length: idle }, () => ask(port, many, '/')))
  const native = ((await memoryOf(port)).memory - before.memory) / idle
  process.kill(before.pid, 'SIGUSR2')
  let young = await cpuOf(port)
  while (young.pid === before.pid) young = await cpuOf(port)
  // What had been idle there is here by the time at which the old process has left.
  await server.untilLeft
  // A process that has just started needs less: that of one without connections is the measure.
  await using empty = await open('moves')
  const memory = ((await memoryOf(port)).memory - (await memoryOf(empty.port)).memory) / idle
  const fresh = new Agent({ keepAlive: true, maxSockets: connections })
  for (const { path, what, goal, share } of [
    { path: '/', what: 'CPU of a small request: moved / native', goal: 1.5, share: 1 },
    { path: '/large', what: 'CPU of an answer of 1 MiB: moved / native', goal: undefined, share: 0.05 },
  ]) {
    const costs: [number[], number[]] = [[], []]
    for (let round = -2; round < rounds; round++) {
      for (const at of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const)) {
        const cost = await costOf(port, [moved, fresh][at], Math.ceil(requests * share), path)
        if (round >= 0) costs[at].push(cost)
      }
    }
    yield { what, unit: 'x', ...(goal !== undefined && { goal }), ...compare(...costs, ratio) }
  }
  yield {
    what: `memory of an idle connection: moved / native, of ${idle}`,
    unit: 'x',
    goal: 1,
    ...summarize([memory / native]),
  }
  for (const agent of [moved, many, fresh]) agent.destroy()
}

/**
 * Of the server, in microseconds for each request. Asked on a connection that is there, and without
 * a collection: a handshake and a heap that was swept cost more than many requests.
 */
async function costOf(port: number, agent: Agent | undefined, count: number, path: string): Promise<number> {
  const before = await cpuOf(port, agent)
  let left = count
  const askOn = async () => {
    while (left-- > 0) await ask(port, agent, path)
  }
  await Promise.all(Array.from({ length: connections }, askOn))
  return ((await cpuOf(port, agent)).cpu - before.cpu) / count
}

type Cpu = { readonly pid: number; readonly cpu: number }
type Memory = { readonly pid: number; readonly memory: number }

async function cpuOf(port: number, agent?: Agent): Promise<Cpu> {
  return JSON.parse(String(await ask(port, agent, '/cpu'))) as Cpu
}

async function memoryOf(port: number): Promise<Memory> {
  return JSON.parse(String(await ask(port, undefined, '/memory'))) as Memory
}

function ask(port: number, agent: Agent | undefined, path: string): Promise<Buffer> {
  return new Promise((answered, failed) => {
    const options = { host: '127.0.0.1', port, path, agent: agent ?? false, rejectUnauthorized: false }
    const request = get(options as object, (response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => parts.push(part)).once('end', () => answered(Buffer.concat(parts)))
    })
    request.once('error', failed)
  })
}

async function open(how: 'moves' | 'stays') {
  const stdio = ['ignore', 'inherit', 'inherit', 'ipc'] as const
  const child: ChildProcess = spawn(process.execPath, ['--expose-gc', program, how], { stdio: [...stdio] })
  const [port] = (await once(child, 'message')) as [number]
  return {
    port,
    untilLeft: once(child, 'exit'),
    async [Symbol.asyncDispose]() {
      process.kill((await cpuOf(port)).pid, 'SIGKILL')
    },
  }
}
