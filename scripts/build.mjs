/** Brings a fresh clone to a built one: installs what the lock file says, compiles, and bundles what a program imports. */
import { spawnSync } from 'node:child_process'
import { existsSync, rmSync, statSync } from 'node:fs'

process.chdir(new URL('..', import.meta.url).pathname)

const installed = 'node_modules/.package-lock.json'
if (!existsSync(installed) || statSync(installed).mtimeMs < statSync('package-lock.json').mtimeMs) {
  // Not `npm ci`: it refuses a lock file made where the registry lacks the binaries of other platforms (measured with npm 11). This one
  // takes every version from the lock file too, and leaves the file alone.
  run('npm', ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'])
}

// A file deleted from the sources must not live on in dist, where a test or the package would still find it.
if (!existsSync('dist')) rmSync('node_modules/.cache/tsc.tsbuildinfo', { force: true })
run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'])
// esbuild is there only now.
await (await import('./bundle.mjs')).bundle()

/** @param {string} command @param {string[]} args */
function run(command, args) {
  const { status, signal, error } = spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] })
  if (status === 0) return
  console.error(`${command} ${args[0]} failed: ${error?.message ?? signal ?? `exit code ${status}`}`)
  process.exit(1)
}
