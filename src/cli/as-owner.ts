/** The same command, as a child with the rights of the user whose service is meant. */
import type { ChildProcessByStdio } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import { type Readable, Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { envHome } from '../contract/environment.ts'
import { CookError } from '../errors.ts'
import { actingAs, findUser, spawnAs } from '../node/as-user.ts'
import { identityOfChild, killSession } from '../node/sessions.ts'
import { signalNumbers } from '../node/signals.ts'
import { workingDirectory } from '../node/system.ts'
import { parseJson } from '../process/json-lines.ts'
import { plainer, plainText, plainValue } from '../process/plain-text.ts'
import { noteFailure, printJson, UsageError } from './output.ts'
import type { OthersPlace } from './places.ts'
import { isTyped, typedCommand, typedOptions } from './typed.ts'

/** What a configuration has been read with, and what would start something outside of a unit. */
const notHanded = ['env', 'allow-owner', 'or-start'] as const

/** Does what was typed with these words in place of those that were; gives its exit code. */
export async function asOwner(place: OthersPlace, words: readonly string[]): Promise<number> {
  if (isTyped('update-env')) throw new UsageError(updateEnvText(place))
  const child = begin(place, [typedCommand(), ...typedOptions(notHanded), ...words])
  const errors = shown(process.stderr)
  const output = isTyped('json') ? jsonLines() : shown(process.stdout)
  const end = forwardSignals(child)
  try {
    const closed = once(child, 'close')
    const done = Promise.allSettled([
      pipeline(child.stdout, output.filter, output.target, { end: false }).catch(end.now),
      pipeline(child.stderr, errors.filter, errors.target, { end: false }).catch(end.now),
    ])
    const [code, signal] = (await closed) as [number | null, NodeJS.Signals | null]
    await done
    const status = code ?? 128 + signalNumbers()[signal ?? 'SIGKILL']
    if (status !== 0) noteFailure(errors.first().replace(/^cook-daemon: /, ''), status)
    return status
  } finally {
    end.forget()
  }
}

/** How long its answer may take, in milliseconds, and how long it may be, in bytes. */
const patience = 20_000
const mostBytes = 4 * 1024 * 1024

/** What `list` says there: any value, since that user decides; rejects with why it says nothing. */
export async function listAsOwner(place: OthersPlace, ms: number = patience): Promise<unknown> {
  const child = begin(place, ['list', '--json'])
  const end = ending(child)
  const timer = setTimeout(end, ms)
  let text = ''
  let words = ''
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    text += piece
    if (text.length > mostBytes) end()
  })
  child.stderr.setEncoding('utf8').on('data', (piece: string) => {
    words = (words + piece).slice(0, longestWords)
  })
  try {
    await once(child, 'close')
  } finally {
    clearTimeout(timer)
  }
  // Brackets alone take seconds to be read.
  const value = text.length > mostBytes ? undefined : plainValue(parseJson(text))
  if (value === undefined) throw new Error(firstLine(words) || 'its command did not respond')
  return value
}

/** With what it has started; and who has left its session is not waited for. */
function ending(child: Child): () => void {
  const leader = identityOfChild(child)
  return () => {
    killSession(leader)
    for (const stream of [child.stdout, child.stderr]) stream.destroy()
  }
}

type Child = ChildProcessByStdio<null, Readable, Readable>

/** Neither root's terminal, nor its environment, nor a folder that the user could not enter. */
function begin({ folder, owner: uid }: OthersPlace, words: readonly string[]): Child {
  // Not the group of the folder: root may have left its own there.
  const user = { uid, gid: findUser(String(uid))?.gid ?? uid, groups: [] }
  const [script = ''] = process.argv.slice(1)
  const here = workingDirectory()
  const { closed, mayBeHere } = actingAs(user, () => ({
    closed: [script, process.execPath, `${folder}/.`].find((path) => !isOpen(path, path === script)),
    mayBeHere: isOpen(`${here}/.`),
  }))
  if (closed !== undefined) throw new CookError('ERR_COOK_OTHER_USER', { user: uid, path: resolve(closed), folder })
  const env = { ...environment(), [envHome]: folder, ...(mayBeHere && { PWD: process.env.PWD }) }
  return spawnAs(
    user,
    { file: process.execPath, args: [script, ...words] },
    // Detached: a process that has a terminal can type on it.
    { cwd: mayBeHere ? here : '/', env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] },
  ) as Child
}

function isOpen(path: string, isRead = false): boolean {
  try {
    if (isRead) closeSync(openSync(path, 'r'))
    else statSync(path)
    return true
  } catch {
    return false
  }
}

const passed = /^(PATH|LANG|LANGUAGE|LC_\w+|TZ|TERM|COLUMNS)$/

function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => passed.test(name)))
}

const longestWords = 4_096

function firstLine(text: string): string {
  const [line = ''] = plainText(text).split('\n')
  return line
}

function shown(target: NodeJS.WriteStream) {
  const plain = plainer()
  let first = ''
  const filter = new Transform({
    transform(bytes: Buffer, _, done) {
      const text = plain(bytes)
      first = (first + text).slice(0, longestWords)
      done(null, text)
    },
    flush: (done) => done(null, plain(Buffer.alloc(0), true)),
  })
  return { filter, target, first: () => firstLine(first) }
}

/** What is no JSON is left out: whoever reads the output of this command reads nothing else. */
function jsonLines() {
  let rest = ''
  const show = (line: string) => {
    const value = plainValue(parseJson(line))
    if (value !== undefined) printJson(value)
  }
  const filter = new Transform({
    transform(bytes: Buffer, _, done) {
      const lines = (rest + bytes.toString('latin1')).split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) show(Buffer.from(line, 'latin1').toString())
      done(rest.length > mostBytes ? new Error('a line is too long') : null)
    },
    flush(done) {
      show(Buffer.from(rest, 'latin1').toString())
      done()
    },
  })
  return { filter, target: process.stdout }
}

/** How long it may take to end when this command is to, in milliseconds. */
const grace = 2_000

/** It is in no group of ours, so a key that is pressed does not reach it. */
function forwardSignals(child: Child) {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  let timer: NodeJS.Timeout | undefined
  const now = ending(child)
  const forward = (signal: NodeJS.Signals) => {
    child.kill(signal)
    timer ??= setTimeout(now, grace)
  }
  for (const signal of signals) process.on(signal, forward)
  const forget = () => {
    clearTimeout(timer)
    for (const signal of signals) process.removeListener(signal, forward)
  }
  return { now, forget }
}

function updateEnvText({ folder, owner }: OthersPlace): string {
  return `--update-env would give root's environment to a service of user ${owner}; nothing was done. Run the command as that user, with the environment that the service should have: setpriv --reuid=${owner} --regid=${findUser(String(owner))?.gid ?? owner} --clear-groups env ${envHome}=${folder} cook-daemon ${typedCommand()} NAME --update-env. Or change the unit and restart it`
}
