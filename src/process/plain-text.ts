/** What another user has written, for the terminal of this one: it must not steer that. */

const esc = String.fromCharCode(27)
/**
 * Sequences that colour and move, control characters but the end of a line and a tab, and what
 * turns the direction of text. Colours are nothing that a hostile service needs to have.
 */
const steering = new RegExp(
  `${esc}\\[[0-?]*[ -/]*[@-~]|[^\\P{Cc}\\n\\t]|[\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]`,
  'gu',
)
/** At the end of a piece: the next one may go on with it. */
const begun = new RegExp(`${esc}(?:\\[[0-?]{0,16})?$`)

export function plainText(text: string): string {
  return text.replace(steering, '')
}

/** The same for what comes in pieces. */
export function plainer(): (bytes: Buffer, isLast?: boolean) => string {
  const decoder = new TextDecoder()
  let rest = ''
  return (bytes, isLast = false) => {
    const text = rest + decoder.decode(bytes, { stream: !isLast })
    rest = isLast ? '' : (begun.exec(text)?.[0] ?? '')
    return plainText(text.slice(0, text.length - rest.length))
  }
}

const deepest = 32

/** The same for a value of JSON, in all its parts. */
export function plainValue(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return plainText(value)
  if (typeof value !== 'object' || value === null) return value
  if (depth === deepest) return null
  if (Array.isArray(value)) return value.map((one) => plainValue(one, depth + 1))
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [plainText(name), plainValue(one, depth + 1)]))
}
