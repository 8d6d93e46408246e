/** One upgrade of this process, whoever asks for it: what is checked first, and what is put back if it fails. */

import { protocolVersion, writeProgram } from '../contract/messages.ts'
import { defaults } from '../defaults.ts'
import { CookError } from '../errors.ts'
import { keepPathAtClose } from '../listen/unix-path.ts'
import { type Command, withoutInspectorIn, workingDirectory } from '../node/system.ts'
import type { UpgradeOptions } from '../options.ts'
import { openLog } from '../process/log.ts'
import { reclaimPidFile } from '../process/pid-file.ts'
import { type Entered, type EnteredState, type State, takeStep } from '../process/state.ts'
import type { Value } from './cloned-values.ts'
import { type Upgraded, type UpgradeStep, upgradeTo } from './predecessor.ts'

const { closeSync, existsSync } = process.getBuiltinModule('node:fs')

/** What a daemon adds to the verbs. */
export type UpgradeHooks = {
  readonly tickets?: Readonly<Record<string, string>>
  readonly save?: (name: string) => Promise<Value>
  readonly onStep?: (step: UpgradeStep) => void
  /** Listeners that the new version may leave, for the preload. */
  readonly release?: readonly string[]
  /** Time of the drain that follows, in milliseconds. */
  readonly drainTimeout?: number
}

/** An upgrade at its commit. */
export type Committed = Upgraded & { readonly generation: number }

/** Resolves at the commit, with the link still open; rejects with everything as it was. */
export async function runUpgrade(
  state: EnteredState,
  verb: string,
  options: UpgradeOptions & { readonly stage: 'parent' | 'daemon' },
  hooks: UpgradeHooks = {},
): Promise<Committed> {
  const { entered } = state
  if (entered.start.stage === 'parent') throw new CookError('ERR_COOK_STAGE', { verb })
  if (state.upgradingTo !== undefined) {
    throw new CookError('ERR_COOK_UPGRADE_IN_PROGRESS', { generation: state.upgradingTo, pid: process.pid })
  }
  if (state.phase === 'draining' || state.phase === 'gone') {
    throw new CookError(state.hasSuccessor === true ? 'ERR_COOK_UPGRADED' : 'ERR_COOK_STOPPING', { pid: process.pid })
  }
  demandCommit(verb, entered)
  const generation = entered.generation + 1
  const handles = state.registry.pack()
  state.upgradingTo = generation
  takeStep(state, 'upgrade')
  // Should this process die now, the new one takes over, and not the one that drains before us.
  entered.succession?.tellReplacing(true)
  let output: number | undefined
  try {
    output = reopenedLog(state)
    const upgraded = await upgradeTo({
      stage: options.stage,
      command: commandFor(state, options),
      environment: environmentFor(state, options.env, hooks.release),
      generation,
      handles,
      living: entered.succession?.living ?? [],
      output,
      readyTimeout: options.readyTimeout ?? defaults.readyTimeout,
      overlap: options.overlap ?? 0,
      drainTimeout: hooks.drainTimeout === undefined ? undefined : Math.round(hooks.drainTimeout),
      signal: options.signal,
      tickets: hooks.tickets ?? {},
      save: hooks.save ?? (async () => ({ value: undefined, version: 0 })),
      onOverlap: () => takeStep(state, 'overlap'),
      ...(hooks.onStep && { onStep: hooks.onStep }),
    })
    state.hasSuccessor = true
    takeStep(state, 'commit')
    for (const server of state.registry.unixListeners()) {
      if (!state.registry.paths.has(server)) keepPathAtClose(server, String(server.address()))
    }
    return { ...upgraded, generation }
  } catch (error) {
    entered.succession?.tellReplacing(false)
    takeStep(state, 'roll back')
    if (state.pidFile !== undefined) reclaimPidFile(state.pidFile)
    throw error
  } finally {
    delete state.upgradingTo
    if (output !== undefined) closeSync(output)
  }
}

/** Throws unless this process owns the service: it was the first, or its predecessor has accepted it. */
export function demandCommit(verb: string, { succession }: Entered): void {
  if (succession === undefined || succession.isCommitted) return
  throw new CookError('ERR_COOK_NOT_COMMITTED', { verb, predecessor: succession.predecessor[0] })
}

/** The log under its name, which is another file after a rotation; undefined: our own stdout and stderr. */
function reopenedLog(state: State): number | undefined {
  if (state.logFile === undefined) return undefined
  try {
    return openLog(state.logFile)
  } catch {
    // Its folder is gone or full: no reason to refuse an upgrade, since our own log is still open.
    return undefined
  }
}

/** What the command line said goes on, whatever else the environment is; a release is for one upgrade. */
function environmentFor(
  { environment, program }: State,
  env: UpgradeOptions['env'],
  release: readonly string[] | undefined,
): Readonly<Record<string, string | undefined>> {
  // Also the environment of a shell in which somebody debugs comes with --update-env.
  const own = withoutInspectorIn(env ?? environment)
  if (program === undefined && release === undefined) return writeProgram(own, undefined)
  const { release: _, ...kept } = program ?? { protocol: protocolVersion }
  return writeProgram(own, { ...kept, ...(release && { release }) })
}

function commandFor({ command }: State, options: UpgradeOptions): Command {
  const [script, ...args] = command.args
  const typed = options.script ?? script
  return {
    execPath: options.execPath ?? command.execPath,
    execArgv: options.execArgv ?? command.execArgv,
    args: typed === undefined ? [] : [typed, ...(options.args ?? args)],
    // A daemon that went elsewhere at its start does not need the place where it was started any more.
    cwd: options.cwd ?? (existsSync(command.cwd) ? command.cwd : workingDirectory()),
  }
}
