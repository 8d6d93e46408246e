/**
 * Writes docs/benchmarks.md, its pictures and the table of the README from docs/benchmarks/*.json;
 * with `--check` only says whether they are up to date. The end of the page, from a mark on, is
 * written by hand and stays.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { benchmarksPage, picturesOf, readmePart } from '../bench/report/page.ts'
import type { Scaling } from '../bench/scaling.ts'
import type { Result } from '../bench/versus/result.ts'

const root = new URL('../../', import.meta.url)
const [begin, end] = [
  '<!-- benchmarks: from docs/benchmarks/results.json, by `npm run docs` -->\n',
  '<!-- /benchmarks -->\n',
]
const byHand = '<!-- by hand from here on: `npm run docs` keeps it -->\n'

const result = JSON.parse(read('docs/benchmarks/results.json')) as Result
const ofWorkers = JSON.parse(read('docs/benchmarks/results-workers.json')) as Result
const scaling = JSON.parse(read('docs/benchmarks/scaling.json')) as Scaling
const wanted: Record<string, string> = {
  'README.md': withPart(read('README.md'), readmePart(result, ofWorkers)),
  'docs/benchmarks.md': `${benchmarksPage(result, ofWorkers, scaling)}\n${endOf(read('docs/benchmarks.md'))}`,
}
for (const [path, picture] of Object.entries(picturesOf(result, scaling))) wanted[`docs/${path}`] = picture

for (const [path, text] of Object.entries(wanted)) {
  if (!process.argv.includes('--check')) {
    writeFileSync(new URL(path, root), text)
  } else if (read(path) !== text) {
    process.stdout.write(`${path} does not say what docs/benchmarks/*.json say: npm run docs\n`)
    process.exitCode = 1
  }
}

function withPart(page: string, part: string): string {
  const [from, to] = [page.indexOf(begin), page.indexOf(end)]
  if (from < 0 || to < from) throw new Error(`README.md has no part between ${begin} and ${end}`)
  return `${page.slice(0, from)}${begin}\n${part}\n${page.slice(to)}`
}

function endOf(page: string): string {
  const from = page.indexOf(byHand)
  if (from < 0) throw new Error(`docs/benchmarks.md has no line ${byHand}`)
  return page.slice(from)
}

function read(path: string): string {
  try {
    return readFileSync(new URL(path, root), 'utf8')
  } catch {
    // A page that is not there is as stale as an old one.
    return ''
  }
}
