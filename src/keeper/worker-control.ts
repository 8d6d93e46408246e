/** The control socket of a worker that never is root, in root's folder. */
import { controlName, workerName } from '../contract/environment.ts'
import { bindUnixPath } from '../listen/unix-path.ts'
import { listenerHandle, listenWithoutAccepting } from '../node/listeners.ts'
import { statDescriptor } from '../node/stat.ts'
import { controlPath } from '../process/run-dir.ts'
import type { Home } from './home.ts'

/** Bound once, and held for the worker, which listens on it from its commit on. */
export async function openWorkerControl({ held, plan }: Home, slot: number): Promise<void> {
  const { folder, name } = plan
  if (folder === undefined || held.recordsFor(slot).some((one) => one.name === controlName)) return
  const { createServer } = process.getBuiltinModule('node:net')
  const server = createServer()
  listenWithoutAccepting(server)
  const path = controlPath(folder, workerName(name, slot))
  const bound = await bindUnixPath(server, path, { mode: 0o600 })
  server.unref()
  const handle = listenerHandle(server)
  const inode = handle && statDescriptor(handle.fd)?.ino
  if (handle === undefined || inode === undefined) throw new Error(`${path} was closed immediately after it was opened`)
  held.hold(slot, { name: controlName, kind: 'unix', inode, ...bound }, handle)
}
