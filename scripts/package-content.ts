/** What a packed package holds, and what it must not. */
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, posix } from 'node:path'

type Manifest = {
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>
  readonly bin: Readonly<Record<string, string>>
  readonly scripts?: Readonly<Record<string, string>>
  readonly dependencies?: Readonly<Record<string, string>>
  readonly os?: unknown
}

const wanted = [
  'LICENSE',
  'README.md',
  'CHANGELOG.md',
  'docs/limits.md',
  'schema/cook.config.json',
  'src/index.ts',
  'dist/bin/package.json',
]

/** All that a package may hold; a folder that gets in by mistake is not among it. */
const places =
  /^(dist\/(bundle|bin)\/|dist\/src\/.*\.d\.ts(\.map)?$|src\/.*\.tsx?$|docs\/.+\.(md|svg|png|json)$|schema\/.+\.json$|[A-Z]+(\.md)?$|package\.json$)/

/** Everything that is wrong with an unpacked package, in words. */
export function faultsOf(folder: string): readonly string[] {
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => posix.relative(folder, posix.join(entry.parentPath, entry.name)))
  const has = (path: string) => files.includes(posix.normalize(path))
  const named = [...Object.values(manifest.exports).flatMap((to) => Object.values(typeof to === 'string' ? [to] : to))]
  return [
    ...[...wanted, ...named, ...Object.values(manifest.bin)]
      .filter((path) => !has(path))
      .map((path) => `${path} is missing`),
    ...files.filter((path) => !places.test(path)).map((path) => `${path} does not belong there`),
    ...files.filter((path) => path.endsWith('.map')).flatMap((path) => lostSources(folder, path, has)),
    ...Object.keys(manifest.dependencies ?? {}).map((name) => `it depends on ${name}`),
    // Run on the machine of whoever installs it; npm 12 does not run them any more.
    ...['preinstall', 'install', 'postinstall']
      .filter((name) => manifest.scripts?.[name] !== undefined)
      .map((name) => `it has the script ${name}`),
    // With it, an installation on Windows would fail; there, the error comes at run time.
    ...(manifest.os === undefined ? [] : ['it has the field os']),
  ]
}

function lostSources(folder: string, map: string, has: (path: string) => boolean): string[] {
  const { sources, sourcesContent } = JSON.parse(readFileSync(join(folder, map), 'utf8')) as {
    readonly sources: readonly string[]
    readonly sourcesContent?: readonly unknown[]
  }
  if (sourcesContent !== undefined) return []
  return sources.filter((source) => !has(posix.join(dirname(map), source))).map((source) => `${map} names ${source}`)
}
