/** Evaluates a configuration that is code, in a process of its own that ends. */
import type { ChildProcess } from 'node:child_process'
import { dirname } from 'node:path'
import type { Readable } from 'node:stream'
import { identityOfChild, killSession } from '../node/sessions.ts'
import { exitWords } from '../process/launcher.ts'
import { plainText } from '../process/plain-text.ts'
import type { OtherOwner } from '../process/trust.ts'
import { ConfigFault } from './service.ts'

/**
 * What the process runs: its answer is one line on descriptor 3, so what the configuration prints
 * is in nobody's way.
 */
const code = `
const { writeFileSync } = process.getBuiltinModule('fs')
const answer = (value) => { writeFileSync(3, JSON.stringify(value) + '\\n'); process.exit(0) }
import(process.getBuiltinModule('url').pathToFileURL(process.argv[1]))
  .then(async (module) => answer({ value: await (module.default ?? { ...module }) }))
  .catch((error) => answer({ error: String(error?.stack ?? error) }))
`

const answerFd = 3
/** Milliseconds until it must have answered. */
const patience = 10_000
/** How long what it has printed may take to come, in milliseconds. */
const grace = 1_000
const mostBytes = 1024 * 1024

/** `user`: with the rights of this one, and nothing of our environment but the language. */
export async function evaluate(file: string, user?: OtherOwner, deadline: number = patience): Promise<unknown> {
  const { spawn } = process.getBuiltinModule('node:child_process')
  const child = spawn(process.execPath, ['-e', code, '--', file], {
    // Of a session of its own: nothing of it is left, and it has no terminal to steer.
    detached: true,
    cwd: user === undefined ? dirname(file) : '/',
    // With a uid and a gid, Node lets go of all other groups too.
    ...(user && { uid: user.uid, gid: user.gid, env: { PATH: process.env.PATH, LANG: process.env.LANG } }),
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  })
  const leader = identityOfChild(child)
  const closed = new Promise((done) => child.once('close', done))
  const end = () => void killSession(leader)
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  const interrupted = (signal: NodeJS.Signals) => {
    end()
    for (const one of signals) process.removeListener(one, interrupted)
    process.kill(process.pid, signal)
  }
  for (const signal of signals) process.once(signal, interrupted)
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on('data', (text: Buffer) =>
      process.stderr.write(user === undefined ? text : plainText(text.toString('utf8'))),
    )
  }
  try {
    return valueIn(await answerOf(child, deadline))
  } finally {
    end()
    // What it has printed is read to its end, unless somebody who has left its session holds that.
    await Promise.race([closed, new Promise((done) => setTimeout(done, grace).unref())])
    for (const one of signals) process.removeListener(one, interrupted)
    for (const stream of child.stdio) stream?.destroy()
  }
}

/** Its line; rejects with why there is none. */
async function answerOf(child: ChildProcess, deadline: number): Promise<string> {
  const channel = child.stdio[answerFd] as Readable
  let text = ''
  let timer: NodeJS.Timeout | undefined
  try {
    return await new Promise<string>((done, fail) => {
      const failed = (why: string) => fail(new ConfigFault(why))
      timer = setTimeout(() => failed(`its code did not finish within ${deadline / 1000} s and was killed`), deadline)
      child.once('error', ({ message }) => failed(`its code could not be run: ${message}`))
      let how: string | undefined
      const ended = () => {
        if (how !== undefined && channel.readableEnded)
          failed(`its code exited before it returned a configuration: ${how}`)
      }
      child.once('exit', (code, signal) => {
        how = exitWords({ code, signal })
        ended()
      })
      channel.setEncoding('utf8').once('end', ended)
      channel.on('data', (part: string) => {
        text += part
        if (text.endsWith('\n')) done(text)
        else if (text.length > mostBytes) failed(`it has more than ${mostBytes} bytes`)
      })
    })
  } finally {
    clearTimeout(timer)
  }
}

function valueIn(line: string): unknown {
  let answer: { readonly value?: unknown; readonly error?: string }
  try {
    answer = JSON.parse(line)
  } catch {
    throw new ConfigFault('its code wrote to descriptor 3, which is reserved for the configuration')
  }
  if (answer.error !== undefined) {
    // The frames of Node itself say nothing of the file.
    throw new ConfigFault(`its code threw: ${answer.error.replace(/\n +at .*\bnode:internal.*/g, '')}`)
  }
  if (answer.value === undefined) throw new ConfigFault('its code exports no object')
  return answer.value
}
