/** Words, numbers and colours of the demo's output. */

/** Only those that can be read on black and on white. */
const styles = { bold: 1, dim: 2, red: 31, green: 32, magenta: 35 } as const
export type Style = keyof typeof styles

const { NO_COLOR, CI, TERM } = process.env

/** No colours, and nothing is redrawn. */
export const isPlain = process.stdout.isTTY !== true || Boolean(NO_COLOR) || Boolean(CI) || TERM === 'dumb'

export function paint(style: Style | undefined, text: string): string {
  return isPlain || style === undefined ? text : `\x1b[${styles[style]}m${text}\x1b[0m`
}

/** Cells in columns: a negative width fills on the right. */
export function align(cells: readonly string[], widths: readonly number[]): string {
  const fill = (cell: string, width: number) => (width < 0 ? cell.padEnd(-width) : cell.padStart(width))
  return cells
    .map((cell, index) => fill(cell, widths[index] ?? 0))
    .join('')
    .trimEnd()
}

/** Before it is painted: colours take no room. */
export function cut(text: string, columns: number): string {
  return text.length <= columns ? text : `${text.slice(0, Math.max(0, columns - 1))}…`
}

export function count(value: number): string {
  return Math.round(value).toLocaleString('en')
}

export function milliseconds(value: number): string {
  return Number.isFinite(value) ? `${value.toFixed(1)} ms` : '–'
}

export function seconds(ms: number): string {
  return `${(ms / 1_000).toFixed(1)} s`
}
