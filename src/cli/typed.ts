/** What was typed, for a child that does the same with the rights of another user. */

/** What this needs of a command of commander. */
type Typed = {
  readonly options: readonly { readonly long?: string | null | undefined; name(): string }[]
  name(): string
  on(event: string, hear: (value?: string | null) => void): unknown
}

let command = ''
let options: readonly (readonly [name: string, word: string])[] = []

/** Before commander reads the words of a command: each option is kept as it was typed. */
export function noteTyped(typed: Typed): void {
  command = typed.name()
  options = []
  for (const option of typed.options) {
    typed.on(`option:${option.name()}`, (value?: string | null) => {
      const word = value == null ? `${option.long}` : `${option.long}=${value}`
      options = [...options, [option.name(), word]]
    })
  }
}

export function typedCommand(): string {
  return command
}

/** But for those of these names. */
export function typedOptions(except: readonly string[] = []): readonly string[] {
  return options.filter(([name]) => !except.includes(name)).map(([, word]) => word)
}

export function isTyped(name: string): boolean {
  return options.some(([one]) => one === name)
}
