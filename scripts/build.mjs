/** Brings a fresh clone to a built one: installs what the lock file says, compiles, and bundles what a program imports. */
import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, rmSync, statSync, writeFileSync } from 'node:fs'

process.chdir(new URL('..', import.meta.url).pathname)

const installed = 'node_modules/.package-lock.json'
if (!existsSync(installed) || statSync(installed).mtimeMs < statSync('package-lock.json').mtimeMs) {
  // Not `npm ci`: it refuses a lock file made where the registry lacks the binaries of other platforms (measured with npm 11). This one
  // takes every version from the lock file too, and leaves the file alone.
  run('npm', ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'])
}
/**
 * commander loads node:child_process for commands that are programs of their own, which we have none of: a ninth of what `node -e 0` executes on Node 24. Here it is
 * asked for when it is needed.
 * @type {import('esbuild').Plugin}
 */
const lateChildProcess = {
  name: 'late-child-process',
  setup(build) {
    build.onResolve({ filter: /^node:child_process$/ }, ({ path, importer }) => {
      return importer.includes('/node_modules/commander/') ? { path, namespace: 'late' } : undefined
    })
    build.onLoad({ filter: /.*/, namespace: 'late' }, () => {
      return { contents: "exports.spawn = (...args) => process.getBuiltinModule('node:child_process').spawn(...args)" }
    })
  },
}

// A file deleted from the sources must not live on in dist, where a test or the package would still find it.
if (!existsSync('dist')) rmSync('node_modules/.cache/tsc.tsbuildinfo', { force: true })
run(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.json'])
await bundle()

/** One file for each entry, and what they share in another: 25 modules cost a program four times the start-up of one (`npm run bench:core`). */
async function bundle() {
  const { build } = await import('esbuild')
  rmSync('dist/bundle', { recursive: true, force: true })
  const options = {
    outdir: 'dist/bundle',
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    packages: 'external',
    // Names stay, for stack traces; the rest would only be read past at every start.
    minifyWhitespace: true,
    minifySyntax: true,
    sourcemap: true,
    // Its text is in the package, next to dist.
    sourcesContent: false,
    logLevel: 'warning',
  }
  const asCommonJs = { format: 'cjs', define: { 'import.meta.url': 'ownUrl' } }
  const ownUrl = "const ownUrl=require('node:url').pathToFileURL(__filename).href;"
  await build({ ...options, entryPoints: ['src/index.ts', 'src/ws.ts'], splitting: true, chunkNames: 'shared' })
  // What few programs import together with the others starts fastest as one file, behind a small one for the program's forks and workers. CommonJS, since `--require` of it costs a program
  // less of its start than `--import` of an empty file (`npm run bench:cli`); `--import` is for those who wrote it into their own scripts.
  await build({
    ...options,
    ...asCommonJs,
    entryPoints: {
      preload: 'src/preload-require.ts',
      program: 'src/program/start.ts',
      worker: 'src/program/worker.ts',
    },
    outExtension: { '.js': '.cjs' },
    banner: { js: ownUrl },
  })
  await build({ ...options, entryPoints: ['src/preload.ts'], sourcemap: false })
  // The command with commander in it: the package has no dependency, and one small file is what starts fast. CommonJS, since Node 24 takes
  // 10 ms longer to start an ES module (measured).
  await build({
    ...options,
    entryPoints: { 'cook-daemon': 'src/cli/main.ts' },
    outdir: 'dist/bin',
    packages: 'bundle',
    ...asCommonJs,
    minify: true,
    sourcemap: false,
    banner: { js: `#!/usr/bin/env node\n${ownUrl}` },
    legalComments: 'inline',
    plugins: [lateChildProcess],
  })
  writeFileSync('dist/bin/package.json', '{"type":"commonjs"}\n')
  chmodSync('dist/bin/cook-daemon.js', 0o755)
}

/** @param {string} command @param {string[]} args */
function run(command, args) {
  const { status, signal, error } = spawnSync(command, args, { stdio: ['ignore', 'inherit', 'inherit'] })
  if (status === 0) return
  console.error(`${command} ${args[0]} failed: ${error?.message ?? signal ?? `exit code ${status}`}`)
  process.exit(1)
}
