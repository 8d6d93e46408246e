/** All commands with their options and their help, as commander understands them. */
import { availableParallelism } from 'node:os'
import { Argument, Command, CommanderError, InvalidArgumentError } from 'commander'
import { bytesOf } from '../config/sizes.ts'
import { adminAddressOf } from '../contract/admin-address.ts'
import { envHome, envRuntime } from '../contract/environment.ts'
import { CookError } from '../errors.ts'
import { mostWorkers } from '../keeper/plan.ts'
import { canTellProcesses } from '../node/system.ts'
import { version } from '../version.ts'
import { exitCodes, tell } from './output.ts'
import { noteTyped } from './typed.ts'

type Action = () => Promise<number>

/** Those whose completion is known. */
const shells = ['bash', 'zsh', 'fish'] as const

let action: Action = async () => exitCodes.usage

const program = new Command('cook-daemon')
  .description('Starts a Node server as a daemon, and replaces it, while it runs, by its new version.')
  .version(version)
  .exitOverride()
  .helpCommand('help [command]', 'show the options of a command, with an example')
  .showSuggestionAfterError(true)
  .addHelpText(
    'after',
    `
Exit codes: 0 done, 1 failed (what ran still runs), 2 usage error, 3 not running.
Daemons are found in $${envHome}, else in $${envRuntime}, /run/cook-daemon (root) or ~/.cook-daemon.

Example:
  cook-daemon start app.js --name web
  cook-daemon upgrade web`,
  )

const meantText =
  'a service, or several; all; or a configuration and services of it (default: the configuration that lies here, else the only service)'

withFileOptions(withStartOptions(program.command('start')))
  .description('start a program as a daemon, and wait until it serves; or the services of a configuration')
  .argument(
    '[script]',
    'the program; a symlink in its path is followed again at each upgrade; or a service that is down; or a configuration (default: the one that lies here)',
  )
  .argument('[args...]', 'arguments of the program, behind --; or services of the configuration (default: all)')
  .option('--name <name>', "name of the daemon (default: the script's name without its extension)")
  .option('--workers <number>', 'processes that serve side by side, or max: one for each core (default: 1)', workers)
  .option('--no-keep', 'without a keeper: a crash stays down')
  .option('--json', 'print the status as JSON')
  .addHelpText(
    'after',
    examples(
      'start dist/server.js --name web --log /var/log/web.log -- --port 8080',
      'start',
      'start cook.config.json web --env production',
    ),
  )
  .action((script, args, options) =>
    later(async () => (await import('./several.ts')).startMeant(script, args, options)),
  )

withFileOptions(withStartOptions(program.command('run')))
  .description('the same in the foreground, for systemd, containers and terminals')
  .argument('<script>', 'the program; or a configuration')
  .argument('[args...]', 'arguments of the program, behind --; or the service of the configuration')
  .option('--name <name>', "name of the daemon (default: the script's name without its extension)")
  .option('--workers <number>', 'processes that serve side by side, or max: one for each core (default: 1)', workers)
  .option('--keep', 'start a worker again that ends unasked, up to ten times in a row')
  .addHelpText(
    'after',
    `
This process is the keeper: it forwards signals to the worker, and ends with its exit code.
${example('run server.js --name web').trimStart()}`,
  )
  .action((script, args, options) => later(async () => (await import('./several.ts')).runMeant(script, args, options)))

withFileOptions(withStartOptions(program.command('upgrade')))
  .description('replace a daemon by its new version; exit 0 only when that serves')
  .argument('[name]', meantText)
  .argument('[args...]', 'with --or-start: arguments of the program, behind --')
  .option('--or-start [script]', 'start this program, or what the configuration says, if the daemon does not run')
  .option('--update-env', 'the new version gets the environment of this command, not that of the first start')
  .option(
    '--release <listener>',
    'a listener that the new version may leave: its port, address, path or name; repeatable',
    collect,
  )
  .option('--rolling', 'one worker after the other, for little memory; it stops at the first that fails')
  .option('--exclusive', 'end the old version before the new one starts, where both cannot run at once; clients wait')
  .option('--keeper', 'replace the keeper too, by the one of this command, on its Node')
  .option('--no-wait', 'return when the new version serves, without waiting for the end of the old one')
  .option('--json', 'print each step as a line of JSON')
  .addHelpText('after', examples('upgrade web --ready-timeout 30000', 'upgrade --or-start', 'upgrade all'))
  .action((name, args, options) => {
    const [meant, ...rest] = beginsBehind(args.length + 1) ? [undefined, name, ...args] : [name, ...args]
    later(async () => (await import('./several.ts')).upgradeMeant(meant, rest, options))
  })

withOwnerOption(program.command('status'))
  .description('show a daemon, with generations that still drain')
  .argument('[names...]', meantText)
  .option('--json', 'print it as JSON')
  .addHelpText('after', example('status web --json'))
  .action((names, options) => later(async () => (await import('./several.ts')).statusMeant(names, options)))

withOwnerOption(program.command('stop'))
  .description('finish what was accepted, and end; all generations, also of one that does not answer')
  .argument('[names...]', meantText)
  .option('--kill-after <ms>', 'what is still there then is killed (default: its drain timeout and 5 s)', duration)
  .option('--json', 'print the end as JSON')
  .addHelpText('after', examples('stop web', 'stop all'))
  .action((names, options) => later(async () => (await import('./several.ts')).stopMeant(names, options)))

withFileOptions(withStartOptions(program.command('restart')))
  .description('end the worker, and start the same again; clients wait. For a new version use upgrade')
  .argument('[names...]', meantText)
  .option('--update-env', 'with the environment of this command, not that of the first start')
  .option('--kill-after <ms>', 'what is still there then is killed (default: its drain timeout and 5 s)', duration)
  .option('--json', 'print the status as JSON')
  .addHelpText('after', example('restart web'))
  .action((names, options) => later(async () => (await import('./several.ts')).restartMeant(names, options)))

program
  .command('scale')
  .description('change how many workers serve; connections of those that go move to the others')
  .argument('<name>', 'the service')
  .argument('<workers>', 'how many, or max: one for each core', workers)
  .option('--json', 'print the status as JSON')
  .addHelpText('after', example('scale web 8'))
  .action((name, count, options) => later(async () => (await import('./several.ts')).scaleMeant(name, count, options)))

program
  .command('forget')
  .description('remove what is known of a service that is down')
  .argument('<name>', 'the service')
  .addHelpText('after', example('forget web'))
  .action((name) => later(async () => (await import('./several.ts')).forgetMeant(name)))

program
  .command('logs')
  .description('print the end of the log, also of a daemon that is dead')
  .argument('[name]', 'the daemon; may be left out if one runs')
  .option('-f, --follow', 'go on with what is written, also when the log is rotated')
  .option('-n, --lines <count>', 'how many lines', count, 20)
  .option('--slot <slot>', 'only what this one of several workers wrote', count)
  .option('--path', 'print where the log is')
  .addHelpText('after', example('logs web -f'))
  .action((name, options) => later(async () => (await import('./several.ts')).logsMeant(name, options)))

withStartOptions(program.command('prove'))
  .description('upgrade your own program, to good versions and to such as fail, under load that never retries')
  .argument('<script>', 'the program; its port must be free')
  .argument('[args...]', 'arguments of the program, behind --')
  .option('--path <path>', 'what the clients ask for', '/')
  .option('--listener <name>', 'which listener they ask, by its name or address (default: the first that has a port)')
  .option('--port <port>', 'which listener they ask, by its port', count)
  .option('--host <host>', 'the Host header of their requests')
  .option('--upgrades <count>', 'how many; every second one is to a version that exits, hangs or crashes', count, 12)
  .option('--clients <count>', 'how many clients, with one connection each', count, 50)
  .option('--web-socket <path>', 'as many hold a WebSocket there (default: at --path, if it is answered there)')
  .option('--workers <number>', 'processes that serve side by side, or max: one for each core (default: 1)', workers)
  .option('--no-keep', 'without a keeper')
  .option('--report <file>', 'write what was seen, as one HTML page with pictures')
  .option('--json', 'print the verdict as JSON')
  .addHelpText('after', examples('prove server.js --path /health', 'prove server.js --workers 4 --report proof.html'))
  .action((script, args, options) => later(async () => (await import('./prove.ts')).prove(script, args, options)))

withFileOptions(
  withStartOptions(
    program.command('systemd'),
    'who runs it (default: the owner of the script; for root, a user that owns nothing)',
  ),
)
  .description('print the unit of a service for systemd, each line with its reason; or install it')
  .argument('[script]', 'the program; or a service that is known; or a configuration (default: the one that lies here)')
  .argument('[args...]', 'arguments of the program, behind --; or services of the configuration (default: all)')
  .option('--name <name>', "name of the service and its unit (default: the script's name without its extension)")
  .option(
    '--workers <number>',
    'processes that serve side by side, or max: one for each core (default: 1)',
    workersText,
  )
  .option('--user-manager', 'for the systemd of this user, without root')
  .option(
    '--socket [address]',
    'systemd listens there: a port, ADDRESS:PORT, a path, or udp:PORT; repeatable (default: where the service listens now)',
    collect,
  )
  .option('--install', 'write it, enable it and start it')
  .addHelpText(
    'after',
    examples(
      'systemd /srv/web/current/app.js --name web --install',
      'systemd app.js --socket 8080 > /etc/systemd/system/app.service',
      'systemd cook.config.json web',
    ),
  )
  .action((script, args, options) => {
    const [meant, ...rest] = beginsBehind(args.length + 1) ? [undefined, script, ...args] : [script, ...args]
    later(async () => (await import('./systemd.ts')).systemd(meant, rest, options))
  })

program
  .command('list')
  .description('show all daemons of this user')
  .option('--json', 'print them as JSON')
  .addHelpText('after', example('list --json'))
  .action((options) => later(async () => (await import('./status.ts')).list(options)))

program
  .command('top')
  .description('watch all services, upgrade, scale and stop them, on a terminal; plain lines elsewhere')
  .option('--once', 'print what there is once; what uses the CPU is seen for the length of the interval')
  .option('--json', 'with --once: print it as JSON')
  .option('--interval <ms>', 'time between two looks (default: 1000, at least 100)', duration, 1000)
  .addHelpText('after', examples('top', 'top --once'))
  .action((options) => later(async () => (await import('./top/command.ts')).top(options)))

program
  .command('doctor')
  .description('look for what would hurt a service one day, and say what to do about it; exit 1: there is something')
  .argument('[name]', 'the service (default: all that run here)')
  .option('--json', 'print what was found as JSON')
  .addHelpText('after', examples('doctor', 'doctor web'))
  .action((name, options) => later(async () => (await import('./several.ts')).doctorMeant(name, options)))

program
  .command('completion')
  .description('print what a shell needs to complete commands, options and names of services')
  .addArgument(new Argument('<shell>', 'which one').choices(shells))
  .addHelpText('after', example('completion bash >> ~/.bashrc'))
  .action((shell) => later(async () => (await import('./completion.ts')).printCompletion(shell)))

program
  .command('complete [words...]', { hidden: true })
  .action((words) => later(async () => (await import('./completion.ts')).complete(program, words)))

program.hook('preSubcommand', (_, command) => noteTyped(command))

let typed: readonly string[] = []

/** The last so many words are all that stands behind `--`: none of them is a name. */
function beginsBehind(count: number): boolean {
  const at = typed.indexOf('--')
  return at >= 0 && typed.length - at - 1 === count
}

/** Does what was typed; gives the exit code. */
export async function runCommand(args: readonly string[]): Promise<number> {
  typed = args
  try {
    program.parse(args, { from: 'user' })
    if (!canTellProcesses()) throw new CookError('ERR_COOK_NO_PROC', {})
    return await action()
  } catch (error) {
    // commander has printed why already, or its help.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.done : exitCodes.usage
    return tell((await import('./down.ts')).explained(error))
  }
}

/** What is to be done is known; its code is loaded only then. */
function later(run: Action): void {
  action = run
}

function withStartOptions(
  command: Command,
  uidText = 'as root: who it is, by name or number, from its first readiness on, and later versions from their start on',
): Command {
  return command
    .option(
      '--wait-ready',
      "the program says itself when it is ready: process.send('ready'), or ready() of the library",
    )
    .option('--no-listen', 'it has no server, as a queue consumer: it is up when it says so, or has lived for 3 s')
    .option('--ready-timeout <ms>', 'time until it must serve (default: 60000)', duration)
    .option('--drain-timeout <ms>', 'time to finish what was accepted (default: 30000)', duration)
    .option(
      '--admin <address>',
      '[HOST:]PORT for /livez, /readyz and /metrics; without a host on 127.0.0.1 alone (default: none)',
      adminAddress,
    )
    .option(
      '--lame-duck <ms>',
      'at SIGTERM, how long it still serves and sends its clients elsewhere, before it drains (default: 0)',
      duration,
    )
    .option('--overlap <ms>', 'how long both versions accept before the new one takes over (default: 0)', duration)
    .option(
      '--log <file>',
      'file for stdout and stderr (default of start: NAME.log in /var/log/cook-daemon or the state folder)',
    )
    .option('--pid <file>', 'file for the pid of the keeper; with --no-keep, of the process that serves')
    .option('--cwd <path>', 'the working directory: as if this command was typed there (default: where it is typed)')
    .option('--uid <user>', uidText)
    .option('--gid <group>', 'with --uid: the group, by name or number (default: that of the user)')
    .option('--node <path>', 'the Node that runs it (default: the one that runs this command)')
    .option('--node-arg <arg>', 'argument for Node itself; may be repeated', collect)
    .option(
      '--hang-timeout <ms>',
      'kill and restart it if its event loop does not turn for so long (default: never)',
      duration,
    )
    .option('--max-memory <size>', 'replace it by itself, as 512M, when it needs more (default: never)', size)
    .option('--log-max-size <size>', 'rotate a log that is larger, as 50M; 0 for never (default: never)', sizeOrNone)
    .option('--log-keep <count>', 'how many rotated logs are kept (default: 14)', countFromOne)
    .option('--no-move-connections', 'close connections with their next answer instead of moving them')
    .option('--move-tls', 'move connections of TLS 1.3 too: their keys go to the new version (default: they close)')
    .option(
      '--move-tls-for <ms>',
      'time after which one that has moved ends with an answer (default: 300000)',
      duration,
    )
}

function withFileOptions(command: Command): Command {
  return withOwnerOption(command).option('--env <name>', 'with the environment of this name in the configuration')
}

function withOwnerOption(command: Command): Command {
  return command.option(
    '--allow-owner <user>',
    'as root: this user too may write in the configuration, and its code is evaluated as this user',
  )
}

function example(text: string): string {
  return `\nExample:\n  cook-daemon ${text}`
}

function examples(...texts: readonly string[]): string {
  return `\nExamples:\n${texts.map((text) => `  cook-daemon ${text}`).join('\n')}`
}

/** True: it was typed without a value before. */
function collect(value: string, before: readonly string[] | true = []): readonly string[] {
  return [...(before === true ? [] : before), value]
}

function duration(text: string): number {
  const ms = Number(text)
  if (text.trim() !== '' && ms >= 0 && ms <= 2 ** 31 - 1) return ms
  throw new InvalidArgumentError('It must be a number of milliseconds.')
}

function size(text: string): number {
  const bytes = bytesOf(text)
  if (bytes !== undefined) return bytes
  throw new InvalidArgumentError('It must be a size as 512M or 2G.')
}

function adminAddress(text: string): string {
  if (adminAddressOf(text) !== undefined) return text
  throw new InvalidArgumentError('It must be a port, or HOST:PORT.')
}

function workers(text: string): number {
  if (text === 'max') return availableParallelism()
  const number = Number(text)
  if (/^\d+$/.test(text) && number >= 1 && number <= mostWorkers) return number
  throw new InvalidArgumentError(`It must be max, or a whole number from 1 to ${mostWorkers}.`)
}

/** As it is typed: what max means is for the machine to say. */
function workersText(text: string): string {
  workers(text)
  return text
}

function sizeOrNone(text: string): number {
  return text === '0' ? 0 : size(text)
}

function countFromOne(text: string): number {
  if (count(text) > 0) return Number(text)
  throw new InvalidArgumentError('It must be at least 1.')
}

function count(text: string): number {
  if (/^\d+$/.test(text)) return Number(text)
  throw new InvalidArgumentError('It must be a whole number.')
}
