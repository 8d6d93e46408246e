/** Sizes as people write them: `512M`, `2G`, or a number of bytes. */

const units: Readonly<Record<string, number>> = { '': 1, K: 2 ** 10, M: 2 ** 20, G: 2 ** 30 }

export const sizePattern = '^\\d+(\\.\\d+)?[KMGkmg]?[Bb]?$'

/** In bytes; undefined: it is not a size. */
export function bytesOf(value: unknown): number | undefined {
  const [, digits, unit = ''] = /^(\d+(?:\.\d+)?)([KMG]?)B?$/i.exec(String(value)) ?? []
  const bytes = Number(digits) * (units[unit.toUpperCase()] ?? Number.NaN)
  return (typeof value === 'number' || typeof value === 'string') && bytes > 0 ? Math.round(bytes) : undefined
}
