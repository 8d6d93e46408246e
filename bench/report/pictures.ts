/**
 * The pictures of the benchmarks: numbers in, the text of an SVG out. No script, no font of their
 * own; light or dark as the reader has it.
 */

export type Panel = {
  readonly title: string
  readonly verdict: string
  /** Answers in each step, for each generation. */
  readonly answers: readonly (readonly number[])[]
  readonly lost: readonly number[]
  /** Steps from the begin to each trigger. */
  readonly triggers: readonly number[]
}

export type Bar = { readonly label: string; readonly min: number; readonly median: number; readonly max: number }

/** 480 units across: on a phone, at two thirds of its size, the text still has 11 pixels. */
const width = 480
const margin = 16
const inner = width - 2 * margin
/** How many colours there are for generations: each differs from the one before it. */
const colours = 3

/** More columns than this would be narrower than a reader can see. */
const mostColumns = 220

/**
 * Answers by generation, one panel below the other with the same axes; lost requests in red below
 * each.
 */
export function drawTimeline(all: readonly Panel[], fine: number, description: string): string {
  const group = Math.ceil(Math.max(1, ...all.map(({ lost }) => lost.length)) / mostColumns)
  const panels = all.map((panel) => grouped(panel, group))
  const step = fine * group
  const [plot, below, height] = [72, 22, 144]
  const steps = Math.max(1, ...panels.map(({ answers }) => answers[0]?.length ?? 0))
  const most = Math.max(1, ...panels.flatMap(({ answers }) => totals(answers)))
  const mostLost = Math.max(1, ...panels.flatMap(({ lost }) => lost))
  const x = (at: number) => round(margin + (at / steps) * inner)
  const parts = panels.flatMap((panel, index) => {
    const top = 56 + index * height
    const base = top + 34 + plot
    const y = (value: number) => round(base - (value / most) * plot)
    return [
      text(margin, top + 2, panel.title, 'strong'),
      text(margin, top + 23, panel.verdict, panel.lost.some((count) => count > 0) ? 'bad' : 'good'),
      ...stack(panel.answers).map(({ low, high }, generation) => {
        const d = area(low, high, x, y)
        return d === '' ? '' : `<path class="g${generation % colours}" d="${d}"/>`
      }),
      `<path class="line" d="M${margin} ${base}H${width - margin}"/>`,
      ...panel.triggers.map((at) => `<path class="mark" d="M${x(at)} ${base + 1}l-5 9h10z"/>`),
      ...panel.lost.map((count, at) => {
        if (count === 0) return ''
        const long = round(4 + (below - 6) * (count / mostLost))
        return `<rect class="lost" x="${x(at)}" y="${base + 1}" width="${round(Math.max(2.5, inner / steps))}" height="${long}"/>`
      }),
    ]
  })
  const bottom = 56 + panels.length * height
  const seconds = (steps * step) / 1_000
  const tick = [1, 5, 10, 20, 50].find((one) => seconds / one <= 6) ?? 100
  const scale = Array.from({ length: Math.floor(seconds / tick) + 1 }, (_, at) => {
    const place = x((1_000 * tick * at) / step)
    const anchor = at === 0 ? 'start' : place > width - margin - 20 ? 'end' : 'middle'
    return text(place, bottom, `${tick * at} s`, 'faint', anchor)
  })
  const legend = [
    `<path class="mark" d="M${margin + 5} ${bottom + 14}l-5 9h10z"/>`,
    text(margin + 17, bottom + 24, 'upgrade', 'faint'),
    `<rect class="lost" x="${margin + 90}" y="${bottom + 12}" width="4" height="14"/>`,
    text(margin + 101, bottom + 24, 'failed requests; a colour for each version', 'faint'),
  ]
  return picture('Answers by version, through upgrades', description, bottom + 40, [...parts, ...scale, ...legend])
}

/** One bar for each, with the least and the most of all runs as a line through its end. */
export function drawBars(title: string, bars: readonly Bar[], description: string): string {
  const row = 48
  const most = Math.max(1e-9, ...bars.map(({ max }) => max))
  const x = (value: number) => round(margin + (value / most) * (inner - 64))
  const parts = bars.flatMap(({ label, min, median, max }, index) => {
    const top = 62 + index * row
    const spread = max > min ? `<path class="spread" d="M${x(min)} ${top + 15}H${x(max)}"/>` : ''
    return [
      text(margin, top, label),
      `<rect class="${median > 0 ? 'lost' : 'g1'}" x="${margin}" y="${top + 7}" width="${Math.max(3, x(median) - margin)}" height="16"/>`,
      spread,
      text(x(Math.max(median, max)) + 10, top + 21, numeral(median), median > 0 ? 'bad' : 'good'),
    ]
  })
  return picture(title, description, 62 + bars.length * row, parts)
}

/** A line over logarithmic axes, with the spread at each point. */
export function drawGrowth(
  title: string,
  axis: string,
  points: readonly (Bar & { readonly size: number })[],
  description: string,
): string {
  const [top, bottom] = [76, 280]
  // The scale has a column of its own, on the left.
  const [left, right] = [margin + 84, width - margin - 26]
  const [lowX, highX] = rangeOf(points.map(({ size }) => size))
  const [lowY, highY] = rangeOf(points.flatMap(({ min, max }) => [min, max]))
  const x = (size: number) => round(left + ((Math.log10(size) - lowX) / (highX - lowX)) * (right - left))
  const y = (value: number) => round(bottom - ((Math.log10(value) - lowY) / (highY - lowY)) * (bottom - top))
  const grid = Array.from({ length: highY - lowY + 1 }, (_, at) => lowY + at).flatMap((power) => [
    `<path class="grid" d="M${left - 20} ${y(10 ** power)}H${width - margin}"/>`,
    text(margin, y(10 ** power) + 5, duration(10 ** power), 'faint'),
  ])
  const line = `<path class="curve" d="M${points.map(({ size, median }) => `${x(size)} ${y(median)}`).join('L')}"/>`
  const dots = points.flatMap(({ size, label, min, median, max }, at) => [
    `<path class="spread" d="M${x(size)} ${y(min)}V${y(max)}"/>`,
    `<circle class="g1" cx="${x(size)}" cy="${y(median)}" r="5"/>`,
    // On the side where the line is not, which rises.
    at === 0
      ? text(x(size) - 5, y(min) + 24, duration(median), 'strong')
      : text(x(size) - 8, y(max) - 8, duration(median), 'strong', 'end'),
    text(x(size), bottom + 50, label, 'faint', 'middle'),
  ])
  const under = text((left + right) / 2, bottom + 72, axis, 'faint', 'middle')
  return picture(title, description, bottom + 88, [...grid, line, ...dots, under])
}

function picture(title: string, description: string, height: number, parts: readonly string[]): string {
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${round(width * 1.1)}" height="${round(height * 1.1)}" role="img" aria-labelledby="title desc">
<title id="title">${escaped(title)}</title>
<desc id="desc">${escaped(description)}</desc>
<style>
text { font: 16px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328 }
.strong { font-weight: 600 } .faint { fill: #59636e; font-size: 15px } .good { fill: #116329 } .bad { fill: #b3141f }
.paper { fill: #fff; stroke: #d1d9e0 } .line { stroke: #818b98 } .grid { stroke: #d1d9e0 } .spread { stroke: #1f2328; stroke-width: 2 }
.g0 { fill: #0969da } .g1 { fill: #2da44e } .g2 { fill: #9a6700 } .lost { fill: #cf222e } .mark { fill: #1f2328 }
.curve { fill: none; stroke: #2da44e; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .faint { fill: #9198a1 } .good { fill: #56d364 } .bad { fill: #ff7b72 }
.paper { fill: #0d1117; stroke: #3d444d } .line { stroke: #656c76 } .grid { stroke: #3d444d } .spread { stroke: #e6edf3 }
.g0 { fill: #4493f8 } .g1 { fill: #3fb950 } .g2 { fill: #d29922 } .lost { fill: #f85149 } .mark { fill: #e6edf3 }
.curve { stroke: #3fb950 }
}
</style>
<rect class="paper" x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="8"/>
${[text(margin, 28, title, 'strong'), ...parts.filter((part) => part !== '')].join('\n')}
</svg>
`
}

function text(x: number, y: number, words: string, kind = '', anchor = 'start'): string {
  const attributes = `${kind === '' ? '' : ` class="${kind}"`}${anchor === 'start' ? '' : ` text-anchor="${anchor}"`}`
  return `<text x="${round(x)}" y="${round(y)}"${attributes}>${escaped(words)}</text>`
}

/** Several steps as one. */
function grouped(panel: Panel, group: number): Panel {
  const each = (counts: readonly number[]) =>
    Array.from({ length: Math.ceil(counts.length / group) }, (_, at) =>
      counts.slice(at * group, (at + 1) * group).reduce((sum, count) => sum + count, 0),
    )
  const triggers = panel.triggers.map((at) => at / group)
  return { ...panel, answers: panel.answers.map(each), lost: each(panel.lost), triggers }
}

type Layer = { readonly low: readonly number[]; readonly high: readonly number[] }

/** Each generation on top of those before it. */
function stack(rows: readonly (readonly number[])[]): Layer[] {
  let low: readonly number[] = (rows[0] ?? []).map(() => 0)
  return rows.map((row) => {
    const under = low
    const high = row.map((count, at) => (under[at] ?? 0) + count)
    low = high
    return { low: under, high }
  })
}

/** Steps along the top, and back along the bottom, where there is anything at all. */
function area(low: readonly number[], high: readonly number[], x: Scale, y: Scale): string {
  const first = high.findIndex((value, at) => value > (low[at] ?? 0))
  const last = high.findLastIndex((value, at) => value > (low[at] ?? 0))
  if (first < 0) return ''
  const indexes = Array.from({ length: last - first + 1 }, (_, at) => first + at)
  const along = indexes.map((at) => `V${y(high[at] ?? 0)}H${x(at + 1)}`).join('')
  const back = indexes
    .toReversed()
    .map((at) => `V${y(low[at] ?? 0)}H${x(at)}`)
    .join('')
  return `M${x(first)} ${y(low[first] ?? 0)}${along}${back}z`
}

type Scale = (value: number) => number

function totals(rows: readonly (readonly number[])[]): readonly number[] {
  return stack(rows).at(-1)?.high ?? []
}

/** Whole powers of ten around all values. */
function rangeOf(values: readonly number[]): readonly [number, number] {
  const [low, high] = [Math.floor(Math.log10(Math.min(...values))), Math.ceil(Math.log10(Math.max(...values)))]
  return [low, Math.max(high, low + 1)]
}

/** As a reader says it: 0, 0.4, 12, 1,234. */
export function numeral(value: number): string {
  const digits = value === 0 || Math.abs(value) >= 10 || Number.isInteger(value) ? 0 : Math.abs(value) >= 1 ? 1 : 2
  return value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

function duration(ms: number): string {
  return ms < 1_000 ? `${numeral(ms)} ms` : `${numeral(ms / 1_000)} s`
}

function round(value: number): number {
  return Number(value.toFixed(1))
}

function escaped(words: string): string {
  return words.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`)
}
