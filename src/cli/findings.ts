/** What `doctor` finds, each with what to do about it, and how it is printed. */
import { exitCodes, paint, print, printJson } from './output.ts'

/** A `note` may be as it should be, which only its operator knows. */
export type Level = 'ok' | 'note' | 'warning' | 'fault'

/** How it is, and what to do about it. */
export type Found = readonly [level: Level, text: string, help?: string]

export type Finding = {
  /** `machine`, or the name of a service. */
  readonly of: string
  readonly check: string
  readonly level: Level
  readonly text: string
  readonly help?: string
}

/** Undefined: there is nothing to say. */
export function finding(of: string, check: string, found: Found | undefined): readonly Finding[] {
  if (found === undefined) return []
  const [level, text, help] = found
  return [{ of, check, level, text, ...(help !== undefined && { help }) }]
}

const signs = { ok: ['✓', 'green'], note: ['i', 'bold'], warning: ['!', 'yellow'], fault: ['✗', 'red'] } as const

/** Exit code 1 says that there is something to mend. */
export function printFindings(all: readonly Finding[], json: boolean): number {
  const bad = all.filter(({ level }) => level === 'warning' || level === 'fault')
  if (json) printJson(all)
  else print([...textOf(all), '', verdict(bad.length)].join('\n'))
  return bad.length === 0 ? exitCodes.done : exitCodes.failed
}

function verdict(bad: number): string {
  if (bad === 0) return paint('green', 'No problems found.')
  return paint('red', `${bad} ${bad === 1 ? 'problem' : 'problems'} found.`)
}

function textOf(all: readonly Finding[]): string[] {
  const width = Math.max(...all.map(({ check }) => check.length))
  return [...new Set(all.map(({ of }) => of))].flatMap((of) => [
    paint('bold', of),
    ...all.filter((one) => one.of === of).flatMap((one) => linesOf(one, width)),
  ])
}

function linesOf({ check, level, text, help }: Finding, width: number): string[] {
  const [sign, colour] = signs[level]
  const first = `  ${paint(colour, sign)} ${check.padEnd(width)}  ${text}`
  return help === undefined ? [first] : [first, `    ${' '.repeat(width)}  ${paint('dim', help)}`]
}
