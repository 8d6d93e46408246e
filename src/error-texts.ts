/** Every error: its code, its text and what to do about it. docs/errors.md is made of this. */

/**
 * How a text and its help are written: `{name}` stands for a value that the thrower gives.
 * Durations are called `{ms}`: milliseconds as numbers, and told in seconds where they are long.
 */
export const errorTexts = {
  ERR_COOK_PLATFORM: {
    text: 'cook-daemon runs on Linux and macOS, not on {platform}',
    help: 'Run the program without cook-daemon, or in a Linux container.',
  },
  ERR_COOK_NO_PROC: {
    text: '/proc is not mounted; nothing was started or changed',
    help: 'Mount it (mount -t proc proc /proc): on Linux, cook-daemon tells processes and their descriptors apart by it.',
  },
  ERR_COOK_WORKER_THREAD: {
    text: '{verb} was called in a worker thread; nothing was changed',
    help: 'Call it in the main thread: signals, the working directory and descriptors belong to the process.',
  },
  ERR_COOK_ACTIVATION: {
    text: 'a socket that systemd has opened cannot be served: {why}; nothing was started',
    help: 'Its socket unit needs ListenStream= or ListenDatagram= with an address, and no Accept=yes (systemd.socket(5)).',
  },
  ERR_COOK_ADMIN: {
    text: 'the admin port {address} could not be opened: {why}',
    help: 'Choose another port with --admin (admin in the library), or end what listens there: ss -ltnp shows it.',
  },
  ERR_COOK_CLUSTER_WORKER: {
    text: '{verb} was called in a worker of node:cluster, whose listeners belong to the primary; nothing was changed',
    help: 'Start the program with cook-daemon start --workers N: the keeper is in the place of the primary then, and each worker may call it. Or use cook-daemon in a program without node:cluster. (A server with { exclusive: true } changes nothing here.)',
  },
  ERR_COOK_CLUSTER: {
    text: 'the program uses node:cluster, which needs --workers, and no worker was started',
    help: 'Start it with cook-daemon start --workers N, or max for one for each core: the keeper starts the workers, and the program runs in each of them as a worker of node:cluster. Without --workers, let it serve in one process.',
  },
  ERR_COOK_CLUSTER_PRIMARY: {
    text: '{verb} needs a primary of node:cluster, and under --workers there is none; nothing was started or sent',
    help: 'The keeper is in the place of the primary: it starts the workers, and starts one again that crashes. Give it the file that serves, as in cook-daemon start worker.js --workers 4. What workers have to tell each other goes through a database or a broker, as Redis; a library that sends to the primary has another mode mostly, as log4js with disableClustering.',
  },
  ERR_COOK_PRELOADED: {
    text: '{verb} was called too late: a server of this program listens already, and the preload of cook-daemon serves it',
    help: 'Call it before any server listens: the preload then leaves everything to the program.',
  },
  ERR_COOK_TWO_COPIES: {
    text: 'two copies of cook-daemon are loaded in this process: {mine} from {myUrl}, and {other} from {otherUrl}',
    help: 'Install one version: npm ls cook-daemon shows who brings the other.',
  },
  ERR_COOK_OPTION: {
    text: '{option} {why}',
    help: 'Correct the option; nothing was started or changed.',
  },
  ERR_COOK_TLS: {
    text: 'a TLS connection that came from another process refuses {what}: {why}',
    help: 'Ask it for nothing else than its data and its addresses, or leave out moveTls: TLS connections then end with their next answer, and come again.',
  },
  ERR_COOK_ENVIRONMENT: {
    text: 'the environment variable {variable} is invalid: {why}. Nothing was started, since another process may own the listeners',
    help: 'Only cook-daemon sets these variables, for the new process of an upgrade. To start the program by hand, unset all of them but COOK_DAEMON_HOME.',
  },
  ERR_COOK_STAGE: {
    text: '{verb} was called before daemonize() in a process that was started to become a daemon',
    help: "Call daemonize() first, or upgrade with { stage: 'daemon' } if the program does not daemonize.",
  },
  ERR_COOK_DAEMON_SPAWN: {
    text: 'the program could not be started with {command}: {why}',
    help: 'Check the path, its permissions and the working directory; nothing was left running.',
  },
  ERR_COOK_DAEMON_EXITED: {
    text: 'the program (pid {pid}) exited before it {goal}: {how}{words}',
    help: 'Fix the program and start it again; nothing was left running. Its whole output is in its log; without a logFile a daemon writes to /dev/null.',
  },
  ERR_COOK_DAEMON_SAID_NO: {
    text: 'the program reported that it could not start (pid {pid}): {reason}',
    help: 'The reason is what the program passed to notifyUpgradeDone(false, reason); nothing was left running.',
  },
  ERR_COOK_DAEMON_TIMEOUT: {
    text: 'the program (pid {pid}) was not {goal} after {ms} and was killed, with what it had started{words}',
    help: 'Raise readyTimeout, or find out what the program waits for before it listens or says that it is ready. A program that only starts another one, as npm, yarn, tsx or nodemon do, cannot be replaced: start that other one.',
  },
  ERR_COOK_USER: {
    text: 'the program could not become the user {user}: {why}. It ends, and has served nobody',
    help: 'Root must be allowed to become that user: a container needs CAP_SETUID and CAP_SETGID, and a user namespace a number for that user.',
  },
  ERR_COOK_NOT_IN_UPGRADE: {
    text: '{verb} was called in a process that was not started by an upgrade',
    help: 'Check inUpgrade() first.',
  },
  ERR_COOK_UNKNOWN_NAME: {
    text: 'the old process passed no {kind} handle named {name}; it passed: {names}',
    help: 'Use the name under which the old version registered the handle. A new listener is opened by the program itself.',
  },
  ERR_COOK_HANDLE_NAME: {
    text: 'invalid handle name {name}: it must have 1 to 255 characters and must not begin with "cook:"',
    help: 'Choose another name: those that begin with "cook:" are reserved for the library.',
  },
  ERR_COOK_NOT_LISTENING: {
    text: 'the {kind} handle named {name} is not open: {why}',
    help: 'Register a server or a UDP socket after its "listening" event, and call restoreInheritFiles() before you close it.',
  },
  ERR_COOK_HANDLE_KIND: {
    text: 'the handle named {name} is {actual}, but {verb} takes {expected}',
    help: 'Use the function for that kind of handle.',
  },
  ERR_COOK_UPGRADE_IN_PROGRESS: {
    text: 'an upgrade to generation {generation} is already in progress and goes on; until it commits, this process (pid {pid}) serves',
    help: 'Wait for its end: it ends after its readyTimeout at the latest.',
  },
  ERR_COOK_UPGRADED: {
    text: 'this process (pid {pid}) has been replaced already; its successor serves now',
    help: 'Upgrade the successor instead: its pid is in the report and in the pid file.',
  },
  ERR_COOK_STOPPING: {
    text: 'this process (pid {pid}) is stopping and starts no new version',
    help: 'Start the service again when it has stopped.',
  },
  ERR_COOK_NOT_COMMITTED: {
    text: '{verb} was called before the upgrade was committed; until then the old process (pid {predecessor}) owns the service',
    help: 'Call it after notifyUpgradeDone() has resolved.',
  },
  ERR_COOK_NOT_READY: {
    text: '{verb} was called before this process (pid {self}) was ready',
    help: 'Call it after ready() or serve() has resolved. If a signal to upgrade came this early, send it again.',
  },
  ERR_COOK_SUCCESSOR_SPAWN: {
    text: 'the new version could not be started with {command}: {why}. The old version (pid {self}) still serves',
    help: 'Check the path (--node of the command, or execPath, names another Node), its permissions, the working directory and the limits on processes and descriptors; then upgrade again.',
  },
  ERR_COOK_SUCCESSOR_EXITED: {
    text: 'the new version ({who}) exited before it was ready: {how}. The old version (pid {self}) still serves{words}',
    help: 'Fix the new version and upgrade again; nothing was lost. Its whole output is in the log.',
  },
  ERR_COOK_SUCCESSOR_SAID_NO: {
    text: 'the new version (pid {pid}) refused to start: {reason}. The old version (pid {self}) still serves',
    help: 'The reason is what the new version passed to notifyUpgradeDone(false, reason).',
  },
  ERR_COOK_SUCCESSOR_TIMEOUT: {
    text: 'the new version was not ready after {ms} and was killed ({who}; {step}){waits}. The old version (pid {self}) still serves{words}',
    help: 'Raise readyTimeout, or find out what the new version waits for before it is ready.',
  },
  ERR_COOK_LISTENERS_MISSING: {
    text: 'the new version ({who}) {elsewhere} on {missing}, where the old version listens; {how}, and was killed. The old version (pid {self}) still serves{words}',
    help: 'If nobody is to listen there any more, upgrade with --release and that port or path. If not, put PORT, or whatever says where the program listens, back. A program that opens it later, when something happens, needs --wait-ready.',
  },
  ERR_COOK_SUCCESSOR_LOST: {
    text: 'the new version (generation {generation}) died right after it had taken over. The old version (pid {self}) serves again',
    help: 'Read its last lines in the log. Upgrade with an overlap: a new version that dies during it never takes over.',
  },
  ERR_COOK_SERVICE_NOT_UPGRADED: {
    text: 'the service was not upgraded: {why}',
    help: 'It has several workers, which are upgraded as one by their keeper. What served before still serves; the log of the service has the reason too.',
  },
  ERR_COOK_OTHERS_FAILED: {
    text: 'the new version ({who}) was refused, since another worker of the service could not be replaced. The old version (pid {self}) still serves',
    help: 'All workers of a service are upgraded, or none. The answer for the one that failed says why.',
  },
  ERR_COOK_WORKER_LOST: {
    text: 'the old process (pid {pid}) ended during the upgrade, and the new one did not take over',
    help: 'The keeper starts the version again that served before: cook-daemon status shows how far it is, and how the process ended.',
  },
  ERR_COOK_LINK_BROKEN: {
    text: 'the link to the new version ({who}) broke: {why}. The new version was killed; the old version (pid {self}) still serves',
    help: 'The link is descriptor 3 of the new version: its program must neither write to it nor close it.',
  },
  ERR_COOK_PROTOCOL: {
    text: 'the old and the new version have no protocol in common: {why}. The old version (pid {pid}) still serves',
    help: 'Deploy a version of cook-daemon between the two first and upgrade in two steps, or stop the service and start it with the new version.',
  },
  ERR_COOK_STOPPED: {
    text: 'the upgrade was aborted, since {why}; the new version ({who}) was killed. The old version (pid {self}) still serves',
    help: 'Upgrade again, or if the service was stopped, start it.',
  },
  ERR_COOK_REFUSED: {
    text: 'the old process (pid {predecessor}) refused this one: {reason}. The old process still serves; this one must exit',
    help: 'Exit. The error that upgrade() threw in the old process has the details.',
  },
  ERR_COOK_NOTIFIED_TWICE: {
    text: 'notifyUpgradeDone() was called twice in this process; the first call counts',
    help: 'Call it once, when the program serves or knows that it cannot.',
  },
  ERR_COOK_STATE: {
    text: 'the state {name} cannot be handed over: {why}',
    help: 'A value must be one that structuredClone takes, of at most 64 MiB, and be saved within stateTimeout. If the new version fails for lack of it, the old version still serves.',
  },
  ERR_COOK_STATE_VERSION: {
    text: 'the state {name} has version {version}, but this program reads {wanted}',
    help: 'Let the program read both versions while both are deployed, or stop the service and start it again.',
  },
  ERR_COOK_STATE_NAME: {
    text: 'the old process has no state named {name}; it has: {names}',
    help: 'Use a name from saveState of the old version. A program that gains a state creates it itself.',
  },
  ERR_COOK_STATE_LATE: {
    text: 'inherited() was called after ready()',
    help: 'Call it before ready(): the old process hands over state only until then.',
  },
  ERR_COOK_LISTEN: {
    text: 'the server cannot listen as {name}: {why}',
    help: 'Give each server a name or address of its own, before ready().',
  },
  ERR_COOK_HAND_OVER: {
    text: 'the connection cannot be handed over: {why}',
    help: 'Only open connections without TLS can move, and only while this process hands over to a successor. The connection stays here.',
  },
  ERR_COOK_WS_LATE: {
    text: 'a WebSocket had moved to the new version when the program sent a message on it here ({name}): the message is lost',
    help: 'Return a promise that lasts until the answer is sent, from the message listener (an async function does) or from saveState. This is reported once for each upgrade.',
  },
  ERR_COOK_WS: {
    text: 'the WebSockets cannot be handed over: {why}',
    help: 'Give handOverWebSockets() a server of ws 8.18 or a later 8, before ready(); with serve(), in its prepare option.',
  },
  ERR_COOK_TOO_MANY_GENERATIONS: {
    text: '{count} generations still run, and maxGenerations is {most}; this process (pid {pid}) still serves',
    help: 'Wait until an old generation has drained, shorten drainTimeout, or raise maxGenerations.',
  },
  ERR_COOK_DAEMON_TWICE: {
    text: 'createDaemon() was called twice in this process',
    help: 'A process is one daemon: pass the object around.',
  },
  ERR_COOK_PID_FILE: {
    text: 'the pid file {file} could not be written: {why}',
    help: 'Check that its folder exists and is writable. A pid file that was there is unchanged.',
  },
  ERR_COOK_PID_FILE_TAKEN: {
    text: 'the pid file {file} names another running process (pid {owner}); it was left as it was',
    help: 'If that is the same service, upgrade or stop it. Otherwise choose another pid file.',
  },
  ERR_COOK_CONFIG: {
    text: 'the configuration {file} cannot be used: {why}',
    help: 'Correct the file; nothing was started or changed. docs/config.md has every field.',
  },
  ERR_COOK_CONFIG_OWNER: {
    text: 'the configuration {file} is not read, since another user decides what it says: {why}',
    help: 'The file and every folder above it must belong to this user or root, and nobody else may write in them (chown, chmod go-w). Root can name one more user, with --allow-owner: code is evaluated as that user. Nothing was started or changed.',
  },
  ERR_COOK_RUN_DIR: {
    text: 'the run directory {folder} cannot be used: {why}',
    help: 'It must belong to this user, must not be writable for anybody else (mode 0700), and must not be a symlink, since its sockets stop and replace services. COOK_DAEMON_HOME names another one. Without any, run serves without a control socket, and so does start with --log.',
  },
  ERR_COOK_NAME_TAKEN: {
    text: 'a service named {name} is already running: {why}',
    help: 'Upgrade it, stop it, or choose another name.',
  },
  ERR_COOK_CONTROL: {
    text: 'bad request to the control socket: {why}',
    help: 'It answers GET /status, GET /metrics, POST /upgrade, POST /restart and POST /stop; docs/cli.md shows each.',
  },
  ERR_COOK_NOT_RUNNING: {
    text: 'no service named {name} is running',
    help: 'The command list shows what runs, and start starts a program. Each user, and each run directory, has services of its own.',
  },
  ERR_COOK_NO_WORKER: {
    text: '{name} has no process that serves now (it is {state}); clients wait, and nothing was changed',
    help: 'Its keeper starts it again; status shows how the last one ended. To start another version at once: restart.',
  },
  ERR_COOK_KEEPER_GONE: {
    text: 'the keeper of {name} is gone; its worker (pid {pid}) serves on without one',
    help: 'It starts another one within a second or so. One that has given up root cannot: cook-daemon stop ends it by its name, and start starts it again.',
  },
  ERR_COOK_NO_KEEPER: {
    text: '{name} has no keeper: it was started with --no-keep, or by itself; nothing was changed',
    help: 'Started again without --no-keep it has one.',
  },
  ERR_COOK_NOT_KNOWN: {
    text: 'there never was a service named {name}, as far as is known in {folder}',
    help: 'The command list shows what runs and what is down. Each user, and each run directory, has services of its own.',
  },
  ERR_COOK_DOWN: {
    text: 'the service {name} is down: {why}',
    help: 'The commands start and restart with its name start it again as it was; forget removes what is known of it.',
  },
  ERR_COOK_UNIT_DOWN: {
    text: 'no service named {name} is running; the unit {unit} is {state}',
    help: 'Run systemctl status with the name of the unit to see why, and systemctl start to start it (with --user for one of a user manager). cook-daemon logs has its journal.',
  },
  ERR_COOK_NO_JOURNAL: {
    text: 'the output of {unit} is in the journal, and journalctl cannot be run',
    help: 'Install journalctl (systemd), or let the service write a log of its own: --log.',
  },
  ERR_COOK_OF_UNIT: {
    text: 'the service {name} in {folder} is down, or has no keeper; nothing was done',
    help: 'Whoever started it starts it again: systemctl restart with the name of its unit, if it has one. Under a keeper (cook-daemon run … --keep) restart does it, and clients wait meanwhile.',
  },
  ERR_COOK_OTHER_USER: {
    text: 'the service in {folder} belongs to user {user}, who cannot reach {path}; nothing was done',
    help: 'Root reaches a service of another user as that user alone. Install cook-daemon and Node where everybody can read them (npm install --global). For a unit of systemd, systemctl reload, restart and stop do without; a folder in /run/private (DynamicUser= with RuntimeDirectoryPreserve=) is open to that unit alone.',
  },
  ERR_COOK_NONE_RUNNING: {
    text: 'no service is running (looked in {folder})',
    help: 'The command start starts one. Each user, and each run directory, has services of its own.',
  },
  ERR_COOK_NONE_DOWN: {
    text: 'no service is down (looked in {folder})',
    help: 'The command list shows what runs and what is down.',
  },
  ERR_COOK_NO_ANSWER: {
    text: '{name} did not respond on {path}: {why}',
    help: 'Nothing was changed. If its process is alive, it may be overloaded; if another program listens there, remove the file.',
  },
  ERR_COOK_STANDS_STILL: {
    text: '{name} does not respond: {who}; nothing was changed',
    help: 'As long as its event loop is blocked its clients wait too. stop ends it with all its generations, restart also starts it again, logs shows its last lines. --hang-timeout has a keeper do that.',
  },
  ERR_COOK_PATH_TOO_LONG: {
    text: 'the Unix path {path} is too long: it has {bytes} bytes, with the suffix that it has while it is bound, and this system takes {most}',
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

/** What to do about an error of which only the code is known, as one of another process. */
export function helpOf(code: string): string | undefined {
  return Object.hasOwn(errorTexts, code) ? errorTexts[code as keyof typeof errorTexts].help : undefined
}

/** Filled in, with what to do about it. */
export function textOf(code: keyof typeof errorTexts, values: Readonly<Record<string, string | number>>) {
  const { text, help } = errorTexts[code]
  return { text: text.replace(/\{(\w+)\}/g, (_, name: string) => inWords(name, values[name])), help }
}

function inWords(name: string, value: string | number | undefined): string {
  if (name !== 'ms' || typeof value !== 'number') return String(value)
  return value < 1000 ? `${value} ms` : `${value / 1000} s`
}
