/** An Express app: pass `createServer(app)` to `serve()` instead of calling `app.listen()`. */
import { createServer } from 'node:http'
import { serve } from 'cook-daemon'
import express from 'express'

/** @type {import('cook-daemon').Daemon | undefined} */
let daemon

const app = express()
app.get('/', (_request, response) => {
  response.json({ pid: process.pid, generation: daemon?.generation ?? 'new' })
})

const server = createServer(app)
daemon = await serve(server, { port: Number(process.env.PORT ?? 8080) })

const { port } = server.address()
console.log(`pid ${process.pid}, generation ${daemon.generation}: http://localhost:${port}`)
