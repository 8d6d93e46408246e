/** What an admin port answers. */
import { once } from 'node:events'
import { type Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { within } from './waiting.ts'

type Answer = { readonly code: number; readonly body: string; readonly headers: IncomingMessage['headers'] }

export async function ask(port: number, path: string, method = 'GET', agent: Agent | false = false): Promise<Answer> {
  const request = httpRequest({ port, host: '127.0.0.1', path, method, agent }).end()
  const [response] = (await within('an answer', once(request, 'response'))) as [IncomingMessage]
  return { code: response.statusCode ?? 0, body: await text(response), headers: response.headers }
}
