/** What a configuration says: its services, in order, as whatever form of file has named them. */

/** One service; paths are as they were typed, and relative to the folder of the file. */
export type ServiceConfig = {
  readonly name: string
  readonly script: string
  readonly args?: readonly string[]
  readonly cwd?: string
  readonly node?: string
  readonly nodeArgs?: readonly string[]
  readonly workers?: number | 'max'
  readonly env?: Readonly<Record<string, string>>
  /** Added to `env` by `--env NAME`. */
  readonly environments?: Readonly<Record<string, Readonly<Record<string, string>>>>
  readonly log?: string
  /** Bytes. */
  readonly logMaxSize?: number
  readonly logKeep?: number
  readonly pidFile?: string
  readonly waitReady?: boolean
  readonly noListen?: boolean
  readonly keep?: boolean
  readonly moveConnections?: boolean
  readonly moveTls?: boolean
  readonly moveTlsFor?: number
  readonly readyTimeout?: number
  readonly drainTimeout?: number
  readonly lameDuck?: number
  readonly admin?: string | number
  readonly overlap?: number
  readonly hangTimeout?: number
  /** Bytes. */
  readonly maxMemory?: number
  /** A name or a number. */
  readonly uid?: string | number
  readonly gid?: string | number
  /** The file does not say whether it listens: it is said when it turns out that it does not. */
  readonly mayListen?: boolean
}

/** One that cannot be run, though the others can. */
export type RefusedService = { readonly name: string; readonly refused: string }

export type Configuration = {
  readonly services: readonly (ServiceConfig | RefusedService)[]
  /** What the file asks for and does not get, each once. */
  readonly notes: readonly string[]
}

/** A value that is wrong, of which the reader knows the place. */
export class ConfigFault extends Error {}
