/** What makes a version of a program no good, and what each that is proved has before it. */
import { join } from 'node:path'
import { envProveVersion } from '../contract/environment.ts'
import { ownPackage } from './program.ts'

/** What a version does that is no good, before its program begins. */
const faults = {
  exits: 'process.exit(3)',
  hangs: 'setInterval(() => {}, 1e6); await new Promise(() => {})',
  crashes: "process.kill(process.pid, 'SIGSEGV'); await new Promise(() => {})",
} as const

export type Kind = 'good' | keyof typeof faults

const course: readonly Kind[] = ['good', 'exits', 'good', 'hangs', 'good', 'crashes']

/** Of an upgrade, counted from 0. */
export function kindOf(at: number): Kind {
  return course[at % course.length] ?? 'good'
}

export type Environment = Readonly<Record<string, string | undefined>>

/** `version`: its answers say that they come from this one. */
export function environmentOf(kind: Kind, environment: Environment, version: number | undefined): Environment {
  const before = environment.NODE_OPTIONS === undefined ? [] : [environment.NODE_OPTIONS]
  // Not --import, by which Node's loader of ES modules would load the program too, and know less.
  const proved = `--require ${quoted(join(ownPackage(), 'dist/bundle/proved.cjs'))}`
  const harm = kind === 'good' ? [] : [`--import=data:text/javascript,${encodeURIComponent(faults[kind])}`]
  return {
    ...environment,
    NODE_OPTIONS: [...before, proved, ...harm].join(' '),
    [envProveVersion]: version === undefined ? '' : String(version),
  }
}

/** As Node reads a word of NODE_OPTIONS. */
function quoted(path: string): string {
  return `"${path.replace(/["\\]/g, '\\$&')}"`
}
