/**
 * An Express app: put it into a server of Node's, and give that to `serve()` in place of
 * `app.listen()`.
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type Daemon, serve } from 'cook-daemon'
import express from 'express'

let daemon: Daemon | undefined

const app = express()
app.get('/', (_request, response) => {
  response.json({ pid: process.pid, generation: daemon?.generation ?? 'new' })
})

const server = createServer(app)
daemon = await serve(server, { port: Number(process.env.PORT ?? 0) })

const { port } = server.address() as AddressInfo
console.log(`pid ${process.pid}, generation ${daemon.generation}: http://localhost:${port}`)
