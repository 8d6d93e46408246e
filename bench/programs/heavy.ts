/**
 * A server with much memory, which tells its lab how long its event loop stood still at most while
 * it was replaced, and in a part of a second before that.
 */
import { createServer } from 'node:http'
import { type DaemonEvent, serve } from 'cook-daemon'
import { reportToLab } from '../../test/fixtures/lab-end.ts'

/** Milliseconds of quiet service that are looked at. */
const quietWindow = 500
const lab = await reportToLab()
let [longest, quiet, last] = [0, 0, performance.now()]
let isUpgrading = false

setInterval(look, 1)
setInterval(() => {
  if (!isUpgrading) [quiet, longest] = [longest, 0]
}, quietWindow)

const server = createServer((_request, response) => response.end())
const daemon = await serve(server, { host: '127.0.0.1', port: 0, onEvent })
/** Numbers, one MB in each list: a fork copies the tables of all their pages. */
const heap: number[][] = []
while (heap.length < Number(process.env.BENCH_HEAP)) {
  heap.push(new Array<number>(2 ** 17).fill(heap.length + 0.5))
  await new Promise((turned) => setImmediate(turned))
}
lab.tell('heavy', { generation: daemon.generation, lists: heap.length, resident: process.memoryUsage.rss() })

function onEvent({ type }: DaemonEvent): void {
  if (type === 'upgrade') [isUpgrading, longest] = [true, 0]
  if (type !== 'upgraded') return
  look()
  lab.tell('stood', { longest, quiet })
}

/** What stands still at the beginning of an upgrade counts from the look before it. */
function look(): void {
  const now = performance.now()
  longest = Math.max(longest, now - last)
  last = now
}
