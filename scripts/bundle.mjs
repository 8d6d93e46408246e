/** Makes the files that a program and the command load: one for each entry, since the modules one by one cost a program four times the start of one (`npm run bench:core`), with the late modules in a file of their own. */
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { posix, relative } from 'node:path'
import { build } from 'esbuild'

/**
 * What the first start does without until it serves: an upgrade, a drain, a control socket, a Unix path, the text of an error. Their file is opened with the others, since another version stands in its place after a deployment, and read
 * and compiled when it is first called: compiling all of it was a third of what the preload adds to a start (`npm run bench:cli`). Of these modules the others may import
 * functions and classes, and nothing else.
 */
const late = [
  'control/commands.ts',
  'control/facts.ts',
  'control/server.ts',
  'control/status.ts',
  'core/daemonizing.ts',
  'core/foreground.ts',
  'core/handle-fault.ts',
  'core/history.ts',
  'core/latch.ts',
  'core/launch.ts',
  'core/listen-behind.ts',
  'core/log.ts',
  'core/mover.ts',
  'core/owners.ts',
  'core/packing.ts',
  'core/pid-file.ts',
  'core/predecessor.ts',
  'core/report.ts',
  'core/run-dir.ts',
  'core/successor.ts',
  'core/telling.ts',
  'core/tickets.ts',
  'core/trust.ts',
  'core/unix-path.ts',
  'core/upgrading.ts',
  'core/values.ts',
  'daemon.ts',
  'drain/counts.ts',
  'drain/drainer.ts',
  'drain/http.ts',
  'drain/http2.ts',
  'drain/leaving.ts',
  'drain/spares.ts',
  'drain/spread.ts',
  'error-texts.ts',
  'node/link.ts',
  'node/processes.ts',
  'node/unix-table.ts',
  'program/inheriting.ts',
  'program/web-socket-drain.ts',
  'upgrades.ts',
]

/** Without a state of their own (test/unit/floors.test.ts): a copy of what the late modules need of these is with them, so that program.cjs holds only what a start needs. */
const copied = [
  'core/deadline.ts',
  'core/phase.ts',
  'core/protocol.ts',
  'core/version.ts',
  'defaults.ts',
  'node/clock.ts',
  'node/servers.ts',
  'node/sockets.ts',
  'options.ts',
]

const options = {
  bundle: true,
  platform: /** @type {const} */ ('node'),
  target: 'node20.19',
  packages: /** @type {const} */ ('external'),
  // Names stay, for stack traces; the rest would only be read past at every start.
  minifyWhitespace: true,
  minifySyntax: true,
  // Node shows the line in which an error was thrown.
  lineLimit: 160,
  // Their text is in the package, next to dist.
  sourcemap: true,
  sourcesContent: false,
  logLevel: /** @type {const} */ ('warning'),
}
const asCommonJs = {
  format: /** @type {const} */ ('cjs'),
  outExtension: { '.js': '.cjs' },
  define: { 'import.meta.url': 'own.url' },
  banner: { js: "const own={get url(){return require('node:url').pathToFileURL(__filename).href}};" },
}

const outdir = 'dist/bundle'

export async function bundle() {
  rmSync(outdir, { recursive: true, force: true })
  await build({
    ...options,
    outdir,
    format: 'esm',
    entryPoints: ['src/index.ts', 'src/ws.ts'],
    splitting: true,
    chunkNames: 'shared',
  })
  const plugins = [lateModules(await bundleLate())]
  await bundleAsCommonJs({ ...callOf('takeUpProgram', 'program/start.ts'), entryNames: 'program', plugins })
  await bundleAsCommonJs({ ...callOf('refuseListens', 'program/worker.ts'), entryNames: 'worker' })
  await bundleAsCommonJs({
    entryPoints: { preload: 'src/preload-require.ts' },
  })
  // For those who wrote `--import` into their own scripts.
  await build({ ...options, outdir, format: 'esm', entryPoints: ['src/preload.ts'], sourcemap: false })
  await bundleCommand()
}

/** The preload, since `--require` of it costs a program less of its start than `--import` of an empty file. @param {import('esbuild').BuildOptions} more */
async function bundleAsCommonJs(more) {
  await build({ ...options, ...asCommonJs, outdir, ...more })
}

/** What is loaded to call one function: an export takes longer to be made than to be called. @param {string} name @param {string} path */
function callOf(name, path) {
  return { stdin: { contents: `import { ${name} } from './src/${path}'\n${name}()`, resolveDir: '.' } }
}

/** The command, and beside it what its quick words do without, commander among it: the package has no dependency, and a small file starts fast. CommonJS, since Node 24 takes 10 ms longer to start an ES module (measured). */
async function bundleCommand() {
  await build({
    ...options,
    ...asCommonJs,
    outExtension: {},
    entryPoints: { 'cook-daemon': 'src/cli/main.ts', commands: 'src/cli/commands.ts' },
    outdir: 'dist/bin',
    external: ['./commands.js'],
    packages: 'bundle',
    minify: true,
    sourcemap: false,
    banner: asCommonJs.banner,
    legalComments: 'inline',
    plugins: [lateChildProcess],
  })
  writeFileSync('dist/bin/package.json', '{"type":"commonjs"}\n')
  chmodSync('dist/bin/cook-daemon.js', 0o755)
}

/** Writes late.cjs, a function body of `module` and `early`; returns what `early` has to hold for it, by module. */
async function bundleLate() {
  /** @type {Map<string, Set<string>>} */
  const shared = new Map()
  await bundleAsCommonJs({
    stdin: {
      contents: late.map((path) => `export * as ${nameOf(path)} from './src/${path}'`).join('\n'),
      resolveDir: '.',
    },
    entryNames: 'late',
    plugins: [
      {
        name: 'early-modules',
        setup(build) {
          build.onResolve({ filter: /^\..*\.ts$/ }, ({ path, importer, resolveDir }) => {
            const module = moduleOf(resolveDir, path)
            if (importer === '<stdin>' || late.includes(module) || copied.includes(module)) return undefined
            const names = shared.get(module) ?? new Set()
            for (const name of importsOf(importer, path)) names.add(name)
            shared.set(module, names)
            return { path: module, namespace: 'early' }
          })
          build.onLoad({ filter: /.*/, namespace: 'early' }, ({ path }) => ({
            contents: `module.exports = early.${nameOf(path)}`,
          }))
        },
      },
    ],
  })
  return shared
}

/** In the place of each late module functions of the same names, which compile the late file when the first of them is called. @param {ReadonlyMap<string, ReadonlySet<string>>} shared @returns {import('esbuild').Plugin} */
function lateModules(shared) {
  return {
    name: 'late-modules',
    setup(build) {
      build.onResolve({ filter: /^\..*\.ts$/ }, ({ path, resolveDir, namespace }) => {
        const module = namespace === 'file' ? moduleOf(resolveDir, path) : ''
        return late.includes(module) ? { path: module, namespace: 'late' } : undefined
      })
      build.onLoad({ filter: /.*/, namespace: 'late' }, ({ path }) => {
        const functions = exportsOf(path).map(([kind, name]) => {
          const real = `(late().${nameOf(path)}.${name})`
          return `export function ${name}(...args) { return ${kind === 'class' ? `new ${real}` : real}(...args) }`
        })
        return { contents: [`import { late } from 'late-loader'`, ...functions].join('\n'), resolveDir: '.' }
      })
      build.onResolve({ filter: /^late-(loader|text)$/ }, ({ path }) => ({ path, namespace: 'loader' }))
      build.onLoad({ filter: /loader$/, namespace: 'loader' }, () => ({ contents: loaderOf(shared), resolveDir: '.' }))
      build.onLoad({ filter: /text$/, namespace: 'loader' }, () => ({
        contents: `const { closeSync, openSync, readFileSync } = process.getBuiltinModule('node:fs')
          export const file = __dirname + '/late.cjs'
          const fd = openSync(file)
          export function takeText() {
            const text = readFileSync(fd, 'utf8')
            closeSync(fd)
            return text
          }`,
      }))
    },
  }
}

/** @param {ReadonlyMap<string, ReadonlySet<string>>} shared */
function loaderOf(shared) {
  // Sorted: esbuild asks for them in an order that differs from build to build.
  const modules = [...shared].sort().map(([path, names]) => ({ path, module: nameOf(path), names: [...names].sort() }))
  const imports = modules.map(({ path, module, names }) => {
    return `import { ${names.map((name) => `${name} as ${module}_${name}`).join(', ')} } from './src/${path}'`
  })
  // Getters: a broken environment is put into words while the modules are still being loaded.
  const early = modules.map(({ module, names }) => {
    return `${module}: { ${names.map((name) => `get ${name}() { return ${module}_${name} }`).join(', ')} }`
  })
  return `import { file, takeText } from 'late-text'
    ${imports.join('\n')}
    let loaded
    export function late() {
      if (loaded === undefined) {
        const { compileFunction } = process.getBuiltinModule('node:vm')
        const module = {}
        const run = compileFunction(takeText(), ['module', 'require', '__filename', 'early'], { filename: file })
        run(module, require, file, { ${early.join(', ')} })
        loaded = module.exports
      }
      return loaded
    }`
}

/** What a module exports that is there when it runs. @param {string} path @returns {(readonly [kind: string, name: string])[]} */
function exportsOf(path) {
  const text = readFileSync(`src/${path}`, 'utf8')
  return [...text.matchAll(/^export (?:async )?(function|class)\*? (\w+)/gm)].map(([, kind = '', name = '']) => [
    kind,
    name,
  ])
}

/** What a file imports of another that is there when it runs. @param {string} importer @param {string} path @returns {string[]} */
function importsOf(importer, path) {
  const statement = new RegExp(`^import \\{([^}]*)\\} from '${path.replaceAll('.', '\\.')}'`, 'm')
  const [, names = ''] = statement.exec(readFileSync(importer, 'utf8')) ?? []
  return names
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '' && !name.startsWith('type '))
}

/** @param {string} resolveDir @param {string} path */
function moduleOf(resolveDir, path) {
  return posix.normalize(relative('src', `${resolveDir}/${path}`))
}

/** @param {string} path */
function nameOf(path) {
  return path.replace(/\.ts$/, '').replace(/\W/g, '_')
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
