/** `run`: `start` in the foreground. Forwards signals, and ends as the last generation does. */
import type { ChildProcess } from 'node:child_process'
import type { Duplex } from 'node:stream'
import type { Identity } from '../contract/environment.ts'
import { clientOf } from '../control/client.ts'
import { signalNumbers } from '../node/signals.ts'
import { system } from '../node/system.ts'
import { toForegroundWord } from '../process/foreground.ts'
import { readJsonLines } from '../process/json-lines.ts'
import { launchDaemon } from '../process/launcher.ts'
import { openLog } from '../process/log.ts'
import { findRunDirectory } from '../process/run-dir.ts'
import { ifNotRunning } from './find-service.ts'
import { exitCodes, tell } from './output.ts'
import { planFor, programOf, type StartOptions } from './program.ts'
import { tellRunning } from './start.ts'
import { tellDoubts } from './what-runs.ts'

/** What an operator, a terminal or a supervisor sends. SIGKILL and SIGSTOP nobody can forward. */
const forwarded: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2']

/** What is to end the service, whoever serves when it arrives. */
const stops: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGINT', 'SIGQUIT']
/** How late it may become known here that another generation serves, in milliseconds. */
const commitsWithin = 5_000

export async function run(script: string, args: readonly string[], options: StartOptions): Promise<number> {
  const program = programOf(script, args, options)
  const folder = findRunDirectory(process.env)
  // Before the program finds its port in use. That there is no folder, it says in its log.
  const running = typeof folder === 'string' && (await clientOf(folder, program.name).status().catch(ifNotRunning))
  if (running) return tellRunning(running, program)
  tellDoubts(program.name, program)
  if (process.pid === 1) {
    process.stderr.write('cook-daemon: as pid 1 this process does not reap orphans; use an init (docker run --init)\n')
  }
  const { logFile } = program.record
  const log = logFile === undefined ? undefined : openLog(logFile)
  let generations: Generations | undefined
  try {
    await launchDaemon({
      ...planFor(program),
      output: log === undefined ? [1, 2] : [log, log],
      hasForeground: true,
      onSpawned(child, pipe) {
        if (pipe !== undefined) generations = watchGenerations(child, pipe)
      },
    })
  } catch (error) {
    tell(error)
    return generations?.firstExit() || exitCodes.failed
  }
  return (await generations?.ended) ?? exitCodes.failed
}

type Generations = {
  /** Resolves to the exit code of the last generation when none is left. */
  readonly ended: Promise<number>
  /** Of the first one, if it has ended. */
  firstExit(): number | undefined
}

function watchGenerations(child: ChildProcess, pipe: Duplex): Generations {
  const exits = new Map<number, number>()
  let current = { generation: 1, identity: [child.pid ?? 0, system.startTime(child.pid ?? 0) ?? ''] as Identity }
  let stop: { readonly signal: NodeJS.Signals; readonly at: number } | undefined
  for (const signal of forwarded) {
    process.on(signal, () => {
      if (stops.includes(signal)) stop = { signal, at: performance.now() }
      system.kill(current.identity, signal)
    })
  }
  // Of the others only their own word is known: they are no children of ours.
  child.once('exit', (code, signal) => {
    exits.set(1, code ?? 128 + signalNumbers()[signal ?? 'SIGKILL'])
  })
  const hear = async () => {
    for await (const value of readJsonLines(pipe)) {
      const word = toForegroundWord(value)
      if (word?.type === 'exit') exits.set(word.generation, word.code)
      else if (word !== undefined && (word.generation > current.generation || word.generation === 1)) {
        const isNew = word.generation > current.generation
        current = { generation: word.generation, identity: [word.pid, word.startTime] }
        // The old one got it in the moment of its commit, and takes it for its own end alone.
        if (isNew && stop !== undefined && performance.now() - stop.at < commitsWithin) {
          system.kill(current.identity, stop.signal)
        }
      }
    }
  }
  // A reset is an end.
  const ended = hear().catch(() => {})
  return {
    ended: ended.then(async () => {
      // The end of the pipe is seen before the exit of a child.
      if (current.generation === 1 && child.exitCode === null && child.signalCode === null) {
        child.ref()
        await new Promise((done) => child.once('exit', done))
      }
      const code = exits.get(current.generation)
      if (code !== undefined) return code
      process.stderr.write(`cook-daemon: generation ${current.generation} exited without reporting its exit code\n`)
      return exitCodes.failed
    }),
    firstExit: () => exits.get(1),
  }
}
