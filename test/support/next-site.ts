/**
 * A Next.js site, built as its documentation says. Next.js is too large to be installed with this
 * package (400 MB with its compiler): it is installed, and the site built, when a test asks for it
 * first, and kept.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const versions = { next: '16.4.6', react: '19.3.1', 'react-dom': '19.3.1' }

/** Time for each step, in milliseconds. */
const limit = 240_000

const root = fileURLToPath(new URL('../../..', import.meta.url))
const sources = join(root, 'test/fixtures/next')
const folder = join(root, `node_modules/.cache/next-${versions.next}`)

/** The script of its server, or why it cannot be installed. Throws if the site cannot be built. */
export function nextServer(): { readonly server: string } | { readonly why: string } {
  const server = join(folder, '.next/standalone/server.js')
  const built = join(folder, 'built')
  const wanted = JSON.stringify([versions, textsIn(sources)])
  if (existsSync(built) && readFileSync(built, 'utf8') === wanted) return { server }
  mkdirSync(folder, { recursive: true })
  // Its compiler is an optional package for each platform; it needs none of the others that are
  // optional.
  const compiler = `@next/swc-${process.platform}-${process.arch}${process.platform === 'linux' ? '-gnu' : ''}`
  if (!existsSync(join(folder, 'node_modules', compiler))) {
    const dependencies = { ...versions, [compiler]: versions.next }
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ private: true, dependencies }))
    const flags = ['--omit=optional', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error']
    const why = fault('npm', ['install', ...flags])
    if (why !== undefined) return { why: `Next.js cannot be installed here: ${why}` }
  }
  for (const name of ['app', 'next.config.mjs', '.next', 'built']) {
    rmSync(join(folder, name), { recursive: true, force: true })
  }
  cpSync(sources, folder, { recursive: true })
  const why = fault(process.execPath, ['node_modules/next/dist/bin/next', 'build'])
  if (why !== undefined) throw new Error(`the site cannot be built: ${why}`)
  writeFileSync(built, wanted)
  return { server }
}

/** Why a command failed, in its own last words. */
function fault(command: string, args: readonly string[]): string | undefined {
  const { NODE_OPTIONS: _, ...env } = process.env
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: folder,
    env: { ...env, NODE_ENV: 'production', NEXT_TELEMETRY_DISABLED: '1', NODE_DISABLE_COMPILE_CACHE: '1', CI: '1' },
    encoding: 'utf8',
    timeout: limit,
  })
  if (status === 0) return undefined
  return error?.message ?? `${stdout}${stderr}`.trim().split('\n').slice(-5).join(' ')
}

function textsIn(place: string): string[] {
  return readdirSync(place, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort()
    .map((file) => readFileSync(file, 'utf8'))
}
