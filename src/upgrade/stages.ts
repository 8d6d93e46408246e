/** How a process becomes a daemon: by starting itself again, since Node cannot fork. */
import { closeSync } from 'node:fs'
import { resolve } from 'node:path'

import { type LinkRecord, linkFd } from '../contract/environment.ts'
import { cutReason } from '../contract/messages.ts'
import { CookError, messageOf } from '../errors.ts'
import { channelDescriptor } from '../node/channel.ts'
import { inheritableDescriptors } from '../node/processes.ts'
import { system } from '../node/system.ts'
import type { DaemonizeOptions } from '../options.ts'
import { defaults } from '../options.ts'
import { type LaunchPlan, launchDaemon } from '../process/launcher.ts'
import { openLog } from '../process/log.ts'
import type { EnteredState } from '../process/state.ts'
import { takeLink } from './link.ts'

/** True in the daemon, false in the process that must exit. */
export async function becomeDaemon(state: EnteredState, options: DaemonizeOptions): Promise<boolean> {
  const { start, launch } = state.entered
  // Every generation starts where the operator typed the command, so that a relative path means the
  // same in each.
  const from = state.command.cwd
  const cwd = options.cwd === undefined ? undefined : resolve(from, options.cwd)
  if (options.logFile !== undefined) state.logFile = resolve(from, options.logFile)
  if (start.stage !== 'daemon') {
    await startDaemon(state, options, cwd ?? from)
    return false
  }
  if (options.umask !== undefined) process.umask(options.umask)
  if (cwd !== undefined) changeDirectory(cwd)
  await launch?.released
  return true
}

async function startDaemon(state: EnteredState, options: DaemonizeOptions, cwd: string): Promise<void> {
  const { link } = state.entered.start
  const log = state.logFile === undefined ? undefined : openLog(state.logFile)
  const inherited = link === undefined ? undefined : ([1, 2] as const)
  try {
    const plan: LaunchPlan = {
      command: state.command,
      cwd,
      environment: { ...state.environment, ...options.env },
      output: log === undefined ? inherited : [log, log],
      // In an upgrade it is the predecessor who waits until the new version is up.
      waitReady: link === undefined && (options.waitReady ?? false),
      readyTimeout: options.readyTimeout ?? defaults.readyTimeout,
      close: link === undefined ? inheritableDescriptors() : [],
    }
    await (link === undefined ? launchDaemon(plan) : passOn(plan, link))
  } finally {
    if (log !== undefined) closeSync(log)
  }
}

/**
 * In an upgrade: tells the predecessor of the daemon that this `parent` stage starts, and then lets
 * go of the link.
 */
async function passOn(plan: LaunchPlan, record: LinkRecord): Promise<void> {
  // Undefined: the predecessor is gone, and the daemon will find that out and serve.
  const link = channelDescriptor() === linkFd ? takeLink(() => {}) : undefined
  try {
    await launchDaemon({
      ...plan,
      passed: { record, isOpen: link !== undefined },
      onSpawned: ({ pid = 0 }) => link?.send({ type: 'spawned', pid, startTime: system.startTime(pid) ?? '' }),
    })
  } catch (error) {
    await new Promise<void>((sent) => {
      if (link === undefined) sent()
      else link.send({ type: 'dying', reason: cutReason(messageOf(error)) }, sent)
    })
    throw error
  } finally {
    // Before the daemon is released: from then on only it reads the link.
    link?.close()
  }
}

function changeDirectory(cwd: string): void {
  try {
    process.chdir(cwd)
  } catch (cause) {
    throw new CookError('ERR_COOK_OPTION', { option: 'cwd', why: `cannot be entered: ${messageOf(cause)}` }, { cause })
  }
  process.env.PWD = cwd
}
