/**
 * A server with as many listeners and as much state as it is told, which tells its lab when each
 * step of its upgrade came.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve } from 'cook-daemon'
import { reportToLab } from '../../test/fixtures/lab-end.ts'
import { loadHandler } from '../../test/fixtures/load-server-handler.ts'
import { monotonic } from '../versus/clock.ts'

const lab = await reportToLab()
const listeners = Number(process.env.SCALING_LISTENERS)
const bytes = Number(process.env.SCALING_STATE)
const host = '127.0.0.1'
/** Milliseconds: what grows here is measured, not cut. */
const patience = 600_000
const answer = loadHandler('')
let state: unknown

const [server, ...others] = Array.from({ length: listeners }, () => createServer(answer))
if (server === undefined) throw new Error('SCALING_LISTENERS says none')
// Connections stay open for as long as a slow machine needs to open all of them.
server.keepAliveTimeout = 600_000

await serve(server, {
  host,
  port: 0,
  drainTimeout: patience,
  stateTimeout: patience,
  readyTimeout: patience,
  saveState: bytes > 0 ? { state: { save: () => state } } : {},
  async prepare(daemon) {
    for (const [at, other] of others.entries()) await daemon.listen(other, { name: `other-${at}`, host, port: 0 })
    if (bytes > 0) state = (await daemon.inherited('state')) ?? Buffer.alloc(bytes, 'x')
  },
  onEvent: (event) => lab.tell(event.type, { at: monotonic(), ...('report' in event ? { report: event.report } : {}) }),
})
lab.tell('serving', (server.address() as AddressInfo).port)
