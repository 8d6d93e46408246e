/** A line of a shell as words, as far as it needs no shell. */

/** By spaces, with quotes taken off. */
export function wordsOf(line: string): string[] {
  return [...line.matchAll(/(?:[^\s"']+|"[^"]*"|'[^']*')+/g)].map(([word]) =>
    word.replace(/"([^"]*)"|'([^']*)'/g, (_, double?: string, single?: string) => double ?? single ?? ''),
  )
}

/** Whether only a shell understands it: it joins, redirects or replaces. */
export function needsShell(line: string): boolean {
  return /[;&|<>$`*?(){}\\\n]/.test(line)
}
