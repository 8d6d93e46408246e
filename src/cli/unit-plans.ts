/** What a unit runs, by paths that stay right after a deploy, and what keeps it from that. */
import { existsSync, readdirSync, realpathSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { clientOf } from '../control/client.ts'
import type { Status } from '../control/status.ts'
import type { UnitPlan } from '../host/unit.ts'
import type { ServiceRecord } from '../keeper/plan.ts'
import { typedCommand } from '../keeper/release.ts'
import { attempt } from '../node/sessions.ts'
import { defaults, withoutUndefined } from '../options.ts'
import { runDirectory } from '../process/run-dir.ts'
import { described, type Found } from './described.ts'
import { note, UsageError } from './output.ts'
import { type Program, packageFile, programOf, type StartOptions } from './program.ts'
import { knownOptions, optionWords, type UnitOptions } from './unit-options.ts'
import { hasLowPort, socketsOf } from './unit-sockets.ts'
import { demandReadable, unitUser } from './unit-user.ts'
import { isSameScript, tellDoubts } from './what-runs.ts'

export async function planOfScript(script: string, args: readonly string[], options: UnitOptions): Promise<UnitPlan> {
  const program = programOf(script, args, startOptions(options))
  return planOf(program, options, { ...wordsOf(program, options), args })
}

/** A service that is known runs as it was started last. */
export async function planOfKnown({ plan, release }: ServiceRecord, options: UnitOptions): Promise<UnitPlan> {
  const { name, program: record } = plan
  const command = release === undefined ? plan.command : typedCommand(release)
  const all = { ...knownOptions(command, record, plan.options), ...options, name }
  const [script = '', ...args] = command.args
  const program = programOf(script, args, startOptions(all))
  if (record.logFile !== undefined) note(`${name}: its output goes to the journal, not to ${record.logFile}`)
  tellEnvironment(name, release.environment)
  return planOf(program, all, { ...wordsOf(program, all), args })
}

export async function plansOfFile(found: Found, options: UnitOptions) {
  const { env, socket } = options
  if (Array.isArray(socket) && found.services.length > 1) {
    throw new UsageError('--socket with an address is for one service: name it after the configuration')
  }
  const { name: _, uid, gid, socket: __, ...typed } = options
  const plans: UnitPlan[] = []
  const refused: string[] = []
  for (const one of described(found, startOptions(typed))) {
    if ('refused' in one) {
      refused.push(`${one.name} gets no unit: ${one.refused}`)
      continue
    }
    const { name, program } = one
    const said = { uid: one.options.uid, gid: one.options.gid }
    if (said.uid !== undefined && uid !== undefined && uid !== said.uid) {
      throw new UsageError(`--uid ${uid}: ${found.file} already sets uid ${said.uid} for ${name}`)
    }
    const words = [...(env === undefined ? [] : ['--env', env]), ...optionWords(typed)]
    plans.push(
      await planOf(program, withoutUndefined({ ...options, uid: said.uid ?? uid, gid: said.gid ?? gid }), {
        run: ['run', found.file, name, '--keep', ...words],
        reload: ['upgrade', found.file, name, '--update-env', ...words],
        file: found.file,
        isNodeNamed: one.isNodeNamed,
      }),
    )
  }
  return { plans, refused }
}

type Words = {
  readonly run: readonly string[]
  readonly reload: readonly string[]
  /** Of the program. */
  readonly args?: readonly string[]
  /** The configuration, which may say with which Node it runs. */
  readonly file?: string
  readonly isNodeNamed?: boolean
}

/** Its options are kept by the keeper: an upgrade needs its name alone. */
function wordsOf({ name, command }: Program, options: UnitOptions): Pick<Words, 'run' | 'reload'> {
  const { args, cwd } = command
  return {
    run: ['run', String(args[0]), '--name', name, '--keep', '--cwd', cwd, ...optionWords(options)],
    reload: ['upgrade', name, '--update-env'],
  }
}

async function planOf(program: Program, options: UnitOptions, words: Words): Promise<UnitPlan> {
  const { name, command, record } = program
  const [script = ''] = command.args
  const bin = packageFile(script, 'dist/bin/cook-daemon.js')
  if (bin === undefined) throw new Error('the command is not in the package of cook-daemon: install it again')
  const node = options.node === undefined ? stableNode() : command.execPath
  const paths = [node, bin, script, command.cwd, ...(words.file === undefined ? [] : [words.file])]
  checkPlaces(paths)
  const user = unitUser(script, options)
  const running = await runningOf(program)
  const sockets = socketsOf(name, options.socket, running)
  tellDoubts(name, program)
  demandReadable(user, { ...command, execPath: node }, bin, paths)
  const link = linkTo(command.cwd)
  if (link !== undefined) {
    note(
      `the unit runs ${command.cwd}, so a deploy that switches ${link.path} has no effect on it. To follow the symlink: --cwd ${link.through}`,
    )
  }
  const { readyTimeout, drainTimeout, lameDuck } = { ...defaults, ...record }
  // Kept as it is typed, so that an upgrade follows a symlink there.
  const isSaid = options.node !== undefined || (words.isNodeNamed !== true && realpathSync(node) !== node)
  const own = isSaid ? ['--node', node] : []
  const { args = [] } = words
  const rest = args.length === 0 ? [] : ['--', ...args]
  return {
    ...{ name, user, sockets, times: { readyTimeout, drainTimeout, lameDuck, overlap: record.overlap ?? 0 } },
    run: [node, bin, ...words.run, ...own, ...rest],
    reload: [node, bin, ...words.reload],
    isInHome: paths.some(isInHome),
    hasLowPort: running && hasLowPort(running.listeners),
  }
}

/** As `start` takes them. */
function startOptions({
  workers: _,
  userManager: __,
  socket: ___,
  uid: ____,
  gid: _____,
  ...others
}: UnitOptions): StartOptions {
  return others
}

/** That of this command, by a path that stays the same when another version is installed. */
function stableNode(): string {
  const { execPath } = process
  const isOwn = (path: string) => existsSync(path) && realpathSync(path) === realpathSync(execPath)
  return ['/usr/local/bin/node', '/usr/bin/node'].find(isOwn) ?? execPath
}

/** How far above a release the link to it lies. */
const levels = 2

/**
 * A symlink that leads to a folder or one above it, beside it or further up: npm and deploy agents
 * forget that it was typed.
 */
function linkTo(folder: string) {
  if (realpathSync(folder) !== folder) return undefined
  for (let at = folder; at !== dirname(at); at = dirname(at)) {
    for (let place = dirname(at), level = 0; level < levels && place !== '/'; place = dirname(place), level++) {
      const path = linksIn(place).find((one) => attempt(() => realpathSync(one)) === at)
      if (path !== undefined) return { path, through: join(path, relative(at, folder)) }
    }
  }
  return undefined
}

function linksIn(folder: string): readonly string[] {
  const entries = attempt(() => readdirSync(folder, { withFileTypes: true })) ?? []
  return entries.filter((entry) => entry.isSymbolicLink()).map(({ name }) => join(folder, name))
}

const cleaned = ['/tmp', '/var/tmp', '/dev/shm']

/** Refuses what will be gone. */
function checkPlaces(paths: readonly string[]): void {
  for (const path of paths.flatMap((one) => [one, realpathSync(one)])) {
    const folder = cleaned.find((one) => path.startsWith(`${one}/`))
    if (folder !== undefined) {
      throw new UsageError(
        `${path} is in ${folder}, which is cleaned up and which the unit cannot see: move it to a permanent folder, for example below /srv`,
      )
    }
    if (path.split('/').includes('_npx')) {
      throw new UsageError(
        `${path} is in the npx cache, which npm empties: install it with the program (npm install cook-daemon)`,
      )
    }
  }
}

function isInHome(path: string): boolean {
  return [path, realpathSync(path)].some((one) => /^\/(home|root|run\/user)\//.test(`${one}/`))
}

/** The service of this name, if it runs this program. */
async function runningOf({ name, command }: Program): Promise<Status | undefined> {
  const folder = attempt(() => runDirectory(process.env))
  if (folder === undefined) return undefined
  const running = await clientOf(folder, name)
    .status()
    .catch(() => undefined)
  return running !== undefined && isSameScript(running.command, command) ? running : undefined
}

/** What every shell has, or says for itself. */
const usual =
  /^(PATH|HOME|USER|LOGNAME|SHELL|PWD|OLDPWD|SHLVL|_|LANG|LANGUAGE|MAIL|DISPLAY|HOSTNAME|EDITOR|PAGER|COLORTERM|LS_COLORS|INVOCATION_ID|JOURNAL_STREAM)$|^(LC|TERM|SSH|XDG|SUDO|DBUS|LESS|HIST|SYSTEMD|COOK_DAEMON|NODE_APP|npm|NVM)_?/

/** By their names: their values may be secrets. */
function tellEnvironment(name: string, environment: Readonly<Record<string, string>>): void {
  const names = Object.keys(environment).filter((one) => !usual.test(one))
  if (names.length === 0) return
  note(`${name} runs with variables from the shell that started it; its unit does not have them: ${names.join(', ')}`)
}
