/** Upgrades of daemons, as the tests do them with puppets. */
import type { DrainReport, UpgradeOptions } from 'cook-daemon'
import type { PuppetScope } from '../fixtures/puppet-scope.ts'
import type { Lab, Puppet } from './lab.ts'

/** What a new version does from its start until it is ready. */
export type Program = (scope: PuppetScope) => unknown

/** One upgrade until the commit; the old process drains. */
export async function replace(
  lab: Lab,
  old: Puppet,
  program: Program = ({ start }) => start(),
  options: UpgradeOptions = {},
): Promise<Puppet> {
  const { young, upgrading } = await beginReplace(lab, old, options)
  await young.run(program)
  await upgrading
  return young
}

/** The new version has booted and has done nothing yet. */
export async function beginReplace(
  lab: Lab,
  old: Puppet,
  options: UpgradeOptions = {},
): Promise<{ readonly young: Puppet; readonly upgrading: Promise<number | undefined> }> {
  const upgrading = old.run(async ({ kept }, given) => (await kept.daemon?.upgrade(given))?.generation, options)
  // Looked at later, or by nobody if the test fails before.
  upgrading.catch(() => {})
  return { young: await lab.next(), upgrading }
}

/** What became of the connections of a process, once it has drained. */
export async function drained(puppet: Puppet): Promise<DrainReport> {
  const { report } = (await puppet.event('drained')) as { report: DrainReport }
  return report
}

/** The part of a report that is the same in every run. */
export function fates({ times: _, ...rest }: DrainReport): Omit<DrainReport, 'times'> {
  return rest
}

/** Counts in short: a report's listeners hold nothing else. */
export function counts(handedOver: number, served: number, closed: number, cut: number) {
  return { handedOver, served, closed, cut }
}
