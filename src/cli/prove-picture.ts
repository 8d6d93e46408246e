/** The time around an upgrade as a picture: bars of answers, marks, a lane for each failure. */

import { html, type Markup } from './prove-markup.ts'
import { type Bin, failuresOf, type Mark, sumOf, type Timeline } from './prove-timeline.ts'
import { countText, secondsText } from './prove-words.ts'

/**
 * Heights in pixels: across everything is in percent, so that it fits a phone and a wide screen
 * with text of the same size.
 */
const rows = { first: 13, second: 30, plot: 50, plotEnd: 140, band: 144, bandEnd: 164, axis: 180, end: 186 }
const lane = 40

export type PictureText = { readonly id: string; readonly title: string; readonly description: string }

/** `peak`: answers a second of the highest of all pictures, so that they compare. */
export function pictureOf(timeline: Timeline, peak: number, { id, title, description }: PictureText): Markup {
  const { bins } = timeline
  const failures = [...failuresOf(timeline)]
  const hasPings = sumOf(timeline, 'pings') > 0
  const height = rows.end + (failures.length + (hasPings ? 1 : 0)) * lane
  const lanes = failures.map(([why, count], at) => failureLane(timeline, rows.end + at * lane, why, count))
  if (hasPings) lanes.push(pingLane(timeline, rows.end + failures.length * lane))
  return html`<svg role="img" aria-labelledby="${id}-title ${id}-text" width="100%" height="${height}">
<title id="${id}-title">${title}</title><desc id="${id}-text">${description}</desc>
<svg y="${rows.plot}" width="100%" height="${rows.plotEnd - rows.plot}" viewBox="0 0 ${bins.length} 1000" preserveAspectRatio="none">
${barsOf(timeline, peak, 'old')}${barsOf(timeline, peak, 'new')}${barsOf(timeline, peak, 'bad')}</svg>
${bandOf(timeline)}${axisOf(timeline)}${timeline.marks.map((mark) => markOf(timeline, mark))}${scaleOf(peak)}${lanes}
</svg>`
}

type Who = 'old' | 'new' | 'bad'

function barsOf({ bins, binTime }: Timeline, peak: number, who: Who): Markup | string {
  const height = (count: number) => Math.round(((count * 1_000) / binTime / Math.max(peak, 1)) * 1_000)
  // The old version's stand below, and the new one's on them.
  const below = (bin: Bin) => (who === 'old' ? 0 : bin.old) + (who === 'bad' ? bin.new : 0)
  const path = bins
    .map((bin, at) => {
      if (bin[who] === 0) return ''
      const [low, high] = [1_000 - height(below(bin)), 1_000 - height(below(bin) + bin[who])]
      return `M${at + 0.1} ${low}V${high}h.8V${low}Z`
    })
    .join('')
  return path === '' ? '' : html`<path class="${who}" d="${path}"/>`
}

/** One line across, at a number that is easily read. */
function scaleOf(peak: number): Markup | string {
  if (peak < 1) return ''
  const unit = 10 ** Math.floor(Math.log10(peak))
  const value = unit * Math.floor(peak / unit)
  const y = rows.plotEnd - ((rows.plotEnd - rows.plot) * value) / peak
  return html`<line class="grid" x1="0" x2="100%" y1="${y.toFixed(1)}" y2="${y.toFixed(1)}"/><text class="halo" x="0" y="${(y - 4).toFixed(1)}">${countText(value)} answers/s</text>`
}

/** Who serves, in words: colours alone say nothing. */
function bandOf(timeline: Timeline): Markup {
  const commit = timeline.marks.find(({ what }) => what === 'commit')
  const at = commit === undefined ? 100 : place(timeline, commit.at)
  // Who serves behind that, nobody has said.
  const failed = timeline.marks.find(({ what }) => what === 'failed')
  const end = failed === undefined ? 100 : place(timeline, failed.at)
  const height = rows.bandEnd - rows.band
  const part = (who: Who, x: number, width: number, text: string) =>
    html`<rect class="${who}" x="${x.toFixed(2)}%" y="${rows.band}" width="${width.toFixed(2)}%" height="${height}"/><text class="on-${who}" x="${(x + width / 2).toFixed(2)}%" y="${rows.band + 14}" text-anchor="middle">${text}</text>`
  // What has less room has a shorter text.
  const words = (width: number, text: string) => (width < 38 ? text : `${text} version serves`)
  const isGood = timeline.bins.every(({ bad }) => bad === 0)
  const next = isGood ? (['new', 'new'] as const) : (['bad', 'bad'] as const)
  return html`${part('old', 0, at, words(at, 'old'))}${commit === undefined ? '' : part(next[0], at, end - at, words(end - at, next[1]))}`
}

function axisOf(timeline: Timeline): Markup {
  const { from, to } = timeline
  const step = [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000].find((one) => (to - from) / one <= 5) ?? 60_000
  const ticks: number[] = []
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) ticks.push(at)
  return html`${ticks.map((at) => {
    const x = place(timeline, at)
    const anchor = x < 6 ? 'start' : x > 94 ? 'end' : 'middle'
    return html`<text class="tick" x="${x.toFixed(2)}%" y="${rows.axis}" text-anchor="${anchor}">${secondsText(at)}</text>`
  })}`
}

const markTexts = {
  begin: 'begin',
  commit: 'commit',
  refused: 'refused',
  end: 'old process gone',
  failed: 'failed',
} as const

function markOf(timeline: Timeline, { what, at }: Mark): Markup {
  const x = place(timeline, at)
  const row = what === 'begin' || what === 'end' || what === 'failed' ? rows.first : rows.second
  const isLeft = x > 55
  const text = what === 'begin' ? markTexts.begin : `${markTexts[what]} ${secondsText(at, 2)}`
  return html`<line class="mark ${what}" x1="${x.toFixed(2)}%" x2="${x.toFixed(2)}%" y1="${row - 10}" y2="${rows.bandEnd}"/><text class="label" x="${x.toFixed(2)}%" dx="${isLeft ? -5 : 5}" y="${row}" text-anchor="${isLeft ? 'end' : 'start'}">${text}</text>`
}

function failureLane(timeline: Timeline, y: number, why: string, count: number): Markup {
  const marks = timeline.bins.map((bin, at) => {
    if (!bin.failures.has(why)) return ''
    const x = ((at + 0.5) / timeline.bins.length) * 100
    return html`<svg class="cross" x="${x.toFixed(2)}%" y="${y + 28}"><path d="M-5-5L5 5M-5 5L5-5"/></svg>`
  })
  return html`<text class="failed" x="0" y="${y + 15}">× ${countText(count)} failed: ${why}</text>${marks}`
}

function pingLane(timeline: Timeline, y: number): Markup {
  const { bins } = timeline
  const most = Math.max(1, ...bins.map(({ pings }) => pings))
  const path = bins
    .map(({ pings }, at) => (pings === 0 ? '' : `M${at + 0.1} 100V${100 - Math.round((pings / most) * 100)}h.8V100Z`))
    .join('')
  return html`<text class="label" x="0" y="${y + 14}">WebSockets: pings answered</text><svg y="${y + 18}" width="100%" height="18" viewBox="0 0 ${bins.length} 100" preserveAspectRatio="none"><path class="pings" d="${path}"/></svg>`
}

/** In percent of the width. */
function place({ from, to }: Timeline, at: number): number {
  return ((at - from) / (to - from)) * 100
}
