/** A clock that is never set. */

/** Milliseconds since some moment. Not performance.now(): the module behind `performance` is loaded when it is first named, which takes 2 ms of a stop, or of a command (measured). */
export function now(): number {
  const [seconds, nanoseconds] = process.hrtime()
  return seconds * 1_000 + nanoseconds / 1_000_000
}
