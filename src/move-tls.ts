/** The option `moveTls`: loads what moves TLS connections, for those who want it alone. */
import { defaults } from './options.ts'
import type { Service } from './service.ts'

type Loaded = typeof import('./tls/moves.ts')

/** As soon as the options are known: what its connections say is heard from the first one on. */
export function moveTls(service: Service): void {
  const { moveTls: wanted = false, moveTlsFor: longest = defaults.moveTlsFor } = service.options
  if (wanted === false || service.tls !== undefined) return
  // Bundled for itself, beside the file that this is in.
  const { createRequire } = process.getBuiltinModule('node:module')
  const { makeTlsMoves } = createRequire(import.meta.url)('./tls.cjs') as Loaded
  service.tls = makeTlsMoves({
    clientCertificates: typeof wanted === 'object' && wanted.clientCertificates === true,
    longest,
    onUnavailable(why) {
      const text = `TLS connections do not move, and close with their next answer: ${why}`
      service.emit({ type: 'warning', about: 'moveTls', text })
    },
  })
}
