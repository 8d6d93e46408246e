/**
 * A job that must run in one process only: at an upgrade the old version stops it, and the new one
 * runs it when it is due next.
 */
import { createServer } from 'node:http'
import { serve } from 'cook-daemon'

const interval = Number(process.env.INTERVAL ?? 1_000)
let due = Date.now() + interval
let timer
let running
/** @type {import('cook-daemon').Daemon | undefined} */
let daemon

function schedule() {
  timer = setTimeout(() => {
    running = job(due)
    due += interval
    schedule()
  }, due - Date.now())
}

async function job(time) {
  console.log(`job of ${new Date(time).toISOString()} by pid ${process.pid}`)
}

/** Not twice, and not cut in the middle either. */
async function release() {
  clearTimeout(timer)
  await running
  return due
}

/**
 * The first version starts with nothing; so does one that lost its predecessor, or gets the service
 * back from a successor that was lost.
 */
function takeOver(value) {
  if (typeof value === 'number') due = value
  schedule()
}

const server = createServer((_request, response) => {
  response.end(`pid ${process.pid}, generation ${daemon?.generation ?? 'new'}, due ${new Date(due).toISOString()}\n`)
})

daemon = await serve(server, { port: Number(process.env.PORT ?? 8080), onRelease: release, onTakeover: takeOver })
daemon.onDrain(release)

const { port } = server.address()
console.log(`pid ${process.pid}, generation ${daemon.generation}: http://localhost:${port}`)
