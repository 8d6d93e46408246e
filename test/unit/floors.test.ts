/** Holds the shape of src/: who may import whom, and the few words that only one file may spell. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { version } from '../../src/version.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))

/**
 * The order of the story, ground first: nobody imports a later line, type imports counted. A name
 * with a slash is a folder.
 */
const lines = [
  ['errors.ts', 'error-texts.ts', 'waiting.ts', 'version.ts'],
  ['contract/'],
  ['drain-report.ts', 'listen-options.ts', 'options.ts', 'check.ts', 'report.ts'],
  ['node/'],
  ['process/'],
  ['service.ts', 'service-parts.ts', 'history.ts', 'warnings.ts', 'conditions.ts', 'stops.ts'],
  ['listen/'],
  ['upgrade/'],
  ['handover/'],
  ['tls/'],
  ['control/'],
  ['host/'],
  ['enter.ts'],
  ['move-tls.ts', 'daemon.ts', 'serve.ts'],
  ['classic/', 'ws/'],
  ['index.ts'],
  ['preload/'],
  ['keeper/'],
  ['config/'],
  ['cli/'],
]

/**
 * Loading one of these costs every program that uses the library a part of its boot:
 * process.getBuiltinModule() when it is needed.
 */
const costly = ['http', 'https', 'http2', 'net', 'child_process', 'cluster'].map((name) => `node:${name}`)

const privateNode = ['_handle', 'getOwnPropertySymbols', 'kChannelHandle', '_pendingMessage', 'process.binding']

type Import = { readonly from: string; readonly typeOnly: boolean }
type Source = {
  readonly path: string
  readonly text: string
  readonly code: string
  readonly imports: readonly Import[]
}

const sources = readSources()

test('the text of src/ is there to be read', () => {
  assert.ok(sources.some(({ path, imports }) => path === 'index.ts' && imports.length > 0))
})

test('every file has its place in the order', () => {
  assert.deepEqual(
    sources.filter(({ path }) => lineOf(path) < 0).map(({ path }) => path),
    [],
  )
})

test('a file imports only from its own line and those before it, type imports counted', () => {
  const forward = sources.flatMap(({ path, imports }) =>
    imports.filter(({ from }) => isOwn(from) && lineOf(from) > lineOf(path)).map(({ from }) => `${path} -> ${from}`),
  )
  assert.deepEqual(forward, [])
})

test('every import leads to a file that is there', () => {
  const known = new Set(sources.map(({ path }) => path))
  const lost = sources.flatMap(({ path, imports }) =>
    imports.filter(({ from }) => isOwn(from) && !known.has(from)).map(({ from }) => `${path} -> ${from}`),
  )
  assert.deepEqual(lost, [])
})

test('no file imports itself through others, type imports counted', () => {
  assert.deepEqual(cycles(), [])
})

test('the contract is pure: it loads no part of Node and does not look at the process', () => {
  const impure = sources
    .filter(({ path }) => path.startsWith('contract/'))
    .flatMap(({ path, code, imports }) => [
      ...imports.filter(({ from, typeOnly }) => !isOwn(from) && !typeOnly).map(({ from }) => `${path} -> ${from}`),
      ...(/\bprocess\.[a-z]|\bglobalThis\b/.test(code) ? [`${path} looks at the process`] : []),
    ])
  assert.deepEqual(impure, [])
})

test('importing the library loads no built-in module that a program may do without', () => {
  const loaded = sources.flatMap(({ path, imports }) =>
    imports.filter(({ from, typeOnly }) => costly.includes(from) && !typeOnly).map(({ from }) => `${path} -> ${from}`),
  )
  assert.deepEqual(loaded, [])
})

test('what a program loads has nothing of the keeper and of the command in it', () => {
  const bundle = join(root, 'dist/bundle')
  const maps = readdirSync(bundle).filter((name) => name.endsWith('.map'))
  const inside = maps.flatMap((name) => {
    const { sources: made } = JSON.parse(readFileSync(join(bundle, name), 'utf8')) as { readonly sources: string[] }
    return made.map((path) => `${name}: ${posix.normalize(path)}`)
  })
  for (const name of ['shared.js.map: ../../src/service.ts', 'program.cjs.map: ../../src/service.ts']) {
    assert.ok(inside.includes(name), name)
  }
  assert.deepEqual(
    inside.filter((name) => /src\/(keeper|config|cli)\//.test(name)),
    [],
  )
})

test('ink and React are in the file that top loads, and not in the command', () => {
  const has = (name: string) => /react-reconciler|yoga/i.test(readFileSync(join(root, 'dist/bin', name), 'utf8'))
  assert.deepEqual(['cook-daemon.js', 'keeper.js', 'top-view.mjs'].filter(has), ['top-view.mjs'])
})

test('the library imports nothing but itself and Node', () => {
  // ws is the peer dependency of cook-daemon/ws.
  const foreign = sources.flatMap(({ path, imports }) =>
    imports
      .filter(
        ({ from }) =>
          !isOwn(from) &&
          !from.startsWith('node:') &&
          !(from === 'ws' && path.startsWith('ws/')) &&
          // Both are bundled into the command.
          !(from === 'ws' && path === 'cli/prove-web-sockets.ts') &&
          !(from === 'commander' && ['cli/commands.ts', 'cli/completion.ts'].includes(path)) &&
          // Bundled into a file of its own, which only `top` loads.
          !(['ink', 'react', 'string-width'].includes(from) && path.startsWith('cli/top/')),
      )
      .map(({ from }) => `${path} -> ${from}`),
  )
  assert.deepEqual(foreign, [])
})

test('only node/ touches private parts of Node', () => {
  const touching = sources
    .filter(({ path }) => !path.startsWith('node/'))
    .flatMap(({ path, code }) => privateNode.filter((word) => code.includes(word)).map((word) => `${path}: ${word}`))
  assert.deepEqual(touching, [])
})

test('only contract/environment.ts spells the name of an environment variable of ours', () => {
  const spelling = sources
    // People read its name in an error.
    .filter(({ path }) => path !== 'contract/environment.ts' && path !== 'error-texts.ts')
    .flatMap(({ path, code }) => (code.match(/\bCOOK_DAEMON_[A-Z]\w*/g) ?? []).map((name) => `${path}: ${name}`))
  assert.deepEqual(spelling, [])
})

test('no file has more than 400 lines, and most have fewer than 120', () => {
  const lengths = sources.map(({ path, text }) => [text.split('\n').length - 1, path] as const)
  assert.deepEqual(
    lengths.filter(([length]) => length > 400),
    [],
  )
  assert.ok(lengths.filter(([length]) => length < 120).length > sources.length / 2)
})

test('a comment has lines of at most 100 characters, and five sentences at most', () => {
  const long = sources.flatMap(({ path, text }) =>
    text.split('\n').flatMap((line, at) => (isComment(line) && line.length > 100 ? [`${path}:${at + 1}`] : [])),
  )
  assert.deepEqual(long, [])
  const wordy = sources.flatMap(({ path, text }) =>
    commentsOf(text)
      .filter((comment) => sentencesOf(comment) > 5)
      .map((comment) => `${path}: ${comment.slice(0, 60)}`),
  )
  assert.deepEqual(wordy, [])
})

test('every file says in its first line what it is for', () => {
  const silent = sources.filter(({ text }) => !/^(#!.*\n)?\/\*\*\s+\S/.test(text)).map(({ path }) => path)
  assert.deepEqual(silent, [])
})

test('the version that a process tells is that of the package', () => {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { readonly version: string }
  assert.equal(version, manifest.version)
})

function readSources(): readonly Source[] {
  const folder = join(root, 'src')
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter(isOwn)
    .sort()
    .map((path) => {
      const text = readFileSync(join(folder, path), 'utf8')
      const code = withoutComments(text)
      return { path, text, code, imports: importsOf(path, code) }
    })
}

function withoutComments(text: string): string {
  return text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '$1')
}

/**
 * `import { type A } from 'x'` still loads x (verbatimModuleSyntax keeps the statement), so only
 * `import type` counts as that.
 */
function importsOf(path: string, code: string): readonly Import[] {
  const statement = /^(?:import|export)\s+(type\s)?(?:[^'"`;()=]*?\sfrom\s+)?['"]([^'"]+)['"]/gm
  const call = /\bimport\(\s*['"]([^'"]+)['"]/g
  const found = [
    ...[...code.matchAll(statement)].map(([, type, from = '']) => ({ from, typeOnly: type !== undefined })),
    ...[...code.matchAll(call)].map(([, from = '']) => ({ from, typeOnly: false })),
  ]
  return found.map(({ from, typeOnly }) => ({
    from: from.startsWith('.') ? posix.join(dirname(path), from) : from,
    typeOnly,
  }))
}

function isOwn(from: string): boolean {
  return /\.tsx?$/.test(from)
}

function lineOf(path: string): number {
  return lines.findIndex((line) => line.some((one) => (one.endsWith('/') ? path.startsWith(one) : path === one)))
}

function isComment(line: string): boolean {
  return /^\s*(\/\/|\/\*\*|\*)/.test(line)
}

/** Paragraph by paragraph; lines of `//` that follow each other are one. */
function commentsOf(text: string): string[] {
  const blocks = text.match(/\/\*\*[\s\S]*?\*\/|(?:^[ \t]*\/\/.*\n?)+/gm) ?? []
  return blocks
    .flatMap((block) => block.split(/\n\s*\*\n/))
    .map((part) => part.replace(/^\s*(\/\/|\/\*\*|\*\/?)/gm, '').replace(/\*\/$/, ''))
    .map((part) => part.replace(/\s+/g, ' ').trim())
}

/** Of the text: what follows a tag, as `@default`, is a field of its own. */
function sentencesOf(comment: string): number {
  const [text = ''] = comment.split(/(?:^| )@\w+ /)
  return text.split(/[.!?](?: |$)/).filter((sentence) => sentence.trim() !== '').length
}

function cycles(): readonly string[] {
  const found: string[] = []
  const done = new Set<string>()
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) found.push([...trail.slice(trail.indexOf(path)), path].join(' -> '))
    if (trail.includes(path) || done.has(path)) return
    const { imports = [] } = sources.find((source) => source.path === path) ?? {}
    for (const { from } of imports) if (isOwn(from)) visit(from, [...trail, path])
    done.add(path)
  }
  for (const { path } of sources) visit(path, [])
  return found
}
