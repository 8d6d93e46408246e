/** What is typed in the place of a program, or of an option of Node, and what to type instead. */
import { closeSync, existsSync, openSync, readFileSync, readSync, type Stats, statSync } from 'node:fs'
import { basename, dirname, extname, join } from 'node:path'
import { known } from '../config/find.ts'
import { scriptEndings } from '../process/command.ts'
import { UsageError } from './output.ts'

/** Each starts the program in a process of its own, which is the one that would be upgraded. */
const runners = [
  'npm',
  'npx',
  'yarn',
  'pnpm',
  'bun',
  'node',
  'tsx',
  'ts-node',
  'ts-node-dev',
  'nodemon',
  'pm2',
  'sh',
  'bash',
]

const configuration = ['.json', '.yml', '.yaml', '.toml']

/** Throws a `UsageError` for a script that Node cannot run as a program that is upgraded. */
export function checkScript(typed: string, file: string, args: readonly string[]): void {
  const found = existing(file)
  if (found === undefined) {
    throw new UsageError(
      runners.includes(typed) ? runnerText(typed, args) : `there is no program ${file}${besideText(typed, file)}`,
    )
  }
  if (found.isDirectory()) {
    checkFolder(file)
    return
  }
  if (/^(ecosystem|pm2)\.config\.[cm]?js$/.test(basename(file)) || configuration.includes(extname(file))) {
    throw new UsageError(
      `${file} is a configuration file, not a program.\nStart the script that it names: cook-daemon start SCRIPT --name NAME`,
    )
  }
  const kind = kindOf(file)
  if (kind !== undefined) {
    throw new UsageError(`${file} is ${kind}, not a program for Node.${instead(dirname(file), 'start')}`)
  }
}

/** A service of a configuration is named behind it. */
function besideText(typed: string, file: string): string {
  const found = known.flat().find((name) => existsSync(join(dirname(file), name)))
  return found === undefined ? '' : `\nFor a service of ${found}: cook-daemon start ${found} ${typed}`
}

/** Options with which Node does not run the program, or runs it in another process. */
const refusedNodeOptions: Readonly<Record<string, string>> = {
  '--watch': 'restarts the program in a child process; use cook-daemon upgrade after a change',
  '--watch-path': 'restarts the program in a child process; use cook-daemon upgrade after a change',
  '--test': 'runs tests in child processes',
  '--eval': 'runs code from the command line instead of the program',
  '-e': 'runs code from the command line instead of the program',
  '--print': 'runs code from the command line instead of the program',
  '-p': 'runs code from the command line instead of the program',
  '--run': 'runs a script of package.json in a child process instead of the program',
  '--check': 'does not run the program',
  '-c': 'does not run the program',
  '--interactive': 'opens a prompt',
  '-i': 'opens a prompt',
  '--help': 'does not run the program',
  '-h': 'does not run the program',
  '--version': 'does not run the program',
  '-v': 'does not run the program',
}

/** Throws a `UsageError` for an option of Node that a daemon cannot have. */
export function checkNodeArgs(nodeArgs: readonly string[]): void {
  for (const arg of nodeArgs) {
    const [option = ''] = arg.split('=')
    const why = refusedNodeOptions[option]
    if (why !== undefined) throw new UsageError(`--node-arg ${option} cannot be used: it ${why}`)
  }
}

function existing(file: string): Stats | undefined {
  return scriptEndings
    .map((ending) => statSync(file + ending, { throwIfNoEntry: false }))
    .find((stat) => stat !== undefined)
}

function checkFolder(folder: string): void {
  const { main } = readPackage(folder)
  if (existing(join(folder, 'index')) !== undefined) return
  if (main !== undefined && existing(join(folder, main)) !== undefined) return
  throw new UsageError(
    `${folder} is a folder with neither an index.js nor a main in its package.json.${instead(folder, 'start')}`,
  )
}

function runnerText(typed: string, args: readonly string[]): string {
  const text = `${typed} cannot be upgraded: it starts the program in a child process.`
  // "npm start", "npm run prod", "yarn prod".
  const [first = 'start', second = 'start'] = args
  const name = first === 'run' || first === 'run-script' ? second : first
  return text + instead(process.cwd(), name)
}

/** What the script of a package runs, which is what is to be started. */
function instead(folder: string, name: string): string {
  const script = readPackage(folder).scripts?.[name]
  if (script === undefined) return '\nStart the file that Node runs: cook-daemon start dist/server.js'
  const [, file, rest] = /^node\s+([^-\s]\S*)\s*(.*)$/.exec(script) ?? []
  const said = `\nThe script "${name}" of its package.json is: ${script}`
  if (file === undefined) return `${said}\nStart the file that Node runs in the end, for example one in node_modules`
  return `${said}\nSo: cook-daemon start ${file}${rest === '' ? '' : ` -- ${rest}`}`
}

type Package = { readonly main?: string; readonly scripts?: Readonly<Record<string, string>> }

function readPackage(folder: string): Package {
  try {
    return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) ?? {}
  } catch {
    // None, or none that can be read: it would only have made the hint better.
    return {}
  }
}

/** By its first bytes. */
function kindOf(file: string): string | undefined {
  const start = firstBytes(file)
  if (start.startsWith('\x7fELF')) return 'a binary'
  const [, interpreter] = /^#![ \t]*(\S+(?:[ \t]+\S+)?)/.exec(start) ?? []
  return interpreter === undefined || /node|bun|deno|tsx/.test(interpreter) ? undefined : `a script for ${interpreter}`
}

function firstBytes(file: string): string {
  try {
    const fd = openSync(file, 'r')
    try {
      const bytes = Buffer.alloc(80)
      return bytes.toString('latin1', 0, readSync(fd, bytes, 0, bytes.length, 0))
    } finally {
      closeSync(fd)
    }
  } catch {
    // Node tells why it cannot be read.
    return ''
  }
}
