/** Reads the page that `prove --report` writes, strictly: what is not well-formed is refused. */
import assert from 'node:assert/strict'

const alone = ['meta', 'link']

export type Report = {
  readonly title: string
  readonly verdict: string
  /** Of the table, its heads first. */
  readonly table: readonly (readonly string[])[]
  readonly pictures: readonly { readonly title: string; readonly description: string; readonly crosses: number }[]
}

export function readReport(page: string): Report {
  assertWellFormed(page)
  assertAlone(page)
  const body = page.slice(page.indexOf('<body>'))
  const rows = [...body.matchAll(/<tr>(.*?)<\/tr>/g)].map(([, row = '']) =>
    [...row.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/g)].map(([, cell = '']) => unescaped(cell)),
  )
  assert.match(body, /<table>\s*<caption>/)
  for (const [head] of body.matchAll(/<th[ >][^>]*/g)) assert.match(head, /scope="(col|row)"/)
  const pictures = [...body.matchAll(/<svg role="img" aria-labelledby="(\S+) (\S+)"(.*?)\n<\/svg>\n<\/section>/gs)]
  return {
    title: unescaped(one(page, /<title>(.*?)<\/title>/)),
    verdict: unescaped(one(body, /<h1>(.*?)<\/h1>/)),
    table: rows,
    pictures: pictures.map(([, title = '', description = '', drawn = '']) => ({
      title: unescaped(one(drawn, new RegExp(`<title id="${title}">(.*?)</title>`))),
      description: unescaped(one(drawn, new RegExp(`<desc id="${description}">(.*?)</desc>`))),
      crosses: drawn.split('class="cross"').length - 1,
    })),
  }
}

/** No request to anybody: nothing has an address, and no script runs. */
function assertAlone(page: string): void {
  const loads = [...page.matchAll(/\s(?:src|href|xlink:href|srcset|action|data|on\w+)="([^"]*)"/g)]
  assert.deepEqual(
    loads.map(([, address]) => address),
    ['data:,'],
  )
  assert.doesNotMatch(page, /<script|@import|url\(/i)
}

/** Each element that is opened is closed, in its order. */
function assertWellFormed(page: string): void {
  const open: string[] = []
  const inner = page.replace(/^<!doctype html>\n<!--[^>]*-->\n/, '').replace(/<style>[^<]*<\/style>/, '')
  const rest = inner.replace(/<(\/?)([a-z][\w-]*)((?: [\w:-]+="[^"<>]*")*)(\/?)>/gi, (_, end, name, __, self) => {
    if (end === '/') assert.equal(open.pop(), name)
    else if (self !== '/' && !alone.includes(name)) open.push(name)
    return ''
  })
  assert.deepEqual(open, [])
  assert.doesNotMatch(rest, /[<>]/)
}

function one(text: string, pattern: RegExp): string {
  const [, found] = pattern.exec(text) ?? []
  assert.ok(found !== undefined, `${pattern} is not in the page`)
  return found
}

function unescaped(text: string): string {
  return text.replace(/<[^>]*>/g, '').replace(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)))
}
