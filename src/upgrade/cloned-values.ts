/** Values that cross the link: structured-clone bytes, in pieces that stall neither loop. */

import type { MessageOf } from '../contract/messages.ts'
import { CookError, messageOf } from '../errors.ts'
import type { Value } from '../service-parts.ts'
import type { Link } from './link.ts'

/** The largest value, in bytes. */
const largestValue = 64 * 1024 * 1024
/** Bytes in a piece: a few milliseconds of either loop. */
const pieceSize = 256 * 1024

/** The new version may ask for several at once, whose pieces come between one another. */
const mostAtOnce = 4 * largestValue
const mostPieces = largestValue / pieceSize + 1
const mostNames = 10_000

/** A clone of undefined, as Node 20, 22, 24 and 26 write and read it (measured). */
const ofUndefined = Buffer.from('/w9f', 'base64')

type ValueMessage = MessageOf<'value'>

/** The pieces of a value; what cannot be cloned or is too large throws `ERR_COOK_STATE`. */
function* toPieces(name: string, { value, version }: Value): Generator<ValueMessage> {
  const bytes = serialize(name, value)
  for (let from = 0; ; from += pieceSize) {
    const part = bytes.toString('base64', from, from + pieceSize)
    const isLast = from + pieceSize >= bytes.length
    yield { type: 'value', name, version, part, isLast }
    if (isLast) return
  }
}

/**
 * Sends a value piece by piece, as the kernel takes them: 64 MiB at once would stand in memory
 * twice and stall the loop.
 */
export async function sendValue(link: Link, name: string, value: Value): Promise<void> {
  for (const piece of toPieces(name, value)) {
    await new Promise<void>((sent) => link.send(piece, sent))
  }
}

/** A value as text, for what is small: the state of a connection. */
export function toText(name: string, value: unknown): string {
  return serialize(name, value).toString('base64')
}

export function fromText(text: string): unknown {
  return deserialize(Buffer.from(text, 'base64'))
}

/**
 * For a program that will have values to clone, before it is under load: the first clone of a
 * process changes what Node's own code is optimized for, and V8 throws that away (measured: a
 * hundred clients waited 40 ms and more). Nothing is loaded where there are none.
 */
export function prepareToClone(): void {
  process.getBuiltinModule('node:v8').serialize(null)
}

function serialize(name: string, value: unknown): Buffer {
  if (value === undefined) return ofUndefined
  let bytes: Buffer
  try {
    bytes = process.getBuiltinModule('node:v8').serialize(value)
  } catch (cause) {
    throw new CookError('ERR_COOK_STATE', { name, why: `it cannot be cloned: ${messageOf(cause)}` }, { cause })
  }
  if (bytes.length <= largestValue) return bytes
  throw new CookError('ERR_COOK_STATE', {
    name,
    why: `it has ${bytes.length} bytes; at most ${largestValue} are allowed`,
  })
}

function deserialize(bytes: Buffer): unknown {
  return bytes.equals(ofUndefined) ? undefined : process.getBuiltinModule('node:v8').deserialize(bytes)
}

/** Puts the pieces of values together again, by name. */
export class Assembly {
  readonly #parts = new Map<string, Buffer[]>()
  /** Of all values that are not whole yet. */
  #bytes = 0

  /**
   * The value with its last piece, undefined before. Throws `ERR_COOK_STATE` for what is no value,
   * or too large.
   */
  add({ name, version, part, isLast }: ValueMessage): Value | undefined {
    const parts = this.#parts.get(name) ?? []
    this.#parts.set(name, parts)
    const bytes = Buffer.from(part, 'base64')
    parts.push(bytes)
    this.#bytes += bytes.length
    // An endless number of empty pieces, or of names, is too large as well.
    if (this.#bytes > mostAtOnce || parts.length > mostPieces || this.#parts.size > mostNames) {
      this.#forget(name, parts)
      throw new CookError('ERR_COOK_STATE', { name, why: 'it is too large' })
    }
    if (!isLast) return undefined
    this.#forget(name, parts)
    try {
      return { value: deserialize(Buffer.concat(parts)), version }
    } catch (cause) {
      // A newer Node may have cloned what this one does not know.
      throw new CookError('ERR_COOK_STATE', { name, why: `it cannot be read here: ${messageOf(cause)}` }, { cause })
    }
  }

  #forget(name: string, parts: readonly Buffer[]): void {
    this.#parts.delete(name)
    for (const part of parts) this.#bytes -= part.length
  }
}
