/** What a row of numbers does when its size grows: stays, or grows with which power of it. */

export type Curve = { readonly exponent: number; readonly words: string }

/**
 * What grows by less than this from the smallest size to the biggest is called constant: noise does
 * as much.
 */
const noise = 1.5

/**
 * The exponent is the slope between the logarithms, by least squares, of what the value has above
 * its floor: the floor is what an upgrade costs without any of it.
 */
export function fitCurve(points: readonly { readonly size: number; readonly value: number }[]): Curve {
  const floor = Math.min(...points.map(({ value }) => value))
  if (!((points.at(-1)?.value ?? floor) > floor * noise)) return { exponent: 0, words: 'constant' }
  const risen = points.flatMap(({ size, value }) => (value > floor * noise ? [{ size, value: value - floor }] : []))
  // One alone has no slope but that from the floor.
  const rising = risen.length > 1 ? risen : points.slice(-2)
  const exponent = slope(rising.map(({ size, value }) => [Math.log(size), Math.log(value)] as const))
  return { exponent, words: wordsOf(exponent) }
}

function slope(points: readonly (readonly [number, number])[]): number {
  const mean = (at: 0 | 1) => points.reduce((sum, point) => sum + point[at], 0) / points.length
  const [x, y] = [mean(0), mean(1)]
  const above = points.reduce((sum, point) => sum + (point[0] - x) * (point[1] - y), 0)
  return above / points.reduce((sum, point) => sum + (point[0] - x) ** 2, 0)
}

function wordsOf(exponent: number): string {
  if (exponent < 0.85) return 'less than linear'
  return exponent <= 1.15 ? 'linear' : 'worse than linear'
}
