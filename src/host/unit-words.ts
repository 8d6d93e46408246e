/** How words stand in a unit, by the rules of systemd.syntax(7) and systemd.service(5). Pure. */

/** What cannot stand in a unit. */
export class UnitFault extends Error {}

/**
 * A command line. The first word is a path: in it systemd replaces no `$`, and takes no quotes and
 * no backslash, however they are written.
 */
export function execLine([program = '', ...args]: readonly string[]): string {
  if (/["'\\]/.test(program)) throw new UnitFault(`${program} contains a quote or a backslash: systemd cannot start it`)
  return [quoted(withPercents(program)), ...args.map((arg) => quoted(withPercents(arg).replaceAll('$', '$$$$')))].join(
    ' ',
  )
}

/** The rest of a line, in which no quotes are taken off. */
export function value(text: string): string {
  demandPlain(text)
  // Spaces around it would be lost, and a backslash at the end takes the next line along.
  if (text !== text.trim() || text.endsWith('\\')) {
    throw new UnitFault(`${JSON.stringify(text)} begins or ends with a character that a unit cannot contain`)
  }
  return text.replaceAll('%', '%%')
}

/** `%` begins a specifier. */
function withPercents(word: string): string {
  demandPlain(word)
  return word.replaceAll('%', '%%')
}

function quoted(word: string): string {
  return /^[\w@:=,./+$%-]+$/.test(word) ? word : `"${word.replace(/["\\]/g, '\\$&')}"`
}

function demandPlain(text: string): void {
  if (!/[\p{Cc}\p{Noncharacter_Code_Point}]/u.test(text)) return
  throw new UnitFault(
    `${JSON.stringify(text)} contains a line break or another control character, which a unit cannot contain`,
  )
}
