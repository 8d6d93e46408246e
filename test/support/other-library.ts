/** Libraries of other versions than the present one, for two processes that do not run the same. */
import { readFileSync } from 'node:fs'
import { basename } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = fileURLToPath(new URL('../../..', import.meta.url))

/** As it was frozen; its README says from which commit. */
export const protocol1 = `${root}test/fixtures/protocol-1/index.js`

/** By the name of a source file: pieces of its text, each of which is in it once, and what stands there instead. */
export type Changes = Readonly<Record<string, readonly (readonly [piece: string, instead: string])[]>>

/** The present library with another protocol, by number, and the oldest one that it speaks. */
export function speaking(protocol: number, oldest = 1): Changes {
  return {
    'protocol.ts': [
      ['export const protocolVersion = 1\n', `export const protocolVersion = ${protocol}\n`],
      ['export const oldestProtocol = 1\n', `export const oldestProtocol = ${oldest}\n`],
    ],
  }
}

/** Everything that a later protocol may add by its rules: fields, messages at each step, a kind of handle. None of it is known to the present one. */
export const additions: Changes = {
  'protocol.ts': [
    ['return { cmd, ...message }', 'return { cmd, later: { field: [1] }, ...message }'],
    ['JSON.stringify(start.link)', 'JSON.stringify({ ...start.link, later: { field: [1] } })'],
  ],
  'link.ts': [
    [
      'lend(() => send(toWire(message), undefined,',
      "lend(() => send({ ...toWire(message), type: 'later-' + message.type }, undefined, undefined, () => {}))\n$&",
    ],
    [
      'lend(() => send(toWire(message), socket,',
      "lend(() => send({ ...toWire(message), type: 'later-' + message.type }, undefined, undefined, () => {}))\n$&",
    ],
  ],
  'upgrading.ts': [
    // /dev/null, as something that only the later version can use.
    [
      'state.registry.pack()',
      "[...$&, { record: { name: 'later', kind: 'vsock', inode: process.getBuiltinModule('node:fs').fstatSync(0).ino, cid: 3 }, fd: 0 }]",
    ],
  ],
}

/** Builds the present library with changes; gives the file of it. */
export async function buildLibrary(file: string, ...changes: readonly Changes[]): Promise<string> {
  const done = new Set<string>()
  await build({
    entryPoints: [`${root}src/index.ts`],
    outfile: file,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    packages: 'external',
    logLevel: 'warning',
    plugins: [
      {
        name: 'changes',
        setup({ onLoad }) {
          onLoad({ filter: /\/src\/.*\.ts$/ }, ({ path }) => {
            const name = basename(path)
            const wanted = changes.flatMap((one) => one[name] ?? [])
            if (wanted.length > 0) done.add(name)
            return { contents: wanted.reduce(replaceOnce, readFileSync(path, 'utf8')), loader: 'ts' }
          })
        },
      },
    ],
  })
  const left = changes.flatMap((one) => Object.keys(one)).filter((name) => !done.has(name))
  if (left.length > 0) throw new Error(`there is no ${left.join(', ')} to change`)
  return file
}

/** The sources move on, and a change that changes nothing would prove nothing. */
function replaceOnce(text: string, [piece, instead]: readonly [string, string]): string {
  const parts = text.split(piece)
  if (parts.length !== 2) throw new Error(`${JSON.stringify(piece)} stands ${parts.length - 1} times in the source`)
  return parts.join(instead.replaceAll('$&', piece))
}
