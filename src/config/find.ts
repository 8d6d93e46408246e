/** Which files are configurations, and which one lies in a folder. */
import { basename, join } from 'node:path'
import { fileAt } from '../node/stat.ts'
import { ConfigFault } from './service.ts'

const endings = ['.json', '.mjs', '.cjs', '.js']

/** Ours first; a file of PM2's that was left beside it is not looked at. */
export const known: readonly (readonly string[])[] = [
  endings.map((ending) => `cook.config${ending}`),
  endings.map((ending) => `ecosystem.config${ending}`),
  endings.map((ending) => `pm2.config${ending}`),
  ['process.json'],
]

/** By its name: it is no program and no service. */
export function isConfigName(word: string): boolean {
  const name = basename(word)
  return /\.config\.[cm]?js$/.test(name) || (name.endsWith('.json') && name !== 'package.json')
}

/** The one of a folder; undefined: there is none. */
export function findConfig(folder: string): string | undefined {
  for (const names of known) {
    const found = names.filter((name) => fileAt(join(folder, name)) !== undefined)
    if (found.length > 1) {
      throw new ConfigFault(
        `${folder} has ${found.length} of them: ${found.join(', ')}; name one, or remove the others`,
      )
    }
    if (found[0] !== undefined) return join(folder, found[0])
  }
  return undefined
}
