/** The clock that all processes of a machine share. */

/** In milliseconds; performance.now() begins anew in each process. */
export function monotonic(): number {
  return Number(process.hrtime.bigint()) / 1e6
}
