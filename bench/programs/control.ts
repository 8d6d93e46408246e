/**
 * The programs' end of the control socket; loaded when a program is up, so that it weighs on no
 * start that is measured.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Server } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { addInheritTcpListener, type UpgradePhases, upgrade } from 'cook-daemon'

export type Command =
  /** Upgrade, close the listener, and leave. */
  | { readonly do: 'upgrade'; readonly stage: 'parent' | 'daemon' }
  /**
   * Start a program from here, from a process of the same size as one that upgrades; it is ended
   * when it listens.
   */
  | { readonly do: 'start'; readonly file: string }
  /** Collect all garbage. */
  | { readonly do: 'rest' }

export type Answers = {
  readonly upgrade: UpgradePhases
  /** Milliseconds from the start to the program's message that it listens. */
  readonly start: number
  readonly rest: undefined
}

/** Reports to the benchmark and does what that says, until it upgrades or the benchmark ends. */
export async function obey(server: Server): Promise<void> {
  const socket = connect(process.env.BENCH_CONTROL ?? '')
  socket.on('error', () => process.exit(1)).once('close', () => process.exit(1))
  await once(socket, 'connect')
  const say = (line: object) => socket.write(`${JSON.stringify(line)}\n`)
  say({ pid: process.pid })
  for await (const line of createInterface({ input: socket })) {
    const command = JSON.parse(line) as Command
    const answer = await carryOut(command, server).then(
      (value) => ({ value }),
      (error: unknown) => ({ error: String(error) }),
    )
    say(answer)
    if (command.do !== 'upgrade' || 'error' in answer) continue
    // Nothing holds this process any more, and nobody ends it: what a program leaves behind would
    // keep it alive, and be seen.
    socket.removeAllListeners('close').end()
    return
  }
}

async function carryOut(command: Command, server: Server): Promise<Answers[Command['do']]> {
  switch (command.do) {
    case 'upgrade': {
      addInheritTcpListener('http', server, true)
      const { phases } = await upgrade({ stage: command.stage })
      server.close()
      return phases
    }
    case 'start':
      return timeStart(command.file)
    case 'rest':
      return rest()
  }
}

async function timeStart(file: string): Promise<number> {
  // The way is what makes a program daemonize: a plain start is one boot.
  const { BENCH_WAY: _way, ...env } = process.env
  const before = performance.now()
  const child = spawn(process.execPath, [file], {
    env,
    stdio: ['ignore', 1, 2, 'ipc'],
    detached: true,
    windowsHide: true,
  })
  await once(child, 'message')
  const time = performance.now() - before
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
  return time
}

async function rest(): Promise<undefined> {
  // Not --expose-gc at the start: Node's code cache is for the flags that it was made with.
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  for (let round = 0; round < 3; round++) {
    collect()
    await sleep(20)
  }
}
