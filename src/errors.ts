/** What this library throws: an error with a code. The texts are in error-texts.ts. */
import { type errorTexts, textOf } from './error-texts.ts'

/** The code of every error that this library throws. Match on it: codes stay, texts may change. */
export type CookErrorCode = keyof typeof errorTexts

type Placeholders<Text extends string> = Text extends `${string}{${infer Name}}${infer Rest}`
  ? Name | Placeholders<Rest>
  : never

/** The values that the text of an error names. */
export type CookErrorValues<Code extends CookErrorCode> = Readonly<
  Record<Placeholders<(typeof errorTexts)[Code]['text']>, string | number>
>

/**
 * The mark by which one copy of this library in a process knows the errors of another: the preload
 * is one, what the program imports another.
 */
const mark = Symbol.for('cook-daemon.CookError')

/**
 * What this library throws and rejects with: a stable `code`, a text that says what failed, why,
 * and who serves now, and `help`, what to do about it.
 */
export class CookError<Code extends CookErrorCode = CookErrorCode> extends Error {
  /**
   * True for an error of any copy of this library in the process: the preload brings one of its
   * own.
   */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return typeof value === 'object' && value !== null && mark in value
  }

  /** Always `CookError`. */
  override readonly name = 'CookError'
  /** What went wrong, for programs: it stays the same, whatever becomes of the text. */
  readonly code: Code
  /** What to do about it, in a sentence or two. */
  readonly help: string
  /** The values in the text, for programs: `pid`, `reason`, … (see docs/errors.md). */
  readonly values: CookErrorValues<Code>

  /** The library makes these; a program only catches them. */
  constructor(
    code: Code,
    values: CookErrorValues<Code>,
    options?: { readonly cause?: unknown; readonly help?: string | undefined },
  ) {
    const { text, help } = textOf(code, values)
    super(text, options)
    this.code = code
    this.help = options?.help ?? help
    this.values = values
    Object.defineProperty(this, mark, { value: true })
  }
}

/** The text of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}

/**
 * As an uncaught exception of its own, in a turn of its own: nothing of ours is kept from going on
 * by it.
 */
export function throwLater(error: unknown): void {
  setImmediate(() => {
    throw error
  })
}
