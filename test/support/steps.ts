/** The steps of an upgrade, as the tests take them with puppets. */
import type { DrainReport, UpgradeOptions } from 'cook-daemon'
import type { Lab, Puppet } from './lab.ts'

/** The first generation opens a TCP listener on a free port and registers it as `listen`. */
export function openListener(puppet: Puppet): Promise<number> {
  return puppet.run(async ({ cook, kept, echo }) => {
    kept.server = await echo({ host: '127.0.0.1', port: 0 })
    cook.addInheritTcpListener('listen', kept.server)
    return (kept.server.address() as { port: number }).port
  })
}

/**
 * A successor claims the listener, listens, says that it is up, and registers it for the next
 * upgrade.
 */
export function takeListener(puppet: Puppet): Promise<void> {
  return puppet.run(async ({ cook, kept, echo }) => {
    const [listener] = cook.inheritTcpListeners('listen')
    if (listener === undefined) throw new Error('no listener')
    kept.server = await echo(listener)
    await cook.notifyUpgradeDone()
    cook.addInheritTcpListener('listen', kept.server)
  })
}

/** One whole upgrade; gives the new process, while the old one goes on accepting. */
export async function upgradeOnce(lab: Lab, old: Puppet, options: UpgradeOptions): Promise<Puppet> {
  const upgrading = old.run(async ({ cook }, given) => void (await cook.upgrade(given)), options)
  const [young] = await Promise.all([lab.next().then(taken), upgrading])
  return young
}

async function taken(puppet: Puppet): Promise<Puppet> {
  await takeListener(puppet)
  return puppet
}

/** What a program does after an upgrade: closes its listeners, finishes what it accepted, exits. */
export async function leave(puppet: Puppet): Promise<void> {
  await puppet.run(({ kept }) => {
    setImmediate(() => kept.server?.close(() => process.exit()))
  })
  await puppet.gone
}

/** What became of the connections, as a server under load reports it. */
export type Report = DrainReport

/**
 * One upgrade of a server under load, as an operator triggers it; resolves when the old process is
 * gone.
 */
export async function upgradeBySignal(lab: Lab, old: Puppet): Promise<{ young: Puppet; report: Report }> {
  old.kill('SIGUSR2')
  const young = await lab.next()
  await young.event('serving')
  const { report } = (await old.event('drained')) as { report: Report }
  await old.gone
  return { young, report }
}
