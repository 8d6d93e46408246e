/**
 * An http server that upgrades itself when the benchmark says so; upgradable.cjs is the same as
 * CommonJS.
 */
import { createServer } from 'node:http'
import { daemonize, inheritTcpListeners, inUpgrade, notifyUpgradeDone } from 'cook-daemon'

// The way of the original Go API, in which each start of the program is two boots.
if (process.env.BENCH_WAY === 'parent' && !(await daemonize())) process.exit()

const server = createServer((_request, response) => {
  response.end('hello')
})
const [inherited] = inUpgrade() ? inheritTcpListeners('http') : []
server.listen(inherited ?? { port: 0, host: '127.0.0.1' }, async () => {
  if (inUpgrade()) await notifyUpgradeDone()
  // There in a plain start alone: what is measured ends here.
  if (process.send) {
    process.once('disconnect', () => process.exit()).send?.('listening')
    return
  }
  const { obey } = await import('./control.ts')
  await obey(server)
})
