/** Holds the shape of src/: who may import whom, and the few words that only one file may spell. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { version } from '../../src/version.ts'

const root = fileURLToPath(new URL('../../..', import.meta.url))

/** From the bottom up; what is on none of these stands on the roof: index, preload, ws, cli/. */
const floors = [
  ['errors.ts', 'error-texts.ts', 'defaults.ts', 'options.ts', 'contract/'],
  ['node/', 'version.ts', 'latch.ts', 'deadline.ts'],
  ['process/', 'listen/', 'service.ts', 'history.ts', 'report.ts', 'upgrade/', 'handover/', 'control/owner-files.ts'],
  ['daemon.ts', 'control/'],
  ['serve.ts', 'classic/', 'preload/'],
]

/** Loading one of these costs every program that uses the library a part of its boot: process.getBuiltinModule() when it is needed. */
const costly = ['http', 'https', 'http2', 'net', 'child_process', 'cluster'].map((name) => `node:${name}`)

const privateNode = ['_handle', 'getOwnPropertySymbols', 'kChannelHandle', 'process.binding']

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

test('a file imports only from its own floor and those below', () => {
  const upward = sources.flatMap(({ path, imports }) =>
    imports.filter(({ from }) => isOwn(from) && floorOf(from) > floorOf(path)).map(({ from }) => `${path} -> ${from}`),
  )
  assert.deepEqual(upward, [])
})

test('every import leads to a file that is there', () => {
  const known = new Set(sources.map(({ path }) => path))
  const lost = sources.flatMap(({ path, imports }) =>
    imports.filter(({ from }) => isOwn(from) && !known.has(from)).map(({ from }) => `${path} -> ${from}`),
  )
  assert.deepEqual(lost, [])
})

// Types that know of each other are one thought in two files; values that do depend on the order of loading.
test('no file imports itself through others', () => {
  assert.deepEqual(cycles(), [])
})

test('the lowest floor is pure: it loads no part of Node and does not look at the process', () => {
  const impure = sources
    .filter(({ path }) => floorOf(path) === 0)
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

test('the library imports nothing but itself and Node', () => {
  // ws is the peer dependency of cook-daemon/ws, and of no other file.
  const foreign = sources.flatMap(({ path, imports }) =>
    imports
      .filter(
        ({ from }) =>
          !isOwn(from) &&
          !from.startsWith('node:') &&
          !(from === 'ws' && floorOf(path) === floors.length) &&
          // Bundled into the command.
          !(from === 'commander' && path === 'cli/commands.ts'),
      )
      .map(({ from }) => `${path} -> ${from}`),
  )
  assert.deepEqual(foreign, [])
})

test('only node/sockets.ts touches private parts of Node', () => {
  const touching = sources
    .filter(({ path }) => path !== 'node/sockets.ts')
    .flatMap(({ path, code }) => privateNode.filter((word) => code.includes(word)).map((word) => `${path}: ${word}`))
  assert.deepEqual(touching, [])
})

test('only contract/messages.ts spells the name of an environment variable of ours', () => {
  const spelling = sources
    .filter(({ path }) => path !== 'contract/messages.ts')
    .flatMap(({ path, code }) => (code.match(/\bCOOK_DAEMON_[A-Z]\w*/g) ?? []).map((name) => `${path}: ${name}`))
  assert.deepEqual(spelling, [])
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
    .filter((path) => path.endsWith('.ts'))
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

/** `import { type A } from 'x'` still loads x (verbatimModuleSyntax keeps the statement), so only `import type` counts as that. */
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
  return from.endsWith('.ts')
}

/** A file that is named itself counts before its folder: control/owner-files.ts lies lower than the rest of control/. */
function floorOf(path: string): number {
  const named = floors.findIndex((floor) => floor.includes(path))
  const found =
    named >= 0 ? named : floors.findIndex((floor) => floor.some((one) => one.endsWith('/') && path.startsWith(one)))
  return found >= 0 ? found : floors.length
}

function cycles(): readonly string[] {
  const found: string[] = []
  const done = new Set<string>()
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) found.push([...trail.slice(trail.indexOf(path)), path].join(' -> '))
    if (trail.includes(path) || done.has(path)) return
    const { imports = [] } = sources.find((source) => source.path === path) ?? {}
    for (const { from, typeOnly } of imports) if (isOwn(from) && !typeOnly) visit(from, [...trail, path])
    done.add(path)
  }
  for (const { path } of sources) visit(path, [])
  return found
}
