/** The present library with other protocols, for two processes that do not run the same. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { oldestProtocol, protocolVersion } from '../../src/contract/protocol.ts'

const sources = fileURLToPath(new URL('../../../src', import.meta.url))

/**
 * Bundles the library with its protocol, and the oldest that it speaks, as many versions after the
 * present one; gives the file to import.
 */
export async function copyLibrary(
  folder: string,
  later: { readonly protocol: number; readonly oldest: number },
): Promise<string> {
  const outfile = join(folder, 'index.js')
  await build({
    entryPoints: [join(sources, 'index.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    plugins: [
      {
        name: 'another-protocol',
        setup(building) {
          building.onLoad({ filter: /contract\/protocol\.ts$/ }, ({ path }) => {
            let contents = readFileSync(path, 'utf8')
            contents = replaceOnce(contents, 'protocolVersion', protocolVersion + later.protocol)
            contents = replaceOnce(contents, 'oldestProtocol: number', oldestProtocol + later.oldest)
            return { contents, loader: 'ts' }
          })
        },
      },
    ],
  })
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }')
  return outfile
}

/** A change that changes nothing would prove nothing. */
function replaceOnce(text: string, name: string, number: number): string {
  const parts = text.split(new RegExp(`\\b${name} = \\d+`))
  if (parts.length !== 2) throw new Error(`${name} is set ${parts.length - 1} times`)
  return parts.join(`${name} = ${number}`)
}
