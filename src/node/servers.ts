/** Which protocol a server speaks, by what only servers of that protocol have. */
import type { Server } from 'node:net'

/** http or https. */
export function isHttp(server: Server): boolean {
  return 'closeIdleConnections' in server
}

export function isTls(server: Server): boolean {
  return 'setSecureContext' in server
}

export function isHttp2(server: Server): boolean {
  return 'updateSettings' in server
}
