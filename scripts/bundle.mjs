/**
 * Makes the files that a program and the command load: one for each entry, since the modules one by
 * one cost a program four times the start of one (`npm run bench:core`).
 */
import { chmodSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { build } from 'esbuild'

const outdir = 'dist/bundle'

/** @satisfies {import('esbuild').BuildOptions} */
const options = {
  outdir,
  bundle: true,
  platform: 'node',
  target: 'node20.19',
  packages: 'external',
  // Names stay, for stack traces; the rest would only be read past at every start.
  minifyWhitespace: true,
  minifySyntax: true,
  // Node shows the line in which an error was thrown.
  lineLimit: 160,
  // Their text is in the package, next to dist.
  sourcemap: true,
  sourcesContent: false,
  logLevel: 'warning',
}

/** @satisfies {import('esbuild').BuildOptions} */
const commonJs = {
  ...options,
  format: 'cjs',
  outExtension: { '.js': '.cjs' },
  define: { 'import.meta.url': 'own.url' },
  banner: { js: "const own={get url(){return require('node:url').pathToFileURL(__filename).href}};" },
}

const view = 'top-view'

/** @satisfies {import('esbuild').Plugin} */
const besideCommand = {
  name: 'beside the command',
  setup({ onResolve }) {
    onResolve({ filter: /\/view\.tsx$/ }, () => ({ path: `./${view}.mjs`, external: true }))
  },
}

/** @satisfies {import('esbuild').Plugin} */
const withoutDevtools = {
  name: 'without the tools of those who develop ink',
  setup({ onLoad }) {
    onLoad({ filter: /\/ink\/build\/devtools\.js$/ }, () => ({ contents: '' }))
  },
}

export async function bundle() {
  rmSync(outdir, { recursive: true, force: true })
  await build({
    ...options,
    format: 'esm',
    entryPoints: { index: 'src/index.ts', ws: 'src/ws/index.ts' },
    splitting: true,
    chunkNames: 'shared',
  })
  // CommonJS, since `--require` of it costs a program less of its start than `--import` of an empty
  // file.
  await build({
    ...commonJs,
    entryPoints: {
      preload: 'src/preload/entry.ts',
      program: 'src/preload/start.ts',
      worker: 'src/preload/refusals.ts',
      cluster: 'src/preload/cluster.ts',
      // For both: a program that does not want it never reads it.
      tls: 'src/tls/moves.ts',
      proved: 'src/preload/proved.ts',
    },
    external: ['./program.cjs', './worker.cjs', './cluster.cjs'],
  })
  // For those who wrote `--import` into their own scripts.
  await build({ ...options, format: 'esm', entryPoints: { preload: 'src/preload/import.ts' }, sourcemap: false })
  // The command, with commander and ws inside: the package has no dependency. What ws would load of
  // the user's packages, if they are there, is left out.
  const command = await build({
    ...commonJs,
    outdir: 'dist/bin',
    outExtension: {},
    entryPoints: { 'cook-daemon': 'src/cli/main.ts', keeper: 'src/keeper/main.ts' },
    packages: 'bundle',
    define: {
      ...commonJs.define,
      'process.env.WS_NO_BUFFER_UTIL': '"1"',
      'process.env.WS_NO_UTF_8_VALIDATE': '"1"',
    },
    sourcemap: false,
    legalComments: 'inline',
    metafile: true,
    plugins: [besideCommand],
  })
  // Nothing else needs ink and React. An ES module, since yoga-layout awaits at its top.
  const top = await build({
    ...options,
    outdir: 'dist/bin',
    outExtension: { '.js': '.mjs' },
    format: 'esm',
    entryPoints: { [view]: 'src/cli/top/view.tsx' },
    packages: 'bundle',
    sourcemap: false,
    metafile: true,
    define: { 'process.env.NODE_ENV': '"production"' },
    plugins: [withoutDevtools],
    banner: { js: "import{createRequire}from'node:module';const require=createRequire(import.meta.url);" },
  })
  const inputs = [command, top].flatMap(({ metafile }) => Object.keys(metafile.inputs))
  writeFileSync('dist/bin/LICENSES.txt', licencesOf(inputs))
  writeFileSync('dist/bin/package.json', '{"type":"commonjs"}\n')
  chmodSync('dist/bin/cook-daemon.js', 0o755)
}

/**
 * Whoever hands on their code hands on their licences.
 * @param {readonly string[]} inputs
 */
function licencesOf(inputs) {
  const found = inputs.flatMap((path) => /^.*node_modules\/(@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? [])
  const folders = [...new Set(found)].sort()
  const texts = folders.map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'))
    const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one))
    return `${name} ${version} (${license})\n\n${file === undefined ? '' : readFileSync(`${folder}/${file}`, 'utf8')}`
  })
  return texts.join(`\n${'-'.repeat(72)}\n`)
}
