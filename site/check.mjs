/** Builds the site, follows its links, looks at it in a browser; prints the output of what fails. */
import { spawnSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'

process.chdir(import.meta.dirname)

const installed = 'node_modules/.package-lock.json'
const isFresh = existsSync(installed) && statSync(installed).mtimeMs >= statSync('package-lock.json').mtimeMs
// As scripts/build.mjs does it. Neither the tests nor the demo need any of this.
const install = ['npm', 'ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']

const steps = [
  // The API pages need the types of Node, which the library's packages bring.
  ['build', process.execPath, '../scripts/build.mjs'],
  ...(isFresh ? [] : [['site packages', ...install]]),
  ['site generate', process.execPath, 'generate.mjs'],
  ['site build', process.execPath, 'node_modules/vitepress/bin/vitepress.js', 'build'],
  ['site links', process.execPath, 'check-links.mjs'],
  ['site in a browser', process.execPath, 'look.mjs'],
]

for (const [name, command, ...args] of steps) {
  const started = performance.now()
  const { status, signal, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  const seconds = `${((performance.now() - started) / 1000).toFixed(0)} s`
  if (status === 0) {
    const last = stdout.trim().split('\n').at(-1) ?? ''
    console.log(/^skipped/.test(last) ? `${last}: ${name}` : `ok      ${name}, ${seconds}`)
    continue
  }
  console.log(`failed  ${name} (${signal ?? `exit code ${status}`})\n${stdout}${stderr}`)
  process.exitCode = 1
  break
}
