/** The answers of a program that is proved say in a header which version they come from. */
import type { ServerResponse } from 'node:http'
import { proveHeader } from '../contract/environment.ts'
import { requestHearers, watchExchanges } from '../node/exchanges.ts'

export function markAnswers(version: string): void {
  watchExchanges()
  requestHearers.add(({ response }) => {
    try {
      mark(response, version)
    } catch {
      // An answer without the header is shown by its time.
    }
  })
}

/**
 * Just before the head is sent, by when the program has looked at its headers: Node calls
 * writeHead() for those who do not. A call with a list of headers is left alone, since Node reads
 * that in another way once there are headers beside it.
 */
function mark(response: ServerResponse, text: string): void {
  const { writeHead } = response
  const marked = function (this: ServerResponse, ...args: readonly unknown[]) {
    try {
      if (!this.headersSent && !args.some(Array.isArray)) this.setHeader(proveHeader, text)
    } catch {
      // As above.
    }
    return Reflect.apply(writeHead, this, args)
  }
  response.writeHead = marked as typeof writeHead
}
