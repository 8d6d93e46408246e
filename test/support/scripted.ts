/** Unmodified programs whose lines a test gives as a function; they run in another process. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Program, type ProgramOptions } from './program.ts'

/** What the lines are given, by test/fixtures/programs/scripted.mjs. */
export type Given = {
  web(): import('node:http').Server
  serving(server: import('node:net').Server): void
  log(...words: unknown[]): void
  load(url: string): Promise<typeof import('cook-daemon')>
}
export type Lines = (given: Given) => unknown

/** Starts a program of these lines. */
export function start(lines: Lines, options: ProgramOptions = {}): Promise<Program> {
  return Program.start('scripted.mjs', { ...options, env: { ...options.env, LINES: linesOf(lines) } })
}

/** The next version runs these lines. */
export function deploy(program: Program, lines: Lines): void {
  writeFileSync(join(program.folder, 'deployed'), linesOf(lines))
}

function linesOf(lines: Lines): string {
  return `return (${lines})(given)`
}
