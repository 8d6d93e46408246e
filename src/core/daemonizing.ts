/** How a process becomes a daemon: by starting itself again, since Node cannot fork. */
import { inheritableDescriptors } from '../node/system.ts'
import type { DaemonizeOptions } from '../options.ts'
import { launchDaemon, passOn } from './launch.ts'
import { openLog } from './log.ts'
import type { Entered, State } from './state.ts'
import { defaultReadyTimeout } from './upgrading.ts'

const { closeSync } = process.getBuiltinModule('node:fs')
const { resolve } = process.getBuiltinModule('node:path')

/** True in the daemon, false in the process that must exit. */
export async function becomeDaemon(
  state: State & { readonly entered: Entered },
  options: DaemonizeOptions,
): Promise<boolean> {
  const { start, launch } = state.entered
  if (options.logFile !== undefined) state.logFile = resolve(options.logFile)
  if (start.stage !== 'daemon') {
    await startDaemon(state, options)
    return false
  }
  if (options.umask !== undefined) process.umask(options.umask)
  await launch?.released
  return true
}

async function startDaemon(state: State & { readonly entered: Entered }, options: DaemonizeOptions): Promise<void> {
  const { link } = state.entered.start
  const cwd = options.cwd === undefined ? state.command.cwd : resolve(options.cwd)
  const log = state.logFile === undefined ? undefined : openLog(state.logFile)
  const inherited = link === undefined ? undefined : ([1, 2] as const)
  try {
    await (link === undefined ? launchDaemon : passOn)({
      command: { ...state.command, cwd },
      environment: { ...state.environment, ...options.env, ...(options.cwd !== undefined && { PWD: cwd }) },
      output: log === undefined ? inherited : [log, log],
      // In an upgrade it is the predecessor who waits until the new version is up.
      waitReady: link === undefined && (options.waitReady ?? false),
      readyTimeout: options.readyTimeout ?? defaultReadyTimeout,
      close: link === undefined ? inheritableDescriptors() : [],
      ...(link && { link }),
    })
  } finally {
    if (log !== undefined) closeSync(log)
  }
}
