/** node:cluster in a worker that has no primary. Private parts of Node. */
import type { Worker } from 'node:cluster'
import type { EventEmitter } from 'node:events'

export type Cluster = EventEmitter & {
  readonly Worker: new (options: { readonly id: number; readonly state: string }) => Worker
}

/**
 * lib/cluster.js: by this variable Node decides once which half of the module there is. That of a
 * worker does nothing by itself, and is small: the other one loads child_process.
 */
export function loadWorkerHalf(): Cluster {
  process.env.NODE_UNIQUE_ID = '1'
  try {
    // The types describe the ES module; getBuiltinModule gives what require() gives.
    return process.getBuiltinModule('node:cluster') as unknown as Cluster
  } finally {
    delete process.env.NODE_UNIQUE_ID
  }
}

/**
 * Has the module say that this process is a worker. Node's own listen() and bind() ask the same
 * properties, whether they are to ask a primary for a listener (lib/net.js, listenInCluster;
 * lib/dgram.js): these hear that there is none above them. `worker` is called when the program
 * asks.
 */
export function answerAsWorker(cluster: Cluster, worker: () => Worker): void {
  for (const [name, value] of Object.entries({ isPrimary: false, isMaster: false, isWorker: true })) {
    const get = () => {
      if (isReadByNode(get)) return !value
      worker()
      return value
    }
    define(cluster, name, { get })
  }
  define(cluster, 'worker', { get: worker })
}

/** What belongs to a primary alone, and is missing in the half of a worker. */
export function definePrimaryCalls(cluster: Cluster, call: (name: string) => never): void {
  for (const name of ['fork', 'setupPrimary', 'setupMaster', 'disconnect']) {
    define(cluster, name, { value: () => call(name), writable: true })
  }
}

function define(cluster: Cluster, name: string, property: PropertyDescriptor): void {
  Object.defineProperty(cluster, name, { ...property, configurable: true, enumerable: true })
}

const readers: readonly unknown[] = ['node:net', 'node:dgram']

/** Whether one of these files of Node has called this function. */
function isReadByNode(called: () => unknown): boolean {
  const { stackTraceLimit, prepareStackTrace } = Error
  const holder: { readonly stack?: unknown } = {}
  try {
    Error.stackTraceLimit = 1
    Error.prepareStackTrace = (_error, [caller]) => caller?.getFileName()
    Error.captureStackTrace(holder, called)
    return readers.includes(holder.stack)
  } finally {
    Error.stackTraceLimit = stackTraceLimit
    // Node takes the last one that was set, and undefined for none.
    Error.prepareStackTrace = prepareStackTrace as NonNullable<typeof prepareStackTrace>
  }
}
