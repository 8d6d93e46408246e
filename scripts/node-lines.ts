/** The supported lines of Node, and where their binaries are. */
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const lines = ['20', '22', '24', '26']

export const root = fileURLToPath(new URL('../..', import.meta.url))
export const cache = join(root, 'node_modules/.cache')

/**
 * The binary of a line: the running one for its own, else the one in the package that npm has for
 * this platform.
 */
export function nodeBinary(line: string): string {
  if (process.versions.node.startsWith(`${line}.`)) return process.execPath
  const name = `node-${process.platform}-${process.arch}`
  const folder = join(cache, `node-${line}`)
  const binary = join(folder, 'node_modules', name, 'bin/node')
  if (!existsSync(binary)) {
    mkdirSync(folder, { recursive: true })
    const flags = ['--ignore-scripts', '--no-save', '--no-audit', '--no-fund', '--loglevel=error']
    spawnSync('npm', ['install', ...flags, '--prefix', folder, `${name}@${line}`], { stdio: ['ignore', 2, 2] })
  }
  if (!versionOf(binary).startsWith(`${line}.`))
    throw new Error(`no Node ${line} in ${binary}; npm should have put it there`)
  return binary
}

export function versionOf(binary: string): string {
  return spawnSync(binary, ['--version'], { encoding: 'utf8' }).stdout?.trim().slice(1) ?? ''
}
