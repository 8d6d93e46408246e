/** The site: pages of the repository as they are, links between them as they are there. */
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { defineConfig } from 'vitepress'
import { pageOf, root, sidebar } from '../pages.mjs'

const description = 'Replace a running Node.js server by its new version: no request lost, connections stay open.'
const { repository } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const home: string | undefined = (repository?.url ?? repository)?.replace(/^git\+|\.git$/g, '')

/** A square with an arrow to the next one; in the page itself, since the site asks for nothing from outside. */
const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect x="2" y="9" width="13" height="14" rx="3" fill="#8a8f98"/><rect x="17" y="9" width="13" height="14" rx="3" fill="#0b7a4b"/><path d="M9 16h13m-4-4 4 4-4 4" fill="none" stroke="#fff" stroke-width="2.5"/></svg>`

export default defineConfig({
  srcDir: '..',
  // What is no page is left out by `pageOf`; these are only not looked through.
  srcExclude: ['src/**', 'test/**', 'bench/**', 'examples/**', 'site/generated/*.md', 'node_modules/**'],
  rewrites: (file) => pageOf(file) ?? file,
  cacheDir: './cache',
  outDir: './dist',
  // The pages lie outside of this package, where nothing would find it.
  vite: { plugins: [{ name: 'vue-of-the-site', enforce: 'pre', resolveId: findVue }] },
  lang: 'en',
  title: 'cook-daemon',
  description,
  cleanUrls: false,
  head: [['link', { rel: 'icon', href: `data:image/svg+xml,${encodeURIComponent(icon)}` }]],
  markdown: {
    // As GitHub makes them, so that one link works in both places.
    anchor: { slugify: githubSlug },
    theme: { light: 'github-light-high-contrast', dark: 'github-dark-high-contrast' },
    languageAlias: { logrotate: 'ini' },
    config: (md) =>
      md.core.ruler.push('repository-links', ({ tokens, env }) => {
        for (const { children } of tokens) leadLinks(children ?? [], env.realPath ?? env.path)
      }),
  },
  themeConfig: {
    nav: [
      { text: 'First upgrade', link: '/first-upgrade' },
      { text: 'Command line', link: '/cli' },
      { text: 'API', link: '/api/' },
      { text: 'Limits', link: '/limits' },
    ],
    sidebar: sidebar(),
    outline: [2, 3],
    search: { provider: 'local' },
    ...(home === undefined ? {} : { socialLinks: [{ icon: 'github', link: home }] }),
    docFooter: { prev: false, next: false },
  },
})

type Resolver = { resolve(id: string, importer: string, options: { readonly skipSelf: true }): Promise<unknown> }

async function findVue(this: Resolver, id: string, importer: string | undefined): Promise<unknown> {
  if (!/^vue(\/|$)/.test(id) || importer === undefined || importer.includes('node_modules')) return undefined
  return this.resolve(id, join(root, 'site/index.md'), { skipSelf: true })
}

function githubSlug(text: string): string {
  return text
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{M}\p{N}\p{Pc}\- ]/gu, '')
    .replaceAll(' ', '-')
}

type Token = {
  type: string
  content: string
  attrGet(name: string): string | null
  attrSet(name: string, value: string): void
}

/** Links lead to files: to a page where there is one, to the repository where it is known; elsewhere only the words stay. */
function leadLinks(tokens: readonly Token[], from: string): void {
  const dropped: boolean[] = []
  for (const token of tokens) {
    if (token.type === 'link_close' && dropped.pop()) drop(token)
    if (token.type !== 'link_open') continue
    const href = token.attrGet('href') ?? ''
    const isFile = !/^([a-z]+:|#|\/)/i.test(href)
    const [path = '', anchor] = href.split('#')
    const file = isFile ? relative(root, join(dirname(from), decodeURI(path))) : undefined
    if (file !== undefined && !existsSync(join(root, file))) throw new Error(`${from}: ${href} leads nowhere`)
    const page = file === undefined ? undefined : pageOf(file)
    const to =
      page === undefined
        ? home && `${home}/blob/main/${file}`
        : `/${page.replace(/\.md$/, '').replace(/(^|\/)index$/, '$1')}`
    dropped.push(isFile && to === undefined)
    if (!isFile) continue
    if (to === undefined) drop(token)
    else token.attrSet('href', anchor === undefined ? to : `${to}#${anchor}`)
  }
}

function drop(token: Token): void {
  token.type = 'html_inline'
  token.content = ''
}
