/** The Node that `--node` names: found, tried and new enough, before anything happens. */
import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, join, resolve } from 'node:path'
import { UsageError } from './output.ts'

/** How long it may take to tell what it is, in milliseconds. */
const patience = 10_000

/**
 * Its path, with nothing resolved, so that a symlink in it is followed at each upgrade; a bare name
 * is looked for in $PATH.
 */
export function nodeAt(typed: string, cwd: string): string {
  const wrong = (why: string) => new UsageError(`--node ${typed}: ${why}`)
  const path = typed.includes('/') ? resolve(cwd, typed) : inPath(typed)
  if (path === undefined) throw wrong('no such program in $PATH')
  const stat = statSync(path, { throwIfNoEntry: false })
  if (stat === undefined) throw wrong(`${path} does not exist`)
  if (!stat.isFile() || !mayRun(path)) throw wrong(`${path} is not executable`)
  const version = versionOf(path)
  if (version === undefined) throw wrong(`${path} is not Node`)
  if (!isNewEnough(version)) throw wrong(`${path} is Node ${version}; cook-daemon needs 20.19, 22.12 or later`)
  return path
}

function inPath(name: string): string | undefined {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => folder.startsWith('/'))
  return folders.map((folder) => join(folder, name)).find((path) => isFile(path) && mayRun(path))
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true
}

function mayRun(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** Bun understands the option too, and gives the version of the Node that it plays. */
const question = "JSON.stringify([process.release.name, process.versions.node, 'bun' in process.versions])"

function versionOf(path: string): string | undefined {
  const { spawnSync } = process.getBuiltinModule('node:child_process')
  const { NODE_OPTIONS: _, ...env } = process.env
  const { stdout } = spawnSync(path, ['-p', question], { env, encoding: 'utf8', timeout: patience, stdio: 'pipe' })
  const [, version] = /^\["node","(\d+\.\d+\.\d+[^"]*)",false\]\s*$/.exec(stdout ?? '') ?? []
  return version
}

/** As "engines" of the package says it. */
function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return (major === 20 && minor >= 19) || (major === 22 && minor >= 12) || major > 22
}
