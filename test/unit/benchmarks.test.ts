/** What the benchmarks make of their numbers: pictures, curves, and where another is better. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { whereOthersAreBetter } from '../../bench/report/better.ts'
import { drawBars, drawGrowth, drawTimeline } from '../../bench/report/pictures.ts'
import { fitCurve } from '../../bench/scaling/curve.ts'
import { summarize } from '../../bench/statistics.ts'
import type { Measured } from '../../bench/versus/result.ts'

const panel = {
  title: 'a < b',
  verdict: '5 requests failed',
  answers: [
    [10, 5, 0, 0],
    [0, 5, 10, 10],
  ],
  lost: [0, 5, 0, 0],
  triggers: [1],
}
const pictures = {
  timeline: drawTimeline([panel, { ...panel, lost: [0, 0, 0, 0] }], 100, 'one "failed"'),
  bars: drawBars('Failed & lost', [{ label: 'one', min: 0, median: 0, max: 0 }], 'none'),
  growth: drawGrowth(
    'Time',
    'connections',
    [10, 100, 1_000].map((size) => ({ size, label: `${size}`, min: size, median: size * 2, max: size * 3 })),
    'grows',
  ),
}

for (const [name, svg] of Object.entries(pictures)) {
  test(`the picture ${name} has a title and a description, colours for light and dark, and neither script nor anything from elsewhere`, () => {
    assert.match(svg, /<title id="title">[^<]+<\/title>\n<desc id="desc">[^<]+<\/desc>/)
    assert.match(svg, /@media \(prefers-color-scheme: dark\)/)
    assert.doesNotMatch(svg.replace('http://www.w3.org/2000/svg', ''), /script|href|url\(|@import|https?:/)
    assert.doesNotMatch(svg, /NaN|undefined|Infinity/)
    assert.deepEqual(unclosed(svg), [])
    // Everything is inside: a label that is cut off tells nothing.
    const [, width, height] = /viewBox="0 0 (\d+) (\d+)"/.exec(svg)?.map(Number) ?? []
    for (const [, x, y] of svg.matchAll(/<text x="([\d.-]+)" y="([\d.-]+)"/g)) {
      assert.ok(Number(x) >= 0 && Number(x) <= (width ?? 0) && Number(y) > 0 && Number(y) < (height ?? 0), `${x} ${y}`)
    }
  })
}

test('the timeline draws each generation and each step in which requests failed', () => {
  assert.equal(pictures.timeline.match(/<path class="g0"/g)?.length, 2)
  assert.equal(pictures.timeline.match(/<path class="g1"/g)?.length, 2)
  // One of the panel that has failures, one of the legend.
  assert.equal(pictures.timeline.match(/<rect class="lost"/g)?.length, 2)
  assert.match(pictures.timeline, /a &#60; b/)
})

test('a curve is told by its exponent, and noise around a floor is constant', () => {
  const sizes = [1, 10, 100, 1_000]
  const curveOf = (value: (size: number) => number) => fitCurve(sizes.map((size) => ({ size, value: value(size) })))
  assert.deepEqual(
    curveOf((size) => 50 + (size % 7)),
    { exponent: 0, words: 'constant' },
  )
  assert.equal(curveOf((size) => 3 * size).words, 'linear')
  assert.equal(curveOf((size) => 500 + 3 * size).words, 'linear')
  assert.equal(curveOf((size) => size ** 2).words, 'worse than linear')
  assert.equal(curveOf((size) => size ** 0.5).words, 'less than linear')
  assert.ok(Math.abs(curveOf((size) => 3 * size).exponent - 1) < 0.05)
})

test('another is better only if its worst run is better than our best', () => {
  const system = (title: string, memory: readonly number[]) =>
    ({ title, memory: summarize(memory), upgrades: {} }) as unknown as Measured
  const ours = system('ours', [20, 22])
  assert.deepEqual(whereOthersAreBetter(ours, [system('one', [17, 18]), system('two', [19, 19.5])]), [
    '**Memory at rest**: 21 MB here; better: one (18).',
  ])
  assert.deepEqual(whereOthersAreBetter(ours, [system('worse', [30])]), [])
})

/** Elements that begin and do not end. */
function unclosed(svg: string): string[] {
  const open: string[] = []
  for (const [, end, name = '', self] of svg.matchAll(/<(\/?)([a-z]+)[^>]*?(\/?)>/g)) {
    if (self === '/') continue
    if (end !== '/') open.push(name)
    else if (open.pop() !== name) return [name]
  }
  return open
}
