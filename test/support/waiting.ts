/** Waiting for events, each with a name and a deadline. */

/** Long enough for a slow machine with a busy neighbour: it is reached only by a fault. */
const deadline = 30_000

/** Rejects with the name if the promise is not settled in time. */
export async function within<Value>(name: string, promise: Promise<Value>, ms = deadline): Promise<Value> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms for ${name}`)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** Looks again and again for what has no event of its own: the state of another process, a file. A name that is not known before is a function. */
export async function eventually<Value>(
  name: string | (() => string),
  look: () => Value | undefined | Promise<Value | undefined>,
  ms = deadline,
): Promise<Value> {
  const end = performance.now() + ms
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    if (performance.now() > end) throw new Error(`waited ${ms} ms for ${typeof name === 'string' ? name : name()}`)
    await new Promise((done) => setTimeout(done, 2))
  }
}
