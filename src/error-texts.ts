/** Every error of this library: its code, its text, and what to do about it. docs/errors.md is generated from this table. */

/** How a text and its help are written: `{name}` stands for a value that the thrower gives. */
export const errorTexts = {
  ERR_COOK_PLATFORM: {
    text: 'cook-daemon works on Linux and macOS; this is {platform}',
    help: 'Run the program without cook-daemon here, or in a Linux container.',
  },
  ERR_COOK_WORKER_THREAD: {
    text: '{verb} was called in a worker thread; nothing was changed',
    help: 'Signals, the working directory and descriptors belong to the process: call the library from the main thread.',
  },
  ERR_COOK_CLUSTER_WORKER: {
    text: '{verb} was called in a worker of node:cluster, whose listeners belong to the primary; nothing was changed',
    help: 'Call the library in a program that does not use node:cluster. (A server with { exclusive: true } changes nothing here.)',
  },
  ERR_COOK_CLUSTER: {
    text: 'node:cluster does not work under the preload of cook-daemon: its listeners and connections are spread over processes; no worker was started',
    help: 'Let the program serve without node:cluster, or start it without cook-daemon.',
  },
  ERR_COOK_PRELOADED: {
    text: '{verb} was called after a server of this program had begun to listen, and the preload of cook-daemon serves already',
    help: 'Call the library first, before any server listens: the preload then leaves everything to the program.',
  },
  ERR_COOK_TWO_COPIES: {
    text: 'two different copies of cook-daemon are loaded in this process: {mine} from {myUrl}, and {other} from {otherUrl}',
    help: 'Copies of the same version share one state. Make the program and its tools depend on one version (npm ls cook-daemon).',
  },
  ERR_COOK_OPTION: {
    text: 'option {option}: {why}',
    help: 'Correct the option; nothing was started or changed.',
  },
  ERR_COOK_ENVIRONMENT: {
    text: 'the environment variable {variable} is broken: {why}. This is not taken for a fresh start, since another process may own the listeners',
    help: 'These variables are set by the old version for the new one alone. If you start the program by hand, unset all COOK_DAEMON_ variables.',
  },
  ERR_COOK_STAGE: {
    text: '{verb} was called before daemonize() in a process that was started to become a daemon',
    help: "Call daemonize() first, as the documents do, or upgrade with { stage: 'daemon' } if the program does not daemonize.",
  },
  ERR_COOK_DAEMON_SPAWN: {
    text: 'the daemon could not be started with {command}: {why}',
    help: 'Check the path, its permissions and the working directory; nothing was left running.',
  },
  ERR_COOK_DAEMON_EXITED: {
    text: 'the daemon (pid {pid}) ended before it {goal}: {how}.{words}',
    help: 'Read the last lines of its stderr, in the text or in the log; nothing was left running. Without a logFile the daemon writes to /dev/null.',
  },
  ERR_COOK_DAEMON_SAID_NO: {
    text: 'the daemon (pid {pid}) said that it did not come up: {reason}',
    help: 'The reason is what the program gave to notifyUpgradeDone(false, reason).',
  },
  ERR_COOK_DAEMON_TIMEOUT: {
    text: 'the daemon (pid {pid}) was not {goal} within {ms} ms and was killed',
    help: 'Raise readyTimeout, or find out what the program waits for before daemonize(), or with waitReady before notifyUpgradeDone().',
  },
  ERR_COOK_NOT_IN_UPGRADE: {
    text: '{verb} is for a process that was started by an upgrade; this one was not',
    help: 'Ask inUpgrade() first, as the documents do.',
  },
  ERR_COOK_UNKNOWN_NAME: {
    text: 'the predecessor handed over no {kind} handle named {name}; it handed over: {names}',
    help: 'Use the name that the old version registered. A program that gains a listener opens it itself.',
  },
  ERR_COOK_HANDLE_NAME: {
    text: 'a handle needs a name of 1 to 255 characters that does not begin with "cook:", and got {name}',
    help: 'Names that begin with "cook:" are for the library itself.',
  },
  ERR_COOK_NOT_LISTENING: {
    text: 'the {kind} handle named {name} is not open: {why}',
    help: 'Register a server after its "listening" event and a UDP socket after its "listening" event, and take it out (restoreInheritFiles) before you close it.',
  },
  ERR_COOK_HANDLE_KIND: {
    text: 'the handle named {name} is {actual}, and {verb} takes {expected}',
    help: 'Use the verb for that kind of handle.',
  },
  ERR_COOK_UPGRADE_IN_PROGRESS: {
    text: 'an upgrade is in progress already (to generation {generation}); this process (pid {pid}) goes on with that one',
    help: 'Wait for its end: it always ends, at the latest after its readyTimeout.',
  },
  ERR_COOK_UPGRADED: {
    text: 'this process (pid {pid}) has already handed over to its successor, which serves now',
    help: 'Upgrade the successor instead: its pid is in the report and in the pid file.',
  },
  ERR_COOK_STOPPING: {
    text: 'this process (pid {pid}) is stopping, and starts no new version',
    help: 'Start the service anew when it has ended.',
  },
  ERR_COOK_NOT_COMMITTED: {
    text: '{verb} was called before the upgrade that started this process was committed; until then the predecessor (pid {predecessor}) owns the name of the service',
    help: 'Call it after notifyUpgradeDone() has resolved.',
  },
  ERR_COOK_NOT_READY: {
    text: '{verb} was called before this process (pid {self}) serves',
    help: 'Call it after ready() or serve() has resolved. A signal to upgrade that comes this early is told in an upgrade-failed event: send it again.',
  },
  ERR_COOK_SUCCESSOR_SPAWN: {
    text: 'the new version could not be started with {command}: {why}. This process (pid {self}) keeps serving',
    help: 'Check the path, its permissions, the working directory and the limits on processes and descriptors; then upgrade again.',
  },
  ERR_COOK_SUCCESSOR_EXITED: {
    text: 'the new version ({who}) ended before it was up: {how}.{words} The old one (pid {self}) keeps serving',
    help: 'Read its last lines, in the text or in the log, mend the new version and upgrade again; nothing was lost.',
  },
  ERR_COOK_SUCCESSOR_SAID_NO: {
    text: 'the new version (pid {pid}) said no: {reason}. The old one (pid {self}) keeps serving',
    help: 'The reason is what the new version gave to notifyUpgradeDone(false, reason).',
  },
  ERR_COOK_SUCCESSOR_TIMEOUT: {
    text: 'the new version ({who}) did not say that it is up within {ms} ms and was killed ({step}).{words} The old one (pid {self}) keeps serving',
    help: 'Raise readyTimeout, or find out what the new version waits for before it calls notifyUpgradeDone().',
  },
  ERR_COOK_SUCCESSOR_LOST: {
    text: 'the new version (generation {generation}) ended right after it had taken over. The old one (pid {self}) keeps serving',
    help: 'Read its last lines in the log. Upgrade with an overlap: a new version that ends in it has cost nothing.',
  },
  ERR_COOK_LINK_BROKEN: {
    text: 'the link to the new version ({who}) broke: {why}. It was killed; the old one (pid {self}) keeps serving',
    help: 'The link is descriptor 3 of the new version: its program must neither write to it nor close it.',
  },
  ERR_COOK_PROTOCOL: {
    text: 'the old and the new version have no protocol in common: {why}. The old one (pid {pid}) keeps serving',
    help: 'Deploy a version of cook-daemon between the two first and upgrade in two steps, or stop the service and start it with the new version.',
  },
  ERR_COOK_STOPPED: {
    text: 'the upgrade was stopped by its caller; the new version ({who}) was killed and the old one (pid {self}) keeps serving',
    help: 'Whoever aborted the signal given to upgrade() wanted this.',
  },
  ERR_COOK_REFUSED: {
    text: 'the predecessor (pid {predecessor}) did not accept this process: {reason}. The predecessor keeps serving; this process must end',
    help: 'End this process. The reason is in the error that upgrade() threw in the predecessor.',
  },
  ERR_COOK_NOTIFIED_TWICE: {
    text: 'notifyUpgradeDone() was called before in this process, and its first answer stands',
    help: 'Call it once, when the program serves or knows that it cannot.',
  },
  ERR_COOK_STATE: {
    text: 'the state {name} cannot be handed over: {why}',
    help: 'State is what structuredClone takes, at most 64 MiB, within stateTimeout. The old version keeps serving if the new one then fails.',
  },
  ERR_COOK_STATE_VERSION: {
    text: 'the state {name} has version {version}, and this program takes {wanted}',
    help: 'Let the program take both versions while both are deployed, or start it anew.',
  },
  ERR_COOK_STATE_NAME: {
    text: 'the predecessor has no state named {name}; it has: {names}',
    help: 'Use a name of the saveState hook of the old version; a program that gains a state starts it itself.',
  },
  ERR_COOK_STATE_LATE: {
    text: 'inherited() was called after ready(): the predecessor gives state only before',
    help: 'Ask for all state before you call ready().',
  },
  ERR_COOK_LISTEN: {
    text: 'the server cannot listen as {name}: {why}',
    help: 'Give each server a name or address of its own, before ready().',
  },
  ERR_COOK_HAND_OVER: {
    text: 'the connection cannot be handed over: {why}',
    help: 'Only plain sockets that are open can move, while this process hands over to a successor. It stays here.',
  },
  ERR_COOK_WS: {
    text: 'the WebSockets cannot be handed over: {why}',
    help: 'Give handOverWebSockets() a server of ws 8.18 or a later 8, before ready(); with serve(), in its prepare option.',
  },
  ERR_COOK_TOO_MANY_GENERATIONS: {
    text: '{count} generations are alive, and {most} is the most; this process (pid {pid}) keeps serving',
    help: 'Wait until an old generation has drained, shorten drainTimeout, or raise maxGenerations.',
  },
  ERR_COOK_DAEMON_TWICE: {
    text: 'createDaemon() was called before in this process',
    help: 'One process is one daemon: pass the object around.',
  },
  ERR_COOK_PID_FILE: {
    text: 'the pid file {file} could not be written: {why}',
    help: 'Check that its folder exists and is writable; a pid file that was there is as it was.',
  },
  ERR_COOK_PID_FILE_TAKEN: {
    text: 'the pid file {file} names the living process {owner}, which is not our predecessor; it was left as it was',
    help: 'Another copy of the daemon runs. Stop or upgrade that one, or choose another file.',
  },
  ERR_COOK_RUN_DIR: {
    text: 'the run directory {folder} is refused: {why}',
    help: 'It holds the sockets by which daemons are stopped and replaced: a folder of this user, writable for nobody else (mode 0700), and no symlink. Another can be named in the environment.',
  },
  ERR_COOK_NAME_TAKEN: {
    text: 'a daemon named {name} runs already: {why}; it was left as it was',
    help: 'Upgrade or stop that one, or choose another name.',
  },
  ERR_COOK_CONTROL: {
    text: 'the control socket was asked wrongly: {why}',
    help: 'GET /status, GET /metrics, POST /upgrade, POST /stop and POST /reopen are there; docs/cli.md shows each.',
  },
  ERR_COOK_NOT_RUNNING: {
    text: 'no daemon named {name} runs',
    help: 'The command list shows those that run, and start starts one. Each user, and each run directory, has daemons of its own.',
  },
  ERR_COOK_NO_ANSWER: {
    text: 'the daemon named {name} did not answer at {path}: {why}',
    help: 'Nothing was changed. If its process is alive, it may be too busy; if something else listens there, remove the file.',
  },
  ERR_COOK_STANDS_STILL: {
    text: 'the daemon named {name} does not answer: {who}; nothing was changed',
    help: 'Its clients wait too, and no upgrade can reach it. stop ends it with all its generations, restart starts it again as well; logs shows its last words.',
  },
  ERR_COOK_PATH_TOO_LONG: {
    text: 'the Unix path {path} is too long: with the private name under which it is bound it has {bytes} bytes, and the platform takes {most}',
    help: 'Use a shorter path, for example below /run.',
  },
  ERR_COOK_UNIX_PATH: {
    text: 'the Unix path {path} could not be opened: {why}',
    help: 'Check that its folder exists and is writable.',
  },
  ERR_COOK_PATH_IN_USE: {
    text: 'the Unix path {path} is in use: {why}; it was left as it was',
    help: 'Stop or upgrade the process that listens there, or choose another path.',
  },
} as const satisfies Record<string, { text: string; help: string }>

/** Filled in, with what to do about it. */
export function textOf(code: keyof typeof errorTexts, values: Readonly<Record<string, string | number>>) {
  const { text, help } = errorTexts[code]
  return { text: text.replace(/\{(\w+)\}/g, (_, name: string) => String(values[name])), help }
}
