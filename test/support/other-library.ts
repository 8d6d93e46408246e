/** The present library with other protocols, for two processes that do not run the same. */
import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const bundle = fileURLToPath(new URL('../../bundle', import.meta.url))

/**
 * Copies the bundle with its protocol, and the oldest that it speaks, as many versions after the
 * present one; gives the file to import.
 */
export function copyLibrary(folder: string, later: { readonly protocol: number; readonly oldest: number }): string {
  cpSync(bundle, folder, { recursive: true })
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  const file = join(folder, 'shared.js')
  const text = readFileSync(file, 'utf8')
  const [, present] = /\bprotocolVersion=(\d+)/.exec(text) ?? []
  const numbers = {
    protocolVersion: Number(present) + later.protocol,
    oldestProtocol: Number(present) + later.oldest,
  }
  writeFileSync(file, Object.entries(numbers).reduce(replaceOnce, text))
  return join(folder, 'index.js')
}

/** The bundle moves on, and a change that changes nothing would prove nothing. */
function replaceOnce(text: string, [name, number]: readonly [string, number]): string {
  const parts = text.split(new RegExp(`\\b${name}=\\d+`))
  if (parts.length !== 2) throw new Error(`${name} is set ${parts.length - 1} times in the bundle`)
  return parts.join(`${name}=${number}`)
}
