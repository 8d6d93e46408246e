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
    help: 'Mount it (mount -t proc proc /proc): on Linux, cook-daemon identifies processes and descriptors through it.',
  },
  ERR_COOK_WORKER_THREAD: {
    text: '{verb} was called in a worker thread; nothing was changed',
    help: 'Call it in the main thread: signals, the working directory and descriptors belong to the process.',
  },
  ERR_COOK_ACTIVATION: {
    text: 'a socket opened by systemd cannot be used: {why}; nothing was started',
    help: 'The socket unit must have ListenStream= or ListenDatagram= with an address, and must not have Accept=yes (systemd.socket(5)).',
  },
  ERR_COOK_ADMIN: {
    text: 'the admin port {address} could not be opened: {why}',
    help: 'Choose another port with --admin (admin in the library), or stop the process that listens there: ss -ltnp shows it.',
  },
  ERR_COOK_CLUSTER_WORKER: {
    text: '{verb} was called in a worker of node:cluster, whose listeners belong to the primary; nothing was changed',
    help: 'Start the program with cook-daemon start --workers N: the keeper then replaces the primary, and each worker may call it. Or use cook-daemon in a program without node:cluster. (Listening with { exclusive: true } makes no difference.)',
  },
  ERR_COOK_CLUSTER: {
    text: 'the program uses node:cluster, which needs --workers; no worker was started',
    help: 'Start it with cook-daemon start --workers N (max: one for each core). The keeper starts the workers, and the program runs in each of them as a worker of node:cluster. Without --workers, the program must serve in one process.',
  },
  ERR_COOK_CLUSTER_PRIMARY: {
    text: '{verb} needs the primary of node:cluster, and a service with --workers has none; nothing was started or sent',
    help: 'The keeper replaces the primary: it starts the workers, and restarts one that crashes. Give it the file that serves: cook-daemon start worker.js --workers 4. Workers exchange data through a database or a broker, for example Redis. A library that sends to the primary usually has an option for this, for example disableClustering of log4js.',
  },
  ERR_COOK_PRELOADED: {
    text: '{verb} was called too late: a server of this program already listens, and the preload of cook-daemon manages it',
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
    text: 'a TLS connection that was handed over refuses {what}: {why}',
    help: 'Use only its data and its addresses, or remove moveTls: TLS connections then close with their next answer, and clients reconnect.',
  },
  ERR_COOK_ENVIRONMENT: {
    text: 'the environment variable {variable} is invalid: {why}. Nothing was started, since another process may own the listeners',
    help: 'Only cook-daemon sets these variables, for the new process of an upgrade. To start the program by hand, unset all of them except COOK_DAEMON_HOME.',
  },
  ERR_COOK_STAGE: {
    text: '{verb} was called before daemonize() in a process that was started to become a daemon',
    help: "Call daemonize() first, or upgrade with { stage: 'daemon' } if the program does not daemonize.",
  },
  ERR_COOK_DAEMON_SPAWN: {
    text: 'the program could not be started with {command}: {why}',
    help: 'Check the path, its permissions and the working directory. Nothing was left running.',
  },
  ERR_COOK_DAEMON_EXITED: {
    text: 'the program (pid {pid}) exited before it {goal}: {how}{words}',
    help: 'Fix the program and start it again.',
  },
  ERR_COOK_DAEMON_FAILED: {
    text: 'the program reported that it could not start (pid {pid}): {reason}',
    help: 'The reason is what the program passed to notifyUpgradeDone(false, reason). Nothing was left running.',
  },
  ERR_COOK_DAEMON_TIMEOUT: {
    text: 'the program (pid {pid}) was not {goal} after {ms} and was killed with its child processes{words}',
    help: 'Raise readyTimeout, or find out what the program waits for before it listens or reports that it is ready. A program that only starts another one (npm, yarn, tsx, nodemon) cannot be upgraded: start that other program.',
  },
  ERR_COOK_USER: {
    text: 'the program could not switch to user {user}: {why}. It exits, and no client was served',
    help: 'Root must be allowed to switch to that user: a container needs CAP_SETUID and CAP_SETGID, and a user namespace must map that user.',
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
    text: 'an upgrade to generation {generation} is already in progress; until it commits, this process (pid {pid}) serves',
    help: 'Wait until it ends: after its readyTimeout at the latest.',
  },
  ERR_COOK_UPGRADED: {
    text: 'this process (pid {pid}) has already been replaced; the new process serves now',
    help: 'Upgrade the new process instead: its pid is in the report and in the pid file.',
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
    help: 'Check the path of the program and of Node (--node, or execPath in the library), their permissions, the working directory and the limits on processes and descriptors. Then upgrade again.',
  },
  ERR_COOK_SUCCESSOR_EXITED: {
    text: 'the new version ({who}) exited before it was ready: {how}. The old version (pid {self}) still serves{words}',
    help: 'Fix the new version and upgrade again.',
  },
  ERR_COOK_SUCCESSOR_FAILED: {
    text: 'the new version (pid {pid}) refused to start: {reason}. The old version (pid {self}) still serves',
    help: 'The reason is what the new version passed to notifyUpgradeDone(false, reason).',
  },
  ERR_COOK_SUCCESSOR_TIMEOUT: {
    text: 'the new version was not ready after {ms} and was killed ({who}; {step}){waits}. The old version (pid {self}) still serves{words}',
    help: 'Raise readyTimeout, or find out what the new version waits for before it is ready.',
  },
  ERR_COOK_LISTENERS_MISSING: {
    text: 'the new version ({who}) {elsewhere} on {missing}, where the old version listens; {how}, and was killed. The old version (pid {self}) still serves{words}',
    help: 'To give that listener up, upgrade with --release and its port or path. Otherwise restore PORT, or whatever setting says where the program listens. A program that opens it later, on some event, needs --wait-ready.',
  },
  ERR_COOK_SUCCESSOR_LOST: {
    text: 'the new version (generation {generation}) crashed right after it took over. The old version (pid {self}) serves again',
    help: 'Its last lines are in the log. Upgrade with an overlap: a new version that crashes during the overlap never takes over.',
  },
  ERR_COOK_SERVICE_NOT_UPGRADED: {
    text: 'the service was not upgraded: {why}',
    help: 'Its keeper upgrades all workers, or none. What served before still serves. The reason is also in the log of the service.',
  },
  ERR_COOK_OTHERS_FAILED: {
    text: 'another worker of the service could not be replaced, so {what}. The old version (pid {self}) still serves',
    help: 'All workers of a service are upgraded, or none. The error of the worker that failed says why.',
  },
  ERR_COOK_WORKER_LOST: {
    text: 'the old process (pid {pid}) ended during the upgrade, and the new one did not take over',
    help: 'The keeper starts the previous version again. cook-daemon status shows its state, and how the process ended.',
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
    text: 'the upgrade was aborted {why}; {what}. The old version (pid {self}) still serves',
    help: 'Upgrade again. If the service was stopped, start it.',
  },
  ERR_COOK_REFUSED: {
    text: '{who} refused this process: {reason}. {serves} must exit',
    help: 'Exit. The error that upgrade() threw in the old process has the details.',
  },
  ERR_COOK_NOTIFIED_TWICE: {
    text: 'notifyUpgradeDone() was called twice in this process; the first call counts',
    help: 'Call it once, when the program serves or knows that it cannot.',
  },
  ERR_COOK_STATE: {
    text: 'the state {name} cannot be handed over: {why}',
    help: 'A value must be one that structuredClone accepts, have at most 64 MiB, and be saved within stateTimeout. If the new version fails for lack of the state, the old version still serves.',
  },
  ERR_COOK_STATE_VERSION: {
    text: 'the state {name} has version {version}, but this program reads {wanted}',
    help: 'Let the program read both versions while both are deployed, or stop the service and start it again.',
  },
  ERR_COOK_STATE_NAME: {
    text: 'the old process has no state named {name}; it has: {names}',
    help: 'Use a name from saveState of the old version. A version that adds a state must create it itself.',
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
    text: 'a message is lost: it was sent on a WebSocket that had already moved to the new version ({name})',
    help: 'Return a promise from the message listener or from saveState that resolves when the answer was sent, as an async function does. This is reported once for each upgrade.',
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
    help: 'Check that its folder exists and is writable. An existing pid file is unchanged.',
  },
  ERR_COOK_PID_FILE_TAKEN: {
    text: 'the pid file {file} names another running process (pid {owner}); the file was not changed',
    help: 'If that is the same service, upgrade or stop it. Otherwise choose another pid file.',
  },
  ERR_COOK_CONFIG: {
    text: 'the configuration {file} cannot be used: {why}',
    help: 'Correct the file; nothing was started or changed. docs/config.md has every field.',
  },
  ERR_COOK_CONFIG_OWNER: {
    text: 'the configuration {file} was not read, because another user can change it: {why}',
    help: 'The file and every folder above it must belong to this user or root, and nobody else may write to them (chown, chmod go-w). Root can trust one more user with --allow-owner: code in the file then runs as that user. Nothing was started or changed.',
  },
  ERR_COOK_RUN_DIR: {
    text: 'the run directory {folder} cannot be used: {why}',
    help: 'It must belong to this user, must not be writable by anybody else (mode 0700) and must not be a symlink: its sockets can stop and replace services. COOK_DAEMON_HOME names another folder. Without a run directory, run serves without a control socket, and so does start with --log.',
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
    help: 'Run cook-daemon list to see what runs, or cook-daemon start to start a program. Each user, and each run directory, has its own services.',
  },
  ERR_COOK_NO_WORKER: {
    text: 'no process of {name} serves at the moment (it is {state}); clients wait, and nothing was changed',
    help: 'Its keeper starts it again; cook-daemon status shows how the last process ended. To start another version now: cook-daemon restart.',
  },
  ERR_COOK_KEEPER_GONE: {
    text: 'the keeper of {name} has exited; its worker (pid {pid}) still serves',
    help: 'The worker starts another keeper within about a second. A worker that has given up root cannot: run cook-daemon stop with the name, then start.',
  },
  ERR_COOK_NO_KEEPER: {
    text: '{name} has no keeper: it was started with --no-keep, or without cook-daemon start; nothing was changed',
    help: 'To give it one, stop it, and start it without --no-keep.',
  },
  ERR_COOK_NOT_KNOWN: {
    text: 'no service named {name} is known in {folder}',
    help: 'Run cook-daemon list to see what runs and what is down. Each user, and each run directory, has its own services.',
  },
  ERR_COOK_DOWN: {
    text: 'the service {name} is down: {why}',
    help: 'Run start or restart with its name to start it again as it was; forget removes its record.',
  },
  ERR_COOK_UNIT_DOWN: {
    text: 'no service named {name} is running; the unit {unit} is {state}',
    help: 'Run systemctl status UNIT to see why, and systemctl start UNIT to start it (with --user for a unit of a user manager). cook-daemon logs shows its journal.',
  },
  ERR_COOK_NO_JOURNAL: {
    text: 'the output of {unit} is in the journal, and journalctl cannot be run',
    help: 'Install journalctl (systemd), or let the service write a log of its own: --log.',
  },
  ERR_COOK_OF_UNIT: {
    text: 'the service {name} in {folder} is down, or has no keeper; nothing was done',
    help: 'Restart it the way it was started: systemctl restart UNIT, if it has a unit. With a keeper (cook-daemon run … --keep), cook-daemon restart works, and clients wait meanwhile.',
  },
  ERR_COOK_OTHER_USER: {
    text: 'the service in {folder} belongs to user {user}, who cannot access {path}; nothing was done',
    help: 'Root controls a service of another user only as that user. Install cook-daemon and Node where everybody can read them (npm install --global). For a unit of systemd, use systemctl reload, restart and stop instead: only the unit itself can enter a folder in /run/private (DynamicUser= with RuntimeDirectoryPreserve=).',
  },
  ERR_COOK_NONE_RUNNING: {
    text: 'no service is running (looked in {folder})',
    help: 'Run cook-daemon start to start one. Each user, and each run directory, has its own services.',
  },
  ERR_COOK_NONE_DOWN: {
    text: 'no service is down (looked in {folder})',
    help: 'Run cook-daemon list to see what runs and what is down.',
  },
  ERR_COOK_NO_ANSWER: {
    text: '{name} did not respond on {path}: {why}',
    help: 'Nothing was changed. If its process is alive, it may be overloaded; if another program listens there, remove the file.',
  },
  ERR_COOK_UNRESPONSIVE: {
    text: '{name} does not respond: {who}; nothing was changed',
    help: 'Its clients wait too. cook-daemon logs shows its last lines, stop ends it with all its generations, restart also starts it again. With --hang-timeout, its keeper restarts it.',
  },
  ERR_COOK_PATH_TOO_LONG: {
    text: 'the Unix path {path} is too long: it has {bytes} bytes, with the suffix used while it is bound, and this system allows {most}',
    help: 'Use a shorter path, for example below /run.',
  },
  ERR_COOK_UNIX_PATH: {
    text: 'the Unix path {path} could not be opened: {why}',
    help: 'Check that its folder exists and is writable.',
  },
  ERR_COOK_PATH_IN_USE: {
    text: 'the Unix path {path} is in use: {why}; it was not changed',
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
