/** What is run, as it was typed and where that leads to, and what is to be doubted about it. */
import { relative } from 'node:path'
import type { Command } from '../node/system.ts'
import { type Resolved, resolveCommand } from '../process/command.ts'
import { note } from './output.ts'

/** Of a running process; or of one that is to be started, or has died. */
export type Running = {
  readonly command: Command
  readonly resolved?: Resolved | undefined
  /** The version of Node. */
  readonly node?: string | undefined
}

/** `server.js in /srv/web/current → /srv/web/releases/5`, or script and folder each by itself. */
export function whatRuns({ command, resolved = resolveCommand(command) }: Running): string {
  const { script, cwd } = pathsOf({ command, resolved })
  const below = pathBelow(script.typed, cwd.typed)
  return below !== undefined && pathBelow(script.real, cwd.real) === below
    ? `${below} in ${followedText(cwd)}`
    : `${followedText(script)}, in ${followedText(cwd)}`
}

/** Script and working directory, each as it was typed and as it is. */
export function pathTexts(running: Running): { readonly script: string; readonly cwd: string } {
  const { script, cwd } = pathsOf(running)
  return { script: followedText(script), cwd: followedText(cwd) }
}

type Path = { readonly typed: string; readonly real: string }

function pathsOf({ command, resolved }: Running): { readonly script: Path; readonly cwd: Path } {
  const { args, cwd } = command
  const [typed = ''] = args
  const real: Resolved = resolved ?? resolveCommand(command)
  return { script: { typed, real: real.script ?? typed }, cwd: { typed: cwd, real: real.cwd } }
}

function followedText({ typed, real }: Path): string {
  return typed === real ? typed : `${typed} → ${real}`
}

/** Undefined if it does not lie there; `''` for the folder itself. */
function pathBelow(file: string, folder: string): string | undefined {
  if (file === folder) return ''
  return file.startsWith(folder === '/' ? folder : `${folder}/`) ? relative(folder, file) : undefined
}

/** `node v24.21.0 (was v24.20.0)`; empty where it is not known. */
export function nodeText(version: string | undefined, before?: Running): string {
  if (version === undefined) return ''
  const was = before?.node
  return `node ${version}${was === undefined || was === version ? '' : ` (was ${was})`}`
}

/** Says what an operator may have meant otherwise. */
export function tellDoubts(name: string, now: Running, before?: Running): void {
  for (const doubt of [twoReleases(now, before), otherNode(name, now, before)]) if (doubt !== undefined) note(doubt)
}

/** What ran before runs on the same Node, and this command on another. */
export function otherNode(name: string, { node, command }: Running, before?: Running): string | undefined {
  if (before === undefined || node === undefined || node === process.version || node !== before.node) return undefined
  return `${name} runs on node ${node} (${command.execPath}), this command on ${process.version}. To change that: --node ${process.execPath}`
}

/**
 * One of the two follows a symlink to the release, and the other lies in the release itself: after
 * the next deploy they are of two releases. `old` is what ran before an upgrade.
 */
export function twoReleases(now: Running, old: Running = now): string | undefined {
  const { script, cwd } = pathsOf(now)
  const before = pathsOf(old)
  const folder = pinned(cwd, [script, before.script])
  if (folder !== undefined) {
    return `the program is run through the symlink ${folder.link}, but its working directory ${cwd.typed} does not follow it: after a deploy, files there (.env) are still those of this release. To follow the symlink: --cwd ${folder.through}`
  }
  const file = pinned(script, [cwd, before.cwd])
  if (file === undefined) return undefined
  return `the working directory follows the symlink ${file.link}, but the script ${script.typed} does not, so a deploy has no effect on it. Start it as ${file.through}`
}

/** How `path`, in which there is no symlink, would be typed through that of one of the others. */
function pinned(path: Path, others: readonly Path[]) {
  if (path.typed !== path.real) return undefined
  for (const other of others) {
    const release = releaseOf(other)
    const below = release && pathBelow(path.real, release.real)
    if (release !== undefined && below !== undefined) {
      return { link: release.typed, through: below === '' ? release.typed : `${release.typed}/${below}` }
    }
  }
  return undefined
}

/** The symlink in a path, and where it leads to: what is left without the names both end with. */
function releaseOf({ typed, real }: Path): Path | undefined {
  if (typed === real) return undefined
  const [one, other] = [typed.split('/'), real.split('/')]
  while (one.length > 2 && other.length > 2 && one.at(-1) === other.at(-1)) {
    one.pop()
    other.pop()
  }
  return { typed: one.join('/'), real: other.join('/') }
}

/** Whether both commands run the same file: by the path as typed, or by where that leads to. */
export function isSameScript(one: Command, other: Command): boolean {
  return one.args[0] === other.args[0] || resolveCommand(one).script === resolveCommand(other).script
}

/**
 * Whether `meant` is what `running` is. A file that lies outside of both folders, as a command that
 * was installed for all, is another program in each of them, unless it is called by its name.
 */
export function isSameProgram(running: Command, meant: Command, isNamed: boolean): boolean {
  if (!isSameScript(running, meant)) return false
  const [one, other] = [resolveCommand(running), resolveCommand(meant)]
  const isOutside = [one.cwd, other.cwd].every((cwd) => pathBelow(one.script ?? '', cwd) === undefined)
  return isNamed || !isOutside || running.cwd === meant.cwd || one.cwd === other.cwd
}
