/** Lines of JSON, as processes tell each other how they fare over a pipe or the control socket. */
import type { Readable } from 'node:stream'

/** What is written to a pipe by somebody else, as the program itself, needs no end of a line. */
const longestLine = 64 * 1024

/**
 * The values of the lines as they come. A line that is not JSON is passed over: whoever reads goes
 * on waiting for one that is.
 */
export async function* readJsonLines(source: Readable): AsyncGenerator<unknown> {
  let rest = ''
  for await (const text of source.setEncoding('utf8') as AsyncIterable<string>) {
    const lines = (rest + text).split('\n')
    rest = (lines.pop() ?? '').slice(0, longestLine)
    for (const line of lines) {
      const value = parseJson(line)
      if (value !== undefined) yield value
    }
  }
}

/** Undefined for what is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
