/** Where the preload is that makes a program upgradable which knows nothing of it. */
import { fileURLToPath } from 'node:url'

const fs = process.getBuiltinModule('node:fs')
const { dirname, join, resolve } = process.getBuiltinModule('node:path')

const within = 'dist/bundle/preload.cjs'

/**
 * An absolute path with its symlinks unresolved, so that each upgrade takes what is there then. The program's own copy goes before ours: two versions in one process would not get along.
 */
export function preloadPath(script: string): string | undefined {
  const candidates = [...packagesAbove(script), ...ownPackage(), fileURLToPath(new URL('../..', import.meta.url))]
  return candidates.map((folder) => join(folder, within)).find((file) => fs.existsSync(file))
}

function packagesAbove(file: string): string[] {
  const found: string[] = []
  for (let folder = dirname(file); ; folder = dirname(folder)) {
    found.push(join(folder, 'node_modules/cook-daemon'))
    if (folder === dirname(folder)) return found
  }
}

/** The package of this very command, by the path that was typed: node_modules/.bin/cook-daemon is a symlink in it, and one above it may be `current`. */
function ownPackage(): string[] {
  let file = process.argv[1]
  for (let steps = 0; file !== undefined && steps < 16; steps++) {
    const stat = fs.lstatSync(file, { throwIfNoEntry: false })
    if (stat?.isSymbolicLink() !== true) return [resolve(dirname(file), '../..')]
    file = resolve(dirname(file), fs.readlinkSync(file))
  }
  return []
}
