/** `cook-daemon prove` as somebody types it; what it has started ends with it, also if it is late. */
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { text } from 'node:stream/consumers'
import type { Ended, Operator } from './command.ts'
import type { Lab } from './lab.ts'
import { within } from './waiting.ts'

/** Its load takes what the machine has, so that all else there is slow. */
const deadline = 120_000

export async function proves(lab: Lab, operator: Operator, args: readonly string[], env = {}): Promise<Ended> {
  const child = operator.begins(['prove', ...args], { env: { ...inLab(lab).env, ...env } })
  if (child.stdout === null || child.stderr === null) throw new Error('it has no output')
  const [stdout, stderr] = [text(child.stdout), text(child.stderr)]
  const ended = once(child, 'close')
  try {
    const [code] = await within(`the verdict of prove ${args.join(' ')}`, ended, deadline)
    return { code, stdout: await stdout, stderr: await stderr }
  } catch (error) {
    child.kill('SIGTERM')
    await within('the end of prove', ended)
    throw error
  }
}

/** Its folders are in that of the lab. */
export function inLab(lab: Lab) {
  return { env: { TMPDIR: lab.folder } }
}

export function leftIn(lab: Lab): string[] {
  return readdirSync(lab.folder).filter((name) => name.startsWith('cook-prove'))
}
