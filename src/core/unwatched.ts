/** Which calls of listen() are the library's own: the preload takes up those of the program only. */

let depth = 0

export function unwatched<Value>(call: () => Value): Value {
  depth++
  try {
    return call()
  } finally {
    depth--
  }
}

export function isUnwatched(): boolean {
  return depth > 0
}
