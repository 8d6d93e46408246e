/** Looks at the built site in a real browser, on a phone and on a desktop, in light and dark: nothing overflows, fails, or asks for anything from outside. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { extname, join, normalize } from 'node:path'
import { fileURLToPath } from 'node:url'

const dist = fileURLToPath(new URL('dist', import.meta.url))
const browserPath =
  process.env.CHROMIUM ??
  spawnSync('sh', ['-c', 'command -v chromium || command -v google-chrome'], { encoding: 'utf8' }).stdout.trim()
/** Where pictures go, for people: `node look.mjs DIR`. */
const shots = process.argv[2]

const phone = { width: 390, height: 844 }
const desktop = { width: 1280, height: 900 }
/** One page of each kind: the rules of the theme are the same on all, and to look at each word's contrast takes its time. */
const kinds = ['index.html', 'limits.html', 'first-upgrade.html', 'api/cook-daemon/ws.html', 'examples/http.html']
const flags = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

/** What is wrong, in words. */
const faults = []
let looks = 0

if (browserPath === '') {
  console.log('skipped: there is no chromium here (apt-get install chromium)')
} else {
  await lookAtAll()
  for (const fault of faults) console.log(fault)
  console.log(`${looks} looks, ${faults.length} faults`)
  if (faults.length > 0 || looks === 0) process.exitCode = 1
}

async function lookAtAll() {
  const { chromium } = await import('playwright-core')
  const server = createServer(serveFile).listen(0, '127.0.0.1')
  await new Promise((listening) => server.once('listening', listening))
  const origin = `http://127.0.0.1:${server.address().port}`
  // It makes a profile of its own, and removes it.
  const browser = await chromium.launch({ executablePath: browserPath, args: flags })
  try {
    const page = await browser.newPage({ viewport: desktop, colorScheme: 'light' })
    watch(page, origin)
    const axe = readFileSync(fileURLToPath(import.meta.resolve('axe-core/axe.min.js')), 'utf8')
    for (const name of pagesToLookAt()) await lookAt(page, `${origin}/${name}`, axe)
    await walkOnDesktop(page, origin)
    await walkOnPhone(page, origin)
  } finally {
    await browser.close()
    server.close()
    server.closeAllConnections()
  }
}

/** All but the examples, which are of one kind: two of them. */
function pagesToLookAt() {
  const names = readdirSync(dist, { recursive: true, encoding: 'utf8' }).filter(
    (name) => name.endsWith('.html') && name !== '404.html',
  )
  return names.filter((name) => !name.startsWith('examples/') || /\/(http|demo)\.html$/.test(name)).sort()
}

/** Nothing fails, nothing is said on the console, and nothing is asked of anybody else. */
function watch(page, origin) {
  const fault = (what) => faults.push(`${new URL(page.url()).pathname}: ${what}`)
  page.on(
    'console',
    (message) => ['error', 'warning'].includes(message.type()) && fault(`the console says ${message.text()}`),
  )
  page.on('pageerror', (error) => fault(`a script throws ${error.message}`))
  page.on(
    'request',
    (request) =>
      !request.url().startsWith(`${origin}/`) &&
      !request.url().startsWith('data:') &&
      fault(`asks for ${request.url()}`),
  )
  page.on('response', (response) => response.status() >= 400 && fault(`${response.url()} answers ${response.status()}`))
}

async function lookAt(page, url, axe) {
  const name = new URL(url).pathname.slice(1)
  await page.emulateMedia({ colorScheme: 'light' })
  await page.setViewportSize(desktop)
  await page.goto(url, { waitUntil: 'networkidle' })
  if (kinds.includes(name)) await page.evaluate(axe)
  for (const [colorScheme, viewport] of [
    ['light', desktop],
    ['light', phone],
    ['dark', phone],
    ['dark', desktop],
  ]) {
    await page.emulateMedia({ colorScheme })
    await page.setViewportSize(viewport)
    await page.waitForFunction(
      (isDark) => document.documentElement.classList.contains('dark') === isDark,
      colorScheme === 'dark',
    )
    const what = `${name} at ${viewport.width} px, ${colorScheme}`
    looks += 1
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
    if (wide > 0) faults.push(`${what}: ${wide} px wider than the window`)
    if (viewport === desktop && kinds.includes(name))
      for (const fault of await rulesBroken(page)) faults.push(`${what}: ${fault}`)
    if (shots === undefined) continue
    mkdirSync(shots, { recursive: true })
    await page.screenshot({
      path: join(shots, `${name.replaceAll('/', '-').replace('.html', '')}-${viewport.width}-${colorScheme}.png`),
    })
  }
}

/** Contrast, names of buttons and links, order of headings. */
async function rulesBroken(page) {
  const { violations } = await page.evaluate(() =>
    // Colours fade when the scheme changes; what is measured is where they end.
    Promise.all(document.getAnimations().map((one) => one.finished.catch(() => {}))).then(() =>
      globalThis.axe.run(document, {
        runOnly: [
          'color-contrast',
          'link-name',
          'button-name',
          'image-alt',
          'duplicate-id-aria',
          'html-has-lang',
          'document-title',
        ],
      }),
    ),
  )
  return violations.map(
    ({ id, nodes }) => `${id}, ${nodes.length} times, first: ${nodes[0].html} ${nodes[0].any[0]?.message ?? ''}`,
  )
}

async function walkOnDesktop(page, origin) {
  await page.emulateMedia({ colorScheme: 'light' })
  await page.setViewportSize(desktop)
  await page.goto(`${origin}/`, { waitUntil: 'networkidle' })
  await page.click('.VPNavBar a:has-text("Command line")')
  await expectTitle(page, 'The command line')
  await page.click('.VPSidebar a:has-text("Limits")')
  await expectTitle(page, 'Limits')
  await search(page)
}

async function walkOnPhone(page, origin) {
  await page.setViewportSize(phone)
  await page.goto(`${origin}/index.html`, { waitUntil: 'networkidle' })
  const isHidden = await page.evaluate(() => {
    const [menu, commands] = ['.VPNav', '.hero-commands'].map((one) =>
      document.querySelector(one).getBoundingClientRect(),
    )
    return commands.top < menu.bottom
  })
  if (isHidden) faults.push('index.html on a phone: the commands are under the menu')
  await page.goto(`${origin}/limits.html`, { waitUntil: 'networkidle' })
  await page.click('.VPLocalNav button.menu')
  await page.click('.VPSidebar a:has-text("Errors")')
  await expectTitle(page, 'Errors')
  await page.click('button.VPNavBarHamburger')
  await page.click('.VPNavScreen a:has-text("First upgrade")')
  await expectTitle(page, 'The first upgrade')
  await search(page)
}

async function search(page) {
  await page.click('#local-search button')
  await page.fill('#localsearch-input', 'maxGenerations')
  const found = page.locator('#localsearch-list li a').first()
  await found.waitFor()
  if (shots !== undefined) await page.screenshot({ path: join(shots, `search-${page.viewportSize().width}.png`) })
  const to = new URL(await found.getAttribute('href'), page.url())
  await found.click()
  await page.waitForURL((url) => url.pathname.replace(/\.html$/, '') === to.pathname.replace(/\.html$/, ''))
  await page.waitForFunction(() => document.querySelector('main')?.textContent.includes('maxGenerations'))
  looks += 1
}

async function expectTitle(page, title) {
  await page.locator('h1', { hasText: title }).waitFor()
  looks += 1
}

function serveFile(request, response) {
  const path = normalize(decodeURI(new URL(request.url, 'http://site').pathname))
  const types = {
    '.html': 'text/html',
    '.js': 'text/javascript',
    '.css': 'text/css',
    '.svg': 'image/svg+xml',
    '.json': 'application/json',
  }
  try {
    const file = join(dist, path.endsWith('/') ? `${path}index.html` : path)
    const body = readFileSync(file)
    response.writeHead(200, { 'Content-Type': types[extname(file)] ?? 'application/octet-stream' }).end(body)
  } catch {
    response.writeHead(404).end()
  }
}
