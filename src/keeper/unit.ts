/** A keeper that is the main process of a unit, and what systemd has given to it alone. */
import { managerVariables } from '../contract/environment.ts'
import { withoutUndefined } from '../options.ts'

/** systemd.exec(5): which run of the unit this is, and where its output goes. */
const ofUnit = ['INVOCATION_ID', 'JOURNAL_STREAM', 'SYSTEMD_EXEC_PID'] as const

/**
 * This keeper is what systemd has started and looks after. INVOCATION_ID alone is in every shell
 * of a session, too; SYSTEMD_EXEC_PID came with systemd 248.
 */
export function isUnit(): boolean {
  const { INVOCATION_ID, SYSTEMD_EXEC_PID } = process.env
  if (SYSTEMD_EXEC_PID !== undefined) return SYSTEMD_EXEC_PID === String(process.pid)
  return INVOCATION_ID !== undefined && process.ppid === 1 && process.argv.includes('run')
}

/**
 * An environment for a worker. It may come from another process of the unit, as ExecReload= is: but
 * the worker writes where this one does, and only this one speaks to systemd.
 */
export function asOfUnit(env: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const own: Record<string, string | undefined> = { ...env }
  for (const name of managerVariables) delete own[name]
  if (isUnit()) for (const name of ofUnit) own[name] = process.env[name]
  return withoutUndefined(own) as Readonly<Record<string, string>>
}
