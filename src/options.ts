/** Every option of the public functions with its default, and what these functions return. */
import type { Socket } from 'node:net'
import type { Phase } from './contract/phase.ts'
import type { DrainReport } from './drain-report.ts'
import type { ListenNaming, PathOptions, PortOptions } from './listen-options.ts'

export type { DrainCounts, DrainReport, DrainTimes, TlsCounts } from './drain-report.ts'
export type { ListenNaming, ListenOptions, PathOptions, PortOptions } from './listen-options.ts'

/** Default values; times in milliseconds. */
export const defaults = {
  readyTimeout: 60_000,
  drainTimeout: 30_000,
  lameDuck: 0,
  moveTlsFor: 300_000,
  stateTimeout: 10_000,
  maxGenerations: 4,
  upgradeSignal: 'SIGUSR2',
  stopSignals: ['SIGTERM', 'SIGINT'],
} as const

/** Options of {@link daemonize}. */
export type DaemonizeOptions = {
  /**
   * File for stdout and stderr, opened to append, created with mode 0640. A relative path is
   * relative to the working directory of the launcher.
   * @default stdout and stderr go to /dev/null
   */
  readonly logFile?: string
  /**
   * Working directory of the daemon, set in this call. A relative path is relative to that of the
   * launcher.
   * @default that of the launcher
   */
  readonly cwd?: string
  /** File mode creation mask of the daemon, for example `0o027`. @default that of the launcher */
  readonly umask?: number
  /**
   * Variables added to the environment of the launcher; every later generation has them too.
   * @default none
   */
  readonly env?: Readonly<Record<string, string>>
  /**
   * True: the launcher waits until the daemon calls `notifyUpgradeDone()`, which then also applies
   * to the first start. False: it waits only until the first call of the daemon into this library.
   * @default false
   */
  readonly waitReady?: boolean
  /**
   * Time for which the launcher waits, in milliseconds; then the daemon is killed and `daemonize()`
   * rejects.
   * @default 60000
   */
  readonly readyTimeout?: number
}

/** Options of {@link upgrade}. */
export type UpgradeOptions = {
  /**
   * How the new version is started. `parent`, as in the original Go API: its program runs, calls
   * `daemonize()`, and a second process becomes the daemon. `daemon`, the direct way: one boot, and
   * the exit code of a failed version is known.
   * @default 'parent'
   */
  readonly stage?: 'parent' | 'daemon'
  /**
   * Time the new version has to report that it is ready, in milliseconds; then it is killed, and
   * this process still serves.
   * @default 60000
   */
  readonly readyTimeout?: number
  /**
   * Time between the readiness of the new version and the commit, in milliseconds. Both accept
   * during it; a new version that crashes during it has failed.
   * @default 0
   */
  readonly overlap?: number
  /** Aborts the upgrade: the new version is killed, and this process still serves. */
  readonly signal?: AbortSignal
  /** The Node binary. @default that of this process */
  readonly execPath?: string
  /** Arguments for Node itself. @default those of this process, without the inspector's */
  readonly execArgv?: readonly string[]
  /**
   * The program, as an operator would type it; each upgrade follows symlinks in it.
   * @default what was typed to start this process
   */
  readonly script?: string
  /** Arguments of the program. @default those of this process */
  readonly args?: readonly string[]
  /**
   * Working directory.
   * @default what was typed to start this process; symlinks in it are followed at each upgrade
   */
  readonly cwd?: string
  /**
   * The whole environment.
   * @default that with which this process was started, without later changes by the program
   */
  readonly env?: Readonly<Record<string, string | undefined>>
}

/**
 * Options of `daemon.upgrade()`: those of {@link upgrade}, with `'daemon'` as default of `stage`,
 * and these.
 */
export type DaemonUpgradeOptions = UpgradeOptions & {
  /**
   * Time this process has to finish what it accepted, in milliseconds; only for this upgrade.
   * @default that of the daemon
   */
  readonly drainTimeout?: number
  /**
   * Listeners that an unmodified new version may give up; connections in their queues are reset.
   * @default none
   */
  readonly release?: readonly string[]
}

/** Options of {@link listenUnix}. */
export type ListenUnixOptions = {
  /** Mode of the file, for example `0o660`: who may connect. @default 0o777 without the umask */
  readonly mode?: number
}

/**
 * Whether live connections move: all, none, or those for which the function returns true. The
 * others close with their next answer.
 */
export type MoveRule = boolean | ((socket: Socket) => boolean)

/** Which additional TLS connections move. */
export type MoveTlsOptions = {
  /**
   * True: connections on which a client certificate was requested move too. The certificate and
   * whether it was trusted move along; the new version does not check it again.
   * @default false
   */
  readonly clientCertificates?: boolean
}

/** Values for the successor, by name; see `daemon.inherited()`. */
export type SaveState = Readonly<
  Record<
    string,
    {
      /** Version of the value's shape, for the program that reads it. @default 0 */
      readonly version?: number
      /**
       * The current value, or a promise of it, awaited for `stateTimeout`: anything that
       * structuredClone accepts, at most 64 MiB.
       */
      save(): unknown
    }
  >
>

/** Options of {@link createDaemon}. */
export type DaemonOptions = {
  /**
   * Name of the service: opens the control socket of that name in the run directory, for the
   * command `cook-daemon` and `curl`. Two services of one user cannot have the same name. 1 to 64
   * letters, digits, `.`, `_` and `-`, beginning with a letter or digit; not `all`.
   * @default none, and no control socket
   */
  readonly name?: string
  /**
   * Become a daemon first; see {@link DaemonizeOptions}. The launcher exits when the daemon is
   * ready, or with code 1 if it does not start.
   * @default false
   */
  readonly detach?: boolean
  /** See {@link DaemonizeOptions.logFile}; with `detach`. */
  readonly logFile?: string
  /** See {@link DaemonizeOptions.cwd}; with `detach`. */
  readonly cwd?: string
  /** See {@link DaemonizeOptions.umask}; with `detach`. */
  readonly umask?: number
  /**
   * File for the pid of the process that owns the service; removed when it stops for good.
   * @default none
   */
  readonly pidFile?: string
  /**
   * Time a new version has to call `ready()`, in milliseconds; then it is killed, and this process
   * still serves.
   * @default 60000
   */
  readonly readyTimeout?: number
  /**
   * Time this process has to finish what it accepted, in milliseconds; then the rest is cut and
   * counted.
   * @default 30000
   */
  readonly drainTimeout?: number
  /**
   * Time between SIGTERM and the drain, in milliseconds: a lame duck accepts and answers, but each
   * answer closes its connection, and the phase is `lame`. For pods and load balancers, which still
   * send clients here for a while. A second SIGTERM ends it.
   * @default 0
   */
  readonly lameDuck?: number
  /**
   * Port for probes and Prometheus, for example `9464` or `'0.0.0.0:9464'`: it answers GET and HEAD
   * of `/livez`, `/readyz` and `/metrics`. The host is 127.0.0.1 if not given. An upgrade hands the
   * port over; with a keeper, the keeper has it for all workers.
   * @default none
   */
  readonly admin?: number | string
  /**
   * Time both versions accept between `ready()` of the new one and the commit, in milliseconds. If
   * the new version crashes during it, the upgrade is rolled back.
   * @default 0
   */
  readonly overlap?: number
  /**
   * Number of generations that may be alive at once, including the new one; a further upgrade is
   * refused with `ERR_COOK_TOO_MANY_GENERATIONS`.
   * @default 4
   */
  readonly maxGenerations?: number
  /** Whether plain HTTP/1.1 connections move to the successor. @default true */
  readonly moveConnections?: MoveRule
  /**
   * Whether TLS 1.3 connections move too: HTTP/1.1, WebSockets with `cook-daemon/ws`, and with
   * `handOver()`. Their keys go over the link to the new version. Both versions need the option;
   * see `docs/tls.md` for the consequences and the connections that stay.
   * @default false
   */
  readonly moveTls?: boolean | MoveTlsOptions
  /**
   * Time after which a moved HTTPS connection closes with its next answer, in milliseconds, so that
   * the next one is handled by OpenSSL again; WebSockets stay.
   * @default 300000
   */
  readonly moveTlsFor?: number
  /** Values that a successor can get with `inherited()`. @default none */
  readonly saveState?: SaveState
  /**
   * Time for a value of `saveState`, in milliseconds; then the successor's `inherited()` rejects.
   * @default 10000
   */
  readonly stateTimeout?: number
  /**
   * At the commit, in the old process: stop what must run only once. Its result is passed to
   * `onTakeover`.
   */
  onRelease?(): unknown
  /**
   * At the commit, in the new process: start it. Called in every generation: with undefined in the
   * first, and if the old process is lost. Called again, with undefined, in an old process that
   * takes the service back from a lost successor.
   */
  onTakeover?(value: unknown): unknown
  /** Everything that happens; also on the diagnostics channel `cook-daemon`. */
  onEvent?(event: DaemonEvent): void
}

/** What happens to a daemon. */
export type DaemonEvent =
  | {
      /** The phase of this process has changed. */
      readonly type: 'phase'
      /** The new phase. */
      readonly phase: Phase
      /** Generation of this process. */
      readonly generation: number
    }
  | {
      /** An upgrade begins. */
      readonly type: 'upgrade'
      /** That of the new version. */
      readonly generation: number
    }
  | ({
      /** The commit, in the old process: the new version serves. */
      readonly type: 'upgraded'
    } & UpgradeResult)
  | {
      /**
       * The upgrade failed, and this process still serves, unless the error is `ERR_COOK_UPGRADED`
       * or `ERR_COOK_STOPPING`.
       */
      readonly type: 'upgrade-failed'
      /** Why: a {@link CookError}. */
      readonly error: Error
    }
  | {
      /** In the new process: unclaimed listeners were closed. */
      readonly type: 'unclaimed'
      /** Their names. */
      readonly names: readonly string[]
    }
  | {
      /**
       * The new process crashed while this one drained, or hung until the end of the drain and was
       * killed: this one took the service back.
       */
      readonly type: 'successor-lost'
      /** Generation of the lost process. */
      readonly generation: number
    }
  | {
      /** The old process hung long after the end of its drain, and was killed. */
      readonly type: 'predecessor-killed'
      /** Its pid. */
      readonly pid: number
    }
  | {
      /** This process has finished what it accepted, after an upgrade or at a stop. */
      readonly type: 'drained'
      /** What happened to its connections. */
      readonly report: DrainReport
    }
  | {
      /** Something is wrong, without a loss so far. */
      readonly type: 'warning'
      /** Subject: `log`, `pidFile` or another one. */
      readonly about: string
      /** For people. */
      readonly text: string
    }
  | {
      /**
       * A hook of the program threw; or the pid file could not be written, or a socket not be
       * opened, when it was too late to refuse; or a message was sent on a WebSocket that had
       * moved. It has no other effect.
       */
      readonly type: 'hook-failed'
      /** The option or method of the hook, or `pidFile`, `control`, `unixPath` or `listen`. */
      readonly hook: string
      /** What it threw. */
      readonly error: Error
    }

/** Duration of the phases of an upgrade, in milliseconds. */
export type UpgradePhases = {
  /** Start of the process, during which this one is blocked. */
  readonly spawn: number
  /** From then until `hello` of the new version: the boot of Node and of the program. */
  readonly boot: number
  /** From then until it reported that it is ready. */
  readonly ready: number
  /** From then until it has taken over. */
  readonly commit: number
}

/** Result of a successful upgrade; as a string, one line for people. */
export type UpgradeResult = {
  /** Process of the new version. */
  readonly pid: number
  /** 1 for the first start, one more for each successor. */
  readonly generation: number
  /** Duration of each phase, in milliseconds. */
  readonly phases: UpgradePhases
}

/** Options of serve() that are checked here; serve.ts adds what needs a daemon. */
export type ServingOptions = DaemonOptions &
  // The one listener is named by its address, so that a changed port counts at the next upgrade.
  Pick<ListenNaming, 'backlog'> &
  (PortOptions | PathOptions) & {
    /** Signals and their effect. @default SIGUSR2 upgrades, SIGTERM and SIGINT stop */
    readonly signals?: {
      // SIGUSR1 is not the default: without a handler Node opens its inspector, and nothing runs
      // the handler under --disable-sigusr1.
      /** Upgrades to the new version. @default 'SIGUSR2' */
      readonly upgrade?: NodeJS.Signals
      /** Finish what was accepted, then exit. @default ['SIGTERM', 'SIGINT'] */
      readonly stop?: readonly NodeJS.Signals[]
    }
  }

/** exactOptionalPropertyTypes: an option that is not given is not there. */
export function withoutUndefined<Options extends object>(
  options: Options,
): { [Name in keyof Options]: NonNullable<Options[Name]> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never
}
