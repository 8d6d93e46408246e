/**
 * Options of Node without what opens an inspector: a successor with the same port could not open
 * it, and an open debugger must not be handed on.
 */

/** Node takes `_` for `-`. Those with a value have it in the next word, if not behind a `=`. */
const opens = /^--(inspect|inspect-brk|inspect-brk-node|inspect-wait|debug|debug-brk)(=|$)/
const takesValue = /^--(inspect-port|debug-port|inspect-publish-uid)(=|$)/

/** Of a list of arguments. */
export function withoutInspector(args: readonly string[]): string[] {
  const { isInspectors } = judge()
  return args.filter((arg) => !isInspectors(arg))
}

/**
 * An environment without what would open an inspector: those words alone are taken out of
 * `NODE_OPTIONS`, with the spaces before them. The rest stays byte for byte.
 */
export function withoutInspectorIn(
  env: Readonly<Record<string, string | undefined>>,
): Readonly<Record<string, string | undefined>> {
  const { NODE_OPTIONS: text } = env
  if (text === undefined) return env
  const { isInspectors } = judge()
  // As Node splits it (ParseNodeOptionsEnvVar of src/node_options.cc): at spaces alone, not in
  // double quotes, in which a backslash stands before a character that means itself.
  const kept = text.replace(/ *((?:[^ "]|"(?:\\.|[^"\\])*"?)+)/gsu, (whole, word: string) => {
    const value = word.replace(/"((?:\\.|[^"\\])*)"?/gsu, (_, inner: string) => inner.replace(/\\(.)/gsu, '$1'))
    return isInspectors(value) ? '' : whole
  })
  // Behind a first word that is gone there are spaces, which mean nothing.
  return kept === text ? env : { ...env, NODE_OPTIONS: text.startsWith(' ') ? kept : kept.replace(/^ +/, '') }
}

/** Asked of each word in turn. */
function judge() {
  let isValue = false
  return {
    isInspectors(word: string): boolean {
      // Two quotes and nothing in them are no word for Node.
      if (word === '') return false
      const wasValue = isValue
      const name = word.replace(/^--[^=]*/, (option) => `--${option.slice(2).replaceAll('_', '-')}`)
      isValue = !wasValue && takesValue.test(name) && !name.includes('=')
      return wasValue || opens.test(name) || takesValue.test(name)
    },
  }
}
