/** Which file of the repository is which page of the site, and what stands where in its menus. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))

/** Pages of docs/ by the place where a reader looks for them; one that is not there yet is left out, one that is in no list comes under "More". */
const guides = [
  'first-upgrade',
  'how-it-works',
  'library',
  'from-server-close',
  'from-pm2',
  'systemd',
  'monitoring',
  'containers',
  'kubernetes',
  'fleet',
  'unmodified-programs',
  'drain-and-deadlines',
  'failure-and-rollback',
  'websockets',
  'state-and-hooks',
]
const reference = ['cli', 'config', 'preload', 'errors', 'limits', 'protocol', 'original-api', 'upgrade-walk']
const evidence = ['promises', 'reliability', 'failure-modes', 'benchmarks']

/** Files beside docs/ that are pages, and their names. */
const others = new Map([
  ['site/index.md', 'index.md'],
  ['README.md', 'overview.md'],
  ['CHANGELOG.md', 'changelog.md'],
  ['CONTRIBUTING.md', 'contributing.md'],
  ['SECURITY.md', 'security.md'],
])

/** The page that is made of a file, both as paths with `/`; undefined if there is none. */
export function pageOf(file) {
  if (others.has(file)) return others.get(file)
  const [, generated] = /^site\/generated\/((?:api|examples)\/.+\.md)$/.exec(file) ?? []
  if (generated !== undefined) return generated
  const [, page] = /^docs\/([^/]+\.md)$/.exec(file) ?? []
  if (page !== undefined) return page
  const [, example] = /^examples\/([^/]+?)(?:\.ts|\/server\.js)$/.exec(file) ?? []
  return example === undefined ? undefined : `examples/${example}.md`
}

/** Examples are shown as pages of their own: the site has no other place for a source. */
export function exampleFiles() {
  return readdirSync(join(root, 'examples')).flatMap((name) => {
    if (name.endsWith('.ts')) return [name]
    return existsSync(join(root, 'examples', name, 'server.js')) ? [`${name}/server.js`] : []
  })
}

/** Of its page, and in the menu. */
export function exampleName(file) {
  return file.replace(/\.ts$|\/server\.js$/, '')
}

export function sidebar() {
  const docs = readdirSync(join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => basename(name, '.md'))
  const listed = new Set([...guides, ...reference, ...evidence])
  const more = docs.filter((name) => !listed.has(name))
  const items = (names) => names.filter((name) => docs.includes(name)).map((name) => item(`docs/${name}.md`))
  const api = {
    text: 'API',
    link: '/api/',
    items: ['cook-daemon', 'cook-daemon/ws', 'cook-daemon/preload'].map(apiItem),
  }
  return [
    { text: 'Guides', items: [item('README.md', 'Overview'), ...items(guides)] },
    { text: 'Reference', items: [...items(reference), api] },
    { text: 'Evidence', items: [...items(evidence), item('SECURITY.md')] },
    { text: 'More', items: items(more) },
    { text: 'Examples', collapsed: true, items: exampleFiles().map(exampleItem) },
    { text: 'Project', items: [item('CHANGELOG.md'), item('CONTRIBUTING.md')] },
  ].filter((group) => group.items.length > 0)
}

function item(file, text = titleOf(file)) {
  return { text, link: `/${pageOf(file)?.replace(/\.md$/, '')}` }
}

function apiItem(name) {
  return { text: name, link: `/api/${name}` }
}

function exampleItem(name) {
  return { text: exampleName(name), link: `/examples/${exampleName(name)}` }
}

function titleOf(file) {
  const path = join(root, file)
  if (!existsSync(path)) return file
  return /^# (.+)$/m.exec(readFileSync(path, 'utf8'))?.[1]?.replaceAll('`', '') ?? file
}
