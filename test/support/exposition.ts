/** A reader of Prometheus' text format 0.0.4, strict in everything that a scraper is. */
import assert from 'node:assert/strict'

export type Family = { readonly help: string; readonly type: string; readonly samples: Map<string, number> }

/**
 * The metrics by their names; samples by their labels as JSON. Throws at the first line that is
 * wrong.
 */
export function readExposition(text: string): Map<string, Family> {
  assert.ok(text.endsWith('\n'), 'the last line has an end')
  const families = new Map<string, Family>()
  let help: readonly [name: string, text: string] | undefined
  let open: string | undefined
  for (const line of text.slice(0, -1).split('\n')) {
    const [, word, name = '', rest = ''] = /^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*) (.+)$/.exec(line) ?? []
    if (word === 'HELP') {
      help = [name, rest]
    } else if (word === 'TYPE') {
      assert.match(rest, /^(counter|gauge)$/, line)
      assert.equal(help?.[0], name, `${name} has a HELP before its TYPE`)
      assert.equal(families.has(name), false, `${name} is in one piece`)
      if (rest === 'counter') assert.match(name, /_total$/)
      families.set(name, { help: help?.[1] ?? '', type: rest, samples: new Map() })
      open = name
    } else {
      const sample = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)$/.exec(line)
      assert.ok(sample, line)
      const [, of = '', labels = '', value = ''] = sample
      assert.equal(of, open, `${line} is under its own TYPE`)
      assert.notEqual(value, '')
      assert.ok(Number.isFinite(Number(value)), line)
      const key = JSON.stringify(readLabels(labels, line))
      const samples = families.get(of)?.samples
      assert.equal(samples?.has(key), false, `${line} is there once`)
      samples?.set(key, Number(value))
    }
  }
  for (const [name, { samples }] of families) assert.ok(samples.size > 0, `${name} has a sample`)
  return families
}

function readLabels(text: string, line: string): Record<string, string> {
  const labels: Record<string, string> = {}
  let rest = text
  while (rest !== '') {
    const found = /^([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)/.exec(rest)
    assert.ok(found, line)
    const [all, name = '', value = ''] = found
    assert.equal(Object.hasOwn(labels, name), false, line)
    labels[name] = value.replace(/\\(.)/g, (_, letter: string) => (letter === 'n' ? '\n' : letter))
    rest = rest.slice(all.length)
  }
  return labels
}
