/** A Fastify app: pass its server to `serve()` instead of calling `app.listen()`. */
import { serve } from 'cook-daemon'
import Fastify from 'fastify'

/** @type {import('cook-daemon').Daemon | undefined} */
let daemon

const app = Fastify()
app.get('/', () => ({ pid: process.pid, generation: daemon?.generation ?? 'new' }))

// What listen() would do first: plugins are loaded, and one that fails keeps the old version
// serving.
await app.ready()
daemon = await serve(app.server, { port: Number(process.env.PORT ?? 8080) })

const { port } = app.server.address()
console.log(`pid ${process.pid}, generation ${daemon.generation}: http://localhost:${port}`)
