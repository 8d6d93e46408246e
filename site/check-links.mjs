/** Every link of the built site, from page to page and to a place in one, leads somewhere; VitePress itself looks at pages only. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { fileURLToPath } from 'node:url'

const dist = fileURLToPath(new URL('dist', import.meta.url))

const pages = new Map(
  readdirSync(dist, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.html'))
    .map((name) => [`/${name}`, readFileSync(join(dist, name), 'utf8')]),
)
const places = new Map([...pages].map(([page, html]) => [page, new Set(valuesOf(html, 'id'))]))
const files = new Set(readdirSync(dist, { recursive: true, encoding: 'utf8' }).map((name) => `/${name}`))

let links = 0
const lost = [...pages].flatMap(([page, html]) =>
  valuesOf(html, 'href')
    .filter((href) => !/^[a-z]+:/i.test(href))
    .filter((href) => {
      links += 1
      return !leads(page, href)
    })
    .map((href) => `${page} -> ${href}`),
)

console.log(`${links} links in ${pages.size} pages, ${lost.length} lost`)
for (const one of new Set(lost)) console.log(one)
if (lost.length > 0 || links === 0) process.exitCode = 1

function leads(page, href) {
  const [path = '', place] = href.split('#')
  const to = path === '' ? page : posix.resolve(dirname(page), path) + (path.endsWith('/') ? '/' : '')
  const file = ['', '.html', 'index.html', '/index.html']
    .map((end) => to.replace(/^\/\//, '/') + end)
    .find((name) => files.has(name) && /\.\w+$/.test(name))
  if (file === undefined) return false
  return place === undefined || place === '' || places.get(file)?.has(decodeURIComponent(place)) === true
}

function valuesOf(html, attribute) {
  return [...html.matchAll(new RegExp(`\\s${attribute}="([^"]*)"`, 'g'))].map(([, value = '']) =>
    value.replaceAll('&amp;', '&'),
  )
}
