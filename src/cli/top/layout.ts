/** How rows fit into the columns of a terminal. */
import stringWidth from 'string-width'
import { type Column, columns, headOf, type Row } from './rows.ts'

/** What goes first where there is no room; name and state stay. */
const dispensable: readonly Column[] = ['note', 'user', 'uptime', 'pid', 'restarts', 'memory', 'gen', 'conns', 'cpu']
/** A note is cut; with less room than this it says nothing. */
const shortestNote = 8
const longestCell = 24
const gap = '  '

/** The head, and one text for each row. */
export function linesOf(
  rows: readonly Row[],
  width: number,
): { readonly head: string; readonly lines: readonly string[] } {
  const natural = new Map(columns.map((column) => [column, naturalWidth(column, rows)]))
  const shown = chosen(natural, width)
  const taken = shown
    .filter((column) => column !== 'note')
    .reduce((sum, column) => sum + (natural.get(column) ?? 0) + gap.length, 0)
  natural.set('note', Math.max(0, width - taken))
  const cellsText = (all: readonly Column[], cells: Row['cells']) =>
    all.map((column) => fit(cells[column] ?? '', natural.get(column) ?? 0)).join(gap)
  // What does not run has no numbers: the reason is in their place.
  const lineOf = (cells: Row['cells']) => {
    if (cells.memory !== undefined) return fit(cellsText(shown, cells), width)
    const last = shown.findLastIndex((column) => column !== 'note' && cells[column] !== undefined)
    return fit(`${cellsText(shown.slice(0, last + 1), cells)}${gap}${cells.note ?? ''}`, width)
  }
  return {
    head: lineOf(Object.fromEntries(columns.map((column) => [column, headOf(column)]))),
    lines: rows.map(({ cells, line }) => (line === undefined ? lineOf(cells) : fit(`${gap}${line}`, width))),
  }
}

/** Exactly so many columns wide, wide characters counted. */
export function fit(text: string, width: number): string {
  const missing = width - stringWidth(text)
  if (missing >= 0) return text + ' '.repeat(missing)
  let cut = ''
  for (const { segment } of new Intl.Segmenter().segment(text)) {
    if (stringWidth(`${cut}${segment}…`) > width) break
    cut += segment
  }
  return width < 1 ? '' : fit(`${cut}…`, width)
}

/** 0: there is nothing to show. */
function naturalWidth(column: Column, rows: readonly Row[]): number {
  const widths = rows.map(({ cells }) => stringWidth(cells[column] ?? ''))
  const widest = Math.max(0, ...widths)
  if (widest === 0) return 0
  const full = Math.max(headOf(column).length, widest)
  return column === 'note' ? full : Math.min(full, longestCell)
}

function chosen(natural: ReadonlyMap<Column, number>, width: number): readonly Column[] {
  const widthOf = (column: Column) => Math.min(natural.get(column) ?? 0, column === 'note' ? shortestNote : longestCell)
  let shown = columns.filter((column) => widthOf(column) > 0)
  for (const column of dispensable) {
    const needed = shown.reduce((sum, one) => sum + widthOf(one) + gap.length, -gap.length)
    if (needed <= width) return shown
    shown = shown.filter((one) => one !== column)
  }
  return shown
}
