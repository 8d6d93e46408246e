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
  .description('Runs a Node server as a daemon, and replaces it with its new version while it runs.')
  .version(version)
  .exitOverride()
  .helpCommand('help [command]', 'show the options of a command, with examples')
  .showSuggestionAfterError(true)
  .addHelpText(
    'after',
    `
Exit codes: 0 done, 1 failed (what ran still runs), 2 usage error,
3 not running.
Services are found in $${envHome}, else in $${envRuntime},
/run/cook-daemon (root) or ~/.cook-daemon.

Examples:
  cook-daemon start app.js --name web
  cook-daemon upgrade web`,
  )

const meantText =
  'one or more services; all; or a configuration and services in it (default: the configuration in this folder, else the only service)'

withFileOptions(withStartOptions(program.command('start')))
  .description('start a program as a daemon and wait until it serves; or start the services of a configuration')
  .argument(
    '[script]',
    'the program (each upgrade follows symlinks in its path anew); or a service that is down; or a configuration (default: the one in this folder)',
  )
  .argument('[args...]', 'arguments of the program, after --; or services of the configuration (default: all)')
  .option('--name <name>', "name of the service (default: the script's name without its extension)")
  .option('--workers <number>', 'number of workers, or max: one for each core (default: 1)', workers)
  .option('--no-keep', 'without a keeper: nothing restarts it after a crash')
  .option('--json', 'print the status as JSON')
  .addHelpText(
    'after',
    examples('start dist/server.js --name web -- --port 8080', 'start', 'start cook.config.json web --env production'),
  )
  .action((script, args, options) =>
    later(async () => (await import('./several.ts')).startMeant(script, args, options)),
  )

withFileOptions(withStartOptions(program.command('run')))
  .description('start a program in the foreground: for systemd, containers and terminals')
  .argument('<script>', 'the program; or a configuration')
  .argument('[args...]', 'arguments of the program, after --; or the service of the configuration')
  .option('--name <name>', "name of the service (default: the script's name without its extension)")
  .option('--workers <number>', 'number of workers, or max: one for each core (default: 1)', workers)
  .option('--keep', 'restart a worker that exits unexpectedly, up to ten times in a row')
  .addHelpText(
    'after',
    `
This process is the keeper: it forwards signals to the worker and exits with the exit code of the worker.
${example('run server.js --name web').trimStart()}`,
  )
  .action((script, args, options) => later(async () => (await import('./several.ts')).runMeant(script, args, options)))

withFileOptions(withStartOptions(program.command('upgrade')))
  .description('replace a service with its new version; exit code 0 only if the new version serves')
  .argument('[name]', meantText)
  .argument('[args...]', 'with --or-start: arguments of the program, after --')
  .option('--or-start [script]', 'if the service is not running, start this program, or what the configuration says')
  .option('--update-env', 'give the new version the environment of this command instead of that of the first start')
  .option(
    '--release <listener>',
    'a listener that the new version may give up: its port, address, path or name; repeatable',
    collect,
  )
  .option('--rolling', 'upgrade one worker after the other, to save memory; stop at the first that fails')
  .option('--exclusive', 'stop the old version before the new one starts, if both cannot run at once; clients wait')
  .option('--keeper', 'replace the keeper too, with the version and the Node of this command')
  .option('--no-wait', 'return when the new version serves, without waiting until the old one exits')
  .option('--json', 'print each step as a line of JSON')
  .addHelpText('after', examples('upgrade web --ready-timeout 30000', 'upgrade --or-start', 'upgrade all'))
  .action((name, args, options) => {
    const [meant, ...rest] = beginsBehind(args.length + 1) ? [undefined, name, ...args] : [name, ...args]
    later(async () => (await import('./several.ts')).upgradeMeant(meant, rest, options))
  })

withOwnerOption(program.command('status'))
  .description('show the state of a service, and generations that still drain')
  .argument('[names...]', meantText)
  .option('--json', 'print it as JSON')
  .addHelpText('after', example('status web --json'))
  .action((names, options) => later(async () => (await import('./several.ts')).statusMeant(names, options)))

withOwnerOption(program.command('stop'))
  .description('stop a service: it finishes what it accepted and exits; if it does not respond, it is killed')
  .argument('[names...]', meantText)
  .option(
    '--kill-after <ms>',
    'time after which what still runs is killed (default: its drain timeout plus 5000)',
    duration,
  )
  .option('--json', 'print the result as JSON')
  .addHelpText('after', examples('stop web', 'stop all'))
  .action((names, options) => later(async () => (await import('./several.ts')).stopMeant(names, options)))

withFileOptions(withStartOptions(program.command('restart')))
  .description('stop the worker and start it again; clients wait. For a new version, use upgrade')
  .argument('[names...]', meantText)
  .option('--update-env', 'use the environment of this command instead of that of the first start')
  .option(
    '--kill-after <ms>',
    'time after which what still runs is killed (default: its drain timeout plus 5000)',
    duration,
  )
  .option('--json', 'print the status as JSON')
  .addHelpText('after', example('restart web'))
  .action((names, options) => later(async () => (await import('./several.ts')).restartMeant(names, options)))

program
  .command('scale')
  .description('change the number of workers; connections of a removed worker move to the others')
  .argument('<name>', 'the service')
  .argument('<workers>', 'the number of workers, or max: one for each core', workers)
  .option('--json', 'print the status as JSON')
  .addHelpText('after', example('scale web 8'))
  .action((name, count, options) => later(async () => (await import('./several.ts')).scaleMeant(name, count, options)))

program
  .command('forget')
  .description('remove the record of a service that is down')
  .argument('<name>', 'the service')
  .addHelpText('after', example('forget web'))
  .action((name) => later(async () => (await import('./several.ts')).forgetMeant(name)))

program
  .command('logs')
  .description('print the end of the log, also of a service that is down')
  .argument('[name]', 'the service (default: the only one)')
  .option('-f, --follow', 'continue to print what is written, also after a rotation')
  .option('-n, --lines <count>', 'number of lines', count, 20)
  .option('--slot <slot>', 'only the log of the worker in this slot', count)
  .option('--path', 'print the path of the log instead')
  .addHelpText('after', example('logs web -f'))
  .action((name, options) => later(async () => (await import('./several.ts')).logsMeant(name, options)))

withStartOptions(program.command('prove'))
  .description('upgrade your program under load, to good and to failing versions, and count what was lost')
  .argument('<script>', 'the program; its ports must be free')
  .argument('[args...]', 'arguments of the program, behind --')
  .option('--path <path>', 'path that the clients request', '/')
  .option('--listener <name>', 'listener to connect to, by name or address (default: the first one with a port)')
  .option('--port <port>', 'listener to connect to, by port', count)
  .option('--host <host>', 'Host header of the requests')
  .option(
    '--upgrades <count>',
    'number of upgrades; every second one is to a version that exits, hangs or crashes',
    count,
    12,
  )
  .option('--clients <count>', 'number of clients, with one connection each', count, 50)
  .option(
    '--web-socket <path>',
    'path of a WebSocket that as many more clients hold (default: --path, if it accepts one)',
  )
  .option('--workers <number>', 'number of workers, or max: one for each core (default: 1)', workers)
  .option('--no-keep', 'without a keeper')
  .option('--report <file>', 'write a report to this file: one HTML page with charts')
  .option('--json', 'print the verdict as JSON')
  .addHelpText('after', examples('prove server.js --path /health', 'prove server.js --workers 4 --report proof.html'))
  .action((script, args, options) => later(async () => (await import('./prove.ts')).prove(script, args, options)))

withFileOptions(
  withStartOptions(
    program.command('systemd'),
    'user to run as (default: the owner of the script; if that is root, a dynamic user)',
  ),
)
  .description('print a systemd unit for a service, with a reason for each line; or install it')
  .argument('[script]', 'the program; or a known service; or a configuration (default: the one in this folder)')
  .argument('[args...]', 'arguments of the program, after --; or services of the configuration (default: all)')
  .option('--name <name>', "name of the service and of its unit (default: the script's name without its extension)")
  .option('--workers <number>', 'number of workers, or max: one for each core (default: 1)', workersText)
  .option('--user-manager', 'for the systemd of this user; needs no root')
  .option(
    '--socket [address]',
    'let systemd listen on a port, ADDRESS:PORT, a path, or udp:PORT; repeatable (default: where the service listens now)',
    collect,
  )
  .option('--install', 'write, enable and start the unit')
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
  .description('show all services of this user')
  .option('--json', 'print them as JSON')
  .addHelpText('after', example('list --json'))
  .action((options) => later(async () => (await import('./status.ts')).list(options)))

program
  .command('top')
  .description('watch, upgrade, scale and stop services on a terminal; print plain lines elsewhere')
  .option('--once', 'print one table and exit; CPU use is measured over the interval')
  .option('--json', 'with --once: print it as JSON')
  .option('--interval <ms>', 'time between two updates (default: 1000, at least 100)', duration, 1000)
  .addHelpText('after', examples('top', 'top --once'))
  .action((options) => later(async () => (await import('./top/command.ts')).top(options)))

program
  .command('doctor')
  .description('find risks for the services of this machine, and what to do about them; exit code 1 if there are any')
  .argument('[name]', 'the service (default: all that run here)')
  .option('--json', 'print the findings as JSON')
  .addHelpText('after', examples('doctor', 'doctor web'))
  .action((name, options) => later(async () => (await import('./several.ts')).doctorMeant(name, options)))

program
  .command('completion')
  .description('print the completion script of a shell: for commands, options and service names')
  .addArgument(new Argument('<shell>', 'the shell').choices(shells))
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
  uidText = 'as root: user to serve as, by name or number; the first start switches when it is ready, later versions start as it',
): Command {
  return command
    .option('--wait-ready', "the program reports when it is ready: process.send('ready') or ready()")
    .option('--no-listen', 'it has no server (a queue consumer): it is ready when it reports so, or after 3 s')
    .option('--ready-timeout <ms>', 'time it has to become ready (default: 60000)', duration)
    .option('--drain-timeout <ms>', 'time it has to finish what it accepted (default: 30000)', duration)
    .option(
      '--admin <address>',
      '[HOST:]PORT for /livez, /readyz and /metrics; HOST is 127.0.0.1 if not given (default: none)',
      adminAddress,
    )
    .option(
      '--lame-duck <ms>',
      'at SIGTERM: time it still serves and sends its clients elsewhere before it drains (default: 0)',
      duration,
    )
    .option('--overlap <ms>', 'time both versions accept before the new one takes over (default: 0)', duration)
    .option(
      '--log <file>',
      'file for stdout and stderr (default of start: NAME.log in /var/log/cook-daemon or the state folder)',
    )
    .option('--pid <file>', 'file for the pid of the keeper; with --no-keep, of the serving process')
    .option('--cwd <path>', 'working directory, as if the command were typed there (default: the current one)')
    .option('--uid <user>', uidText)
    .option('--gid <group>', 'with --uid: the group, by name or number (default: the group of the user)')
    .option('--node <path>', 'Node that runs it (default: the one that runs this command)')
    .option('--node-arg <arg>', 'argument for Node itself; repeatable', collect)
    .option(
      '--hang-timeout <ms>',
      'kill and restart it if its event loop is blocked for this long (default: never)',
      duration,
    )
    .option('--max-memory <size>', 'upgrade it to itself when it uses more memory, e.g. 512M (default: never)', size)
    .option('--log-max-size <size>', 'rotate a log that is larger, e.g. 50M; 0: never (default: never)', sizeOrNone)
    .option('--log-keep <count>', 'number of rotated logs to keep (default: 14)', countFromOne)
    .option('--no-move-connections', 'close connections after their next answer instead of moving them')
    .option('--move-tls', 'move TLS 1.3 connections too: their keys go to the new process (default: they close)')
    .option(
      '--move-tls-for <ms>',
      'time after which a moved TLS connection closes after an answer (default: 300000)',
      duration,
    )
}

function withFileOptions(command: Command): Command {
  return withOwnerOption(command).option('--env <name>', 'use the environment of this name in the configuration')
}

function withOwnerOption(command: Command): Command {
  return command.option(
    '--allow-owner <user>',
    'as root: trust a configuration that this user can write; its code is evaluated as this user',
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
  throw new InvalidArgumentError('It must be a size, for example 512M or 2G.')
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
