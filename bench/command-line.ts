/** The command that made a result, as it stands in the result. */

/** Without the place of the result, which is nobody else's. */
export function commandLine(name: string): string {
  const args = process.argv.slice(2).filter((arg, at, all) => arg !== '--output' && all[at - 1] !== '--output')
  return [`npm run ${name}`, ...(args.length > 0 ? ['--', ...args] : [])].join(' ')
}
