/** What `npm start` and its like run in the end, if that is Node with a file. */
import { needsShell, wordsOf } from './words.ts'

export type Package = { readonly scripts?: Readonly<Record<string, string>> }

export type NodeCommand = {
  readonly script: string
  readonly args: readonly string[]
  readonly nodeArgs: readonly string[]
  readonly env: Readonly<Record<string, string>>
}

/** Each starts a script of package.json in a process of its own. */
export const packageRunners: readonly string[] = ['npm', 'yarn', 'pnpm']

/** As many scripts may name each other. */
const deepest = 8

/** Options of Node whose value is the next word. */
const withValue = [
  ...['-r', '--require', '--import', '--loader', '--experimental-loader', '-C', '--conditions'],
  ...['--env-file', '--env-file-if-exists', '--title', '--stack-trace-limit', '--dns-result-order'],
]

/** Its command, or as a text why there is none and what is to be named instead. */
export function commandOf(words: readonly string[], manifest: Package | undefined, depth = 0): NodeCommand | string {
  const [runner = '', ...rest] = words
  const env: Record<string, string> = {}
  if (runner === 'cross-env') return commandOf(rest, manifest, depth)
  const [, variable, value = ''] = /^([A-Za-z_]\w*)=(.*)$/s.exec(runner) ?? []
  if (variable !== undefined) {
    const found = commandOf(rest, manifest, depth)
    return typeof found === 'string' ? found : { ...found, env: { [variable]: value, ...found.env } }
  }
  if (packageRunners.includes(runner)) return ofScript(runner, rest, manifest, depth)
  if (runner !== 'node') return otherText(words)
  let at = 0
  while (rest[at]?.startsWith('-') === true) at += withValue.includes(rest[at] ?? '') ? 2 : 1
  const [script, ...args] = rest.slice(at)
  return script === undefined ? otherText(words) : { script, args, nodeArgs: rest.slice(0, at), env }
}

function ofScript(runner: string, words: readonly string[], manifest: Package | undefined, depth: number) {
  const typed = [runner, ...words].join(' ')
  const [first = '', second = '', ...others] = words
  const isRun = first === 'run' || first === 'run-script'
  const name = isRun ? second : first
  const behind = isRun ? others : words.slice(1)
  const args = behind[0] === '--' ? behind.slice(1) : runner === 'npm' ? [] : behind
  const isPlain = name !== '' && !name.startsWith('-') && (behind.length === 0 || args.length > 0)
  if (!isPlain) return `${typed} starts a program in a child process; name the file that Node runs`
  const line = manifest?.scripts?.[name]
  if (line === undefined) return `${typed} runs the script "${name}", which package.json does not have`
  const found = needsShell(line) || depth >= deepest ? otherText([line]) : commandOf(wordsOf(line), manifest, depth + 1)
  if (typeof found !== 'string') return { ...found, args: [...found.args, ...args] }
  return depth > 0 ? found : `${typed} runs: ${line}\n${found}`
}

function otherText(words: readonly string[]): string {
  const [command = ''] = wordsOf(words[0] ?? '')
  const isBare = /^[\w@.-]+$/.test(command) && !['sh', 'bash', 'npx', 'node'].includes(command)
  const hint = isBare
    ? ` If ${command} is a program for Node, use script: 'node_modules/.bin/${command}' and put the rest in args`
    : ''
  return `It is not the command "node FILE": name the file that Node runs as script.${hint}`
}
