/** Every option of the public functions with its default, and what these give. */
import type { Socket } from 'node:net'
import type { Phase } from './contract/phase.ts'
import type { DrainReport } from './drain-report.ts'
import type { ListenNaming, PathOptions, PortOptions } from './listen-options.ts'

export type { DrainCounts, DrainReport, DrainTimes, TlsCounts } from './drain-report.ts'
export type { ListenNaming, ListenOptions, PathOptions, PortOptions } from './listen-options.ts'

/** What holds where nothing else is said; times in milliseconds. */
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

/** What {@link daemonize} takes. */
export type DaemonizeOptions = {
  /**
   * File for stdout and stderr, opened to append, created with mode 0640. A relative path is one
   * from the launcher's working directory.
   * @default stdout and stderr go to /dev/null
   */
  readonly logFile?: string
  /**
   * Working directory of the daemon, which goes there in this call. A relative path is one from the
   * launcher's.
   * @default that of the launcher
   */
  readonly cwd?: string
  /** File mode creation mask of the daemon, for example `0o027`. @default that of the launcher */
  readonly umask?: number
  /**
   * Variables for the daemon's environment, on top of the launcher's; every later generation has
   * them too.
   * @default none
   */
  readonly env?: Readonly<Record<string, string>>
  /**
   * The launcher waits until the daemon calls `notifyUpgradeDone()`, which then serves for the
   * first start too. Without it, it waits only until the daemon has come as far as its first call
   * into this library.
   * @default false
   */
  readonly waitReady?: boolean
  /**
   * Time for what is waited for, in milliseconds; then the daemon is killed and `daemonize()`
   * rejects.
   * @default 60000
   */
  readonly readyTimeout?: number
}

/** What {@link upgrade} takes. */
export type UpgradeOptions = {
  /**
   * How the new version is started. `parent`, that of the original Go API: its program runs, calls
   * `daemonize()`, and a second process of it becomes the daemon. `daemon`, the direct way: one
   * boot, and the exit code of a version that fails is known.
   * @default 'parent'
   */
  readonly stage?: 'parent' | 'daemon'
  /**
   * Time the new version has to say that it is up, in milliseconds; then it is killed and this
   * process keeps serving.
   * @default 60000
   */
  readonly readyTimeout?: number
  /**
   * Time between the new version's yes and the commit, in milliseconds. Both accept in it, and a
   * new version that dies in it has failed.
   * @default 0
   */
  readonly overlap?: number
  /** Ends the upgrade: the new version is killed, and this process keeps serving. */
  readonly signal?: AbortSignal
  /** The Node binary. @default that of this process */
  readonly execPath?: string
  /** Arguments for Node itself. @default those of this process, without the inspector's */
  readonly execArgv?: readonly string[]
  /**
   * The program, as an operator would type it: symlinks in it are followed at each upgrade.
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
   * @default that with which this process was started, not what the program made of it since
   */
  readonly env?: Readonly<Record<string, string | undefined>>
}

/**
 * What `daemon.upgrade()` takes: that of {@link upgrade}, whose default for `stage` is `'daemon'`
 * here, and more.
 */
export type DaemonUpgradeOptions = UpgradeOptions & {
  /**
   * Time this process has to finish what it accepted, in milliseconds, for this upgrade.
   * @default that of the daemon
   */
  readonly drainTimeout?: number
  /**
   * Listeners that a new version which runs unmodified may leave unclaimed; what waits in their
   * queues is reset.
   * @default none
   */
  readonly release?: readonly string[]
}

/** What {@link listenUnix} takes. */
export type ListenUnixOptions = {
  /** Mode of the file, for example `0o660`: who may connect. @default what the umask leaves */
  readonly mode?: number
}

/**
 * Whether live connections move: all, none, or those for which the function returns true; the
 * others close with their next answer.
 */
export type MoveRule = boolean | ((socket: Socket) => boolean)

/** Which connections of TLS move, beyond those that always do. */
export type MoveTlsOptions = {
  /**
   * Those move too of which a certificate was asked. It goes along, and so does whether it was
   * trusted: the new version does not check it again.
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
       * The value now, or a promise of it, which is awaited for `stateTimeout`: anything that
       * structuredClone takes, at most 64 MiB.
       */
      save(): unknown
    }
  >
>

/** What {@link createDaemon} takes. */
export type DaemonOptions = {
  /**
   * Name of the daemon: it opens the control socket of that name in the run directory, through
   * which the command `cook-daemon` and `curl` find it. No two daemons of one user have the same.
   * Letters, digits, `.`, `_` and `-`, at most 64.
   * @default none, and no control socket
   */
  readonly name?: string
  /**
   * Become a daemon first; see {@link DaemonizeOptions}. The launcher exits when the daemon is
   * ready, with code 1 if it does not come up.
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
   * Time a new version has to call `ready()`, in milliseconds; then it is killed and we keep
   * serving.
   * @default 60000
   */
  readonly readyTimeout?: number
  /**
   * Time to finish what was accepted, in milliseconds; what is left then is cut and counted.
   * @default 30000
   */
  readonly drainTimeout?: number
  /**
   * Time between SIGTERM and the drain, in milliseconds: a lame duck accepts and answers, but each
   * answer closes its connection, and the phase is `lame`. For pods and load balancers, which send
   * clients here for a while longer. A second SIGTERM ends it.
   * @default 0
   */
  readonly lameDuck?: number
  /**
   * Port for probes and Prometheus, as `9464` or `'0.0.0.0:9464'`: it answers GET and HEAD of
   * `/livez`, `/readyz` and `/metrics`. Without a host it is on 127.0.0.1 alone. An upgrade hands
   * it on; under a keeper, that has it for all workers.
   * @default none
   */
  readonly admin?: number | string
  /**
   * How long both versions accept between the new one's `ready()` and the commit, in milliseconds.
   * A new version that dies in it is rolled back without a trace.
   * @default 0
   */
  readonly overlap?: number
  /**
   * How many generations may be alive at once, the new one included; an upgrade beyond is refused.
   * @default 4
   */
  readonly maxGenerations?: number
  /** Whether plain HTTP/1.1 connections move to the successor. @default true */
  readonly moveConnections?: MoveRule
  /**
   * Whether connections of TLS 1.3 move too: HTTP/1.1, WebSockets with `cook-daemon/ws`, and by
   * `handOver()`. Their keys go over the link to the new version, and both versions need it;
   * `docs/tls.md` has what that means, and which connections stay.
   * @default false
   */
  readonly moveTls?: boolean | MoveTlsOptions
  /**
   * Time after which an HTTP/1.1 connection of TLS that has moved ends with its next answer, in
   * milliseconds, so that it is one of OpenSSL's again; WebSockets stay.
   * @default 300000
   */
  readonly moveTlsFor?: number
  /** What a successor can ask for with `inherited()`. @default nothing */
  readonly saveState?: SaveState
  /**
   * Time for a value of `saveState`, in milliseconds; then the successor's `inherited()` rejects.
   * @default 10000
   */
  readonly stateTimeout?: number
  /**
   * At the commit, in the old process: stop what must run once only. What it returns reaches
   * `onTakeover`.
   */
  onRelease?(): unknown
  /**
   * At the commit, in the new process: start it. Called in every generation; in the first, and when
   * the old one is lost, with undefined. Once more, with undefined, in an old process that takes
   * the service back from a successor that was lost.
   */
  onTakeover?(value: unknown): unknown
  /** Everything that happens; also on the diagnostics channel `cook-daemon`. */
  onEvent?(event: DaemonEvent): void
}

/** What happens to a daemon. */
export type DaemonEvent =
  | {
      /** This process moves on in its life. */
      readonly type: 'phase'
      /** Where it is now. */
      readonly phase: Phase
      /** Which generation it is. */
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
       * The upgrade failed, and this process keeps serving, but where the error is
       * `ERR_COOK_UPGRADED` or `ERR_COOK_STOPPING`.
       */
      readonly type: 'upgrade-failed'
      /** Why: a {@link CookError}. */
      readonly error: Error
    }
  | {
      /** In the new process: listeners that nobody claimed were closed. */
      readonly type: 'unclaimed'
      /** Their names. */
      readonly names: readonly string[]
    }
  | {
      /**
       * The new process died while this one drained, or stood still until the end of that and was
       * killed: this one took the service back.
       */
      readonly type: 'successor-lost'
      /** That of the one that died. */
      readonly generation: number
    }
  | {
      /** The old process stood still in its drain, long after the end of that, and was killed. */
      readonly type: 'predecessor-killed'
      /** Its pid. */
      readonly pid: number
    }
  | {
      /** This process has finished what it accepted, after an upgrade or at a stop. */
      readonly type: 'drained'
      /** What became of its connections. */
      readonly report: DrainReport
    }
  | {
      /** Something is wrong that costs nothing yet. */
      readonly type: 'warning'
      /** `log`, `pidFile`, or another word for what is wrong. */
      readonly about: string
      /** For people. */
      readonly text: string
    }
  | {
      /**
       * Code of the program threw in a hook; or the pid file could not be written, or a socket not
       * be opened, when it was too late for a no; or a message was sent on a WebSocket that had
       * moved. It costs nothing else.
       */
      readonly type: 'hook-failed'
      /** The option or method of the hook, or `pidFile`, `control`, `unixPath` or `listen`. */
      readonly hook: string
      /** What it threw. */
      readonly error: Error
    }

/** What the upgrade took, in milliseconds. */
export type UpgradePhases = {
  /** Starting the process, during which this one stands still. */
  readonly spawn: number
  /** From then until the new version said hello: the boot of Node and of the program. */
  readonly boot: number
  /** From then until it said that it is up. */
  readonly ready: number
  /** From then until it has taken over. */
  readonly commit: number
}

/** What an upgrade that succeeded was like; as a string, one line for people. */
export type UpgradeResult = {
  /** Process of the new version. */
  readonly pid: number
  /** 1 for the first start, one more for each successor. */
  readonly generation: number
  /** What took how long, in milliseconds. */
  readonly phases: UpgradePhases
}

/** Those of serve() that are checked here; serve.ts adds what needs a daemon. */
export type ServingOptions = DaemonOptions &
  // The one listener is named by its address, so that a changed port counts at the next upgrade.
  Pick<ListenNaming, 'backlog'> &
  (PortOptions | PathOptions) & {
    /** Which signals do what. @default SIGUSR2 upgrades, SIGTERM and SIGINT stop */
    readonly signals?: {
      // SIGUSR1 is not the default: without a handler Node opens its inspector, and nothing runs
      // the handler under --disable-sigusr1.
      /** Replaces the process by its new version. @default 'SIGUSR2' */
      readonly upgrade?: NodeJS.Signals
      /** Finish what was accepted, and end the process. @default ['SIGTERM', 'SIGINT'] */
      readonly stop?: readonly NodeJS.Signals[]
    }
  }

/** exactOptionalPropertyTypes: an option that is not given is not there. */
export function withoutUndefined<Options extends object>(
  options: Options,
): { [Name in keyof Options]: NonNullable<Options[Name]> } {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as never
}
