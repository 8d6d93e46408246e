/** The page of a proof: one file that asks nobody for anything, and needs no script to be read. */
import { availableParallelism, release } from 'node:os'
import { version } from '../version.ts'
import { html, Markup } from './prove-markup.ts'
import { pictureOf } from './prove-picture.ts'
import type { Measured } from './prove-rounds.ts'
import { style } from './prove-style.ts'
import { peakOf, sumOf, type Timeline, timelineOf } from './prove-timeline.ts'
import { explanation, factsText, type Proof, tableOf } from './prove-verdict.ts'
import { countText, kindTexts, manyText, pictureText, roundText, verdictText } from './prove-words.ts'

export type Typed = {
  /** The program, and what stood behind it. */
  readonly script: string
  readonly args: readonly string[]
  /** All words of the command. */
  readonly words: readonly string[]
}

/** How each page begins, by which it is known to be one. */
export const reportMark = '<!doctype html>\n<!-- cook-daemon prove -->\n'

export function reportOf(proof: Proof, typed: Typed, date = new Date()): string {
  const timelines = proof.rounds.map((measured) => timelineOf(measured, proof.tape))
  const peak = Math.max(0, ...timelines.map(peakOf))
  const title = `${proof.isProved ? 'Proved' : 'NOT PROVED'}: ${typed.script}`
  const { text } = html`<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>${title}</title>
<style>${new Markup(style)}</style>
</head>
<body>
<main>
${verdict(proof)}
<h2>What ran</h2>
${facts(proof, typed, date)}
<h2>The upgrades</h2>
${key(proof, timelines)}
${proof.rounds.map((measured, at) => roundOf(measured, at, timelines[at] as Timeline, peak))}
<h2>The numbers</h2>
${numbersTable(proof)}
<h2>What failed</h2>
${found(proof)}
<h2>Do it again</h2>
<pre><code>${commandText(typed.words)}</code></pre>
</main>
</body>
</html>
`
  return reportMark + text
}

function verdict(proof: Proof): Markup {
  const { isProved, counts, rounds, webSockets } = proof
  const bad = rounds.filter(({ round }) => round.kind !== 'good').length
  const numbers: readonly (readonly [string, number])[] = [
    ['requests answered', counts.answered],
    ...(webSockets ? [['pings of WebSockets answered', counts.pings] as const] : []),
    ['failed', counts.failed],
    ['connections opened again', counts.reconnected],
    [`upgrades, ${countText(bad)} of them to versions that fail`, rounds.length],
  ]
  return html`<header class="verdict${isProved ? '' : ' lost'}">
<p class="word">${isProved ? '✓ Proved' : '✗ Not proved'}</p>
<h1>${verdictText(proof)}</h1>
<dl class="numbers">${numbers.map(([text, count]) => html`<div><dt>${text}</dt><dd>${countText(count)}</dd></div>`)}</dl>
</header>`
}

function facts(proof: Proof, { script, args, words }: Typed, date: Date): Markup {
  const { target, webSockets, clients, workers, isKept, node } = proof
  const rows: readonly (readonly [string, Markup | string])[] = [
    ['Program', html`<code>${quotedWords([script, ...args])}</code>`],
    ['Command', html`<code>${commandText(words)}</code>`],
    ['Node', node],
    ['cook-daemon', version],
    ['Platform', `${process.platform} ${release()}, ${process.arch}, ${manyText(availableParallelism(), 'core')}`],
    ['Workers', `${countText(workers)}, ${isKept ? 'under a keeper' : 'without a keeper'}`],
    [
      'Clients',
      html`${countText(clients)}, which continuously request <code>${target.text}</code>, each on one keep-alive connection, and never retry`,
    ],
    ...(webSockets === undefined
      ? []
      : [
          [
            'WebSockets',
            html`${countText(clients)} more, at <code>${webSockets.text}</code>, which ping, and reconnect when told to (1012)`,
          ] as const,
        ]),
    [
      'Date',
      html`<time datetime="${date.toISOString()}">${date.toISOString().replace('T', ' ').replace(/\..*/, ' UTC')}</time>`,
    ],
  ]
  return html`<dl class="facts">${rows.map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`
}

function key(proof: Proof, timelines: readonly Timeline[]): Markup {
  const swatch = (who: string) =>
    html`<svg width="14" height="14" aria-hidden="true"><rect class="${who}" x="1" y="1" width="12" height="12"/></svg>`
  const cross = html`<svg class="cross" width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true"><path d="M-5-5L5 5M-5 5L5-5"/></svg>`
  const hasBad = timelines.some((one) => sumOf(one, 'bad') > 0)
  return html`<p>Each bar shows the answers in that time, by version; all pictures have the same scale. From the commit on, the new version owns the service; the old one answers what it had accepted and hands over its connections.${proof.rounds.length > 1 ? ' Every second upgrade is to a version that fails: the old one must continue undisturbed.' : ''}</p>
<ul class="key"><li>${swatch('old')}filled: the old version</li><li>${swatch('new')}outlined, above it: the new version</li>${hasBad ? html`<li>${swatch('bad')}a version that should not serve</li>` : ''}<li>${cross}a failure</li></ul>`
}

function roundOf({ round }: Measured, at: number, timeline: Timeline, peak: number): Markup {
  const id = `upgrade-${at + 1}`
  const isFine = round.isRight && round.failed === 0
  const name = `Upgrade ${at + 1}: ${kindTexts[round.kind]}`
  const picture = pictureOf(timeline, peak, { id, title: name, description: pictureText(timeline) })
  return html`<section class="round" aria-labelledby="${id}">
<div class="head"><h3 id="${id}">${name}</h3><span class="state${isFine ? '' : ' lost'}">${isFine ? '✓ as expected' : round.isRight ? `✗ ${countText(round.failed)} failed` : '✗ wrong result'}</span></div>
<p>${roundText(round, timeline)}</p>
${picture}
</section>
`
}

function numbersTable(proof: Proof): Markup {
  const [heads = [], ...rows] = tableOf(proof)
  return html`<div class="wide" role="region" aria-label="The numbers of each upgrade" tabindex="0"><table>
<caption>Each upgrade: how long it took, and what its clients saw meanwhile.</caption>
<thead><tr>${heads.map((head) => html`<th scope="col">${head === '' ? 'upgrade' : head}</th>`)}</tr></thead>
<tbody>
${rows.map(([first = '', ...cells]) => html`<tr><th scope="row">${first}</th>${cells.map((cell) => (cell === 'NO' ? html`<td class="no">${cell}</td>` : html`<td>${cell}</td>`))}</tr>\n`)}</tbody>
</table></div>
<p class="soft">${proof.isProved ? 'proved' : 'NOT PROVED'}: ${factsText(proof)}</p>`
}

function found(proof: Proof): Markup {
  const lines = explanation(proof)
  const isClean = proof.counts.failed === 0 && proof.rounds.every(({ round }) => round.isRight)
  const list = html`<ul class="found">${lines.map((line) => html`<li>${line}</li>`)}</ul>`
  return html`${isClean ? html`<p>Nothing.</p>` : ''}${lines.length > 0 ? list : ''}`
}

function commandText(words: readonly string[]): string {
  return quotedWords(['npx', 'cook-daemon', ...words])
}

/** As a shell reads them again. */
function quotedWords(words: readonly string[]): string {
  return words
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`))
    .join(' ')
}
