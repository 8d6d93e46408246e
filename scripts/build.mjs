/** Brings a clone up to date: installs by the lock file, compiles, and makes the bundles. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs'

process.chdir(`${import.meta.dirname}/..`)

const installed = 'node_modules/.package-lock.json'
if (!existsSync(installed) || statSync(installed).mtimeMs < statSync('package-lock.json').mtimeMs) {
  run('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'])
}

// Without dist nothing is compiled yet, whatever TypeScript has noted about it.
if (!existsSync('dist')) rmSync('node_modules/.cache/tsc.tsbuildinfo', { force: true })
run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'])
for (const folder of ['src', 'test', 'bench', 'examples', 'scripts']) removeStale(folder)
// esbuild is there only now.
await (await import('./bundle.mjs')).bundle()

/**
 * TypeScript leaves what it made of a source that is gone by now, and the package would hold it.
 * @param {string} folder
 */
function removeStale(folder) {
  for (const name of readdirSync(`dist/${folder}`, { recursive: true, encoding: 'utf8' })) {
    const source = `${folder}/${name.replace(/\.(js|d\.ts)(\.map)?$/, '.ts')}`
    if (source.endsWith('.ts') && !existsSync(source) && !existsSync(`${source}x`)) rmSync(`dist/${folder}/${name}`)
  }
}

/** @param {string} command @param {string[]} args */
function run(command, args) {
  const { status, signal, error } = spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] })
  if (status === 0) return
  console.error(`${command} ${args[0]} failed: ${error?.message ?? signal ?? `exit code ${status}`}`)
  process.exit(1)
}
