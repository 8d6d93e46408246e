/** Asking a control socket, as curl does. */
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import type { Progress, Status } from '../../src/control/status.ts'
import { within } from './waiting.ts'

export type Answer = { readonly status: number | undefined; readonly type: string | undefined; readonly body: string }

/** One request to the socket at this path. */
export async function control(socketPath: string, what: string, body?: object | string): Promise<Answer> {
  const response = await begin(socketPath, what, body)
  const answer = await within(`the answer to ${what}`, text(response))
  return { status: response.statusCode, type: response.headers['content-type'], body: answer }
}

/** The answer as it begins, for what takes long. */
export async function begin(socketPath: string, what: string, body?: object | string): Promise<IncomingMessage> {
  const [method = '', path = ''] = what.split(' ')
  const asked = request({ socketPath, method, path, agent: false })
  // The first one is the answer. Node tells an EPIPE too when a server that has answered is gone,
  // or when one that did not answer in time goes.
  asked.on('error', () => {})
  asked.end(typeof body === 'object' ? JSON.stringify(body) : body)
  const [response] = await within(`an answer to ${what}`, once(asked, 'response'))
  return response as IncomingMessage
}

/**
 * Who was asked in the moment in which it handed over says so; the one that has taken over answers
 * the next time.
 */
export async function statusOf(socketPath: string): Promise<Status> {
  const answer = JSON.parse((await control(socketPath, 'GET /status')).body) as Status & { readonly code?: string }
  return answer.code === 'ERR_COOK_UPGRADED' ? statusOf(socketPath) : answer
}

/** The lines of an answer that tells how far it is. */
export function linesOf(answer: Pick<Answer, 'body'>): Progress[] {
  return answer.body
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Progress)
}
