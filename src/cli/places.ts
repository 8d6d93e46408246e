/**
 * Where services are: in the run directory of this user, and in those of units of systemd. Of what
 * another user could have written only names are read here, and nothing is followed.
 */
import { opendirSync, readlinkSync } from 'node:fs'
import { basename, join } from 'node:path'
import { isDaemonName } from '../check.ts'
import { envHome } from '../contract/environment.ts'
import { ownedNames } from '../control/owner-files.ts'
import { CookError } from '../errors.ts'
import { unitFolder } from '../host/unit.ts'
import { recordedNames } from '../keeper/records.ts'
import { findUser } from '../node/as-user.ts'
import { attempt } from '../node/sessions.ts'
import { fileAt, type Stat } from '../node/stat.ts'
import { namedDirectory, namesIn, runDirectory } from '../process/run-dir.ts'
import { faultOfSource, isSafeBase } from '../process/trust.ts'
import { UsageError } from './output.ts'

export type Place = {
  readonly folder: string
  /** Of services of which there is any file. */
  readonly names: readonly string[]
  /** Whose it is, if not this user's: whatever is done there is done as that user. */
  readonly owner?: number
  /** It belongs to a unit, which starts again what is down. */
  readonly isUnit: boolean
}

/** Of another user. */
export type OthersPlace = Place & { readonly owner: number }

/** The own one first; alone if it is named. */
export function places(): readonly Place[] {
  const own = ownPlace()
  if (namedDirectory(process.env) !== undefined) return [own]
  return [own, ...unitPlaces().filter(({ folder }) => folder !== own.folder)]
}

/**
 * The only one that has a name; without any, the own one. Another user may lay a file of any name,
 * and must not make it two: this user's places go first, and then the one that is called after it.
 */
export function placeOf(name: string): Place {
  const all = places()
  const found = all.filter(({ names }) => names.includes(name))
  const isNamedAfter = ({ folder }: Place) => basename(folder) === unitFolder(name)
  const ranks = [(place: Place) => !isOthers(place), isNamedAfter, () => true]
  const best = ranks.map((is) => found.filter(is)).find(({ length }) => length > 0) ?? []
  const [place = all[0] ?? ownPlace()] = best
  if (best.length < 2) return place
  const where = best.map(({ folder, owner }) => `${folder}${owner === undefined ? '' : ` (user ${userText(owner)})`}`)
  throw new UsageError(
    `there is a ${name} in ${where.join(' and in ')}. Choose one with ${envHome}=${place.folder} before the command`,
  )
}

export function isOwn({ isUnit, owner }: Place): boolean {
  return !isUnit && owner === undefined
}

/** What is done there is done as that user. */
export function isOthers(place: Place): place is OthersPlace {
  return place.owner !== undefined
}

export function userText(uid: number): string {
  return findUser(String(uid))?.name ?? String(uid)
}

/** Root may name that of another user, where nobody else decides which one that is. */
function ownPlace(): Place {
  const folder = runDirectory(process.env)
  const stat = fileAt(folder)
  if (isRoot() && stat?.isFolder === true && stat.uid !== 0) {
    const { uid: owner, gid } = stat
    const why = faultOfSource(folder, { uid: owner, gid })
    if (why !== undefined) throw new CookError('ERR_COOK_RUN_DIR', { folder, why })
    return { folder, owner, names: namesAt(folder, owner), isUnit: false }
  }
  const names = [...namesIn(folder), ...ownedNames(folder), ...recordedNames(folder)]
  return { folder, names: [...new Set(names)].filter(isDaemonName).sort(), isUnit: false }
}

/** So many files of one folder are looked at: another user may have made any number. */
const mostFiles = 10_000

function unitPlaces(): Place[] {
  const user = process.geteuid?.()
  const { XDG_RUNTIME_DIR } = process.env
  // That of sudo's caller is not believed.
  const bases = new Set(['/run', XDG_RUNTIME_DIR || `/run/user/${user}`].filter(isSafeBase))
  return [...bases].flatMap((base) => filesAt(base).flatMap((name) => placeAt(base, name)))
}

function placeAt(base: string, name: string): Place[] {
  const path = join(base, name)
  const stat = fileAt(path)
  // With DynamicUser= it may be a symlink of root's.
  const isPrivate =
    stat?.isSymlink === true && stat.uid === 0 && attempt(() => readlinkSync(path)) === `private/${name}`
  const folder = isPrivate ? join(base, 'private', name) : path
  const { isFolder, uid = 0, mode = 0 }: Partial<Stat> = (isPrivate ? fileAt(folder) : stat) ?? {}
  const isOthers = uid !== process.geteuid?.()
  if (isFolder !== true || (mode & 0o022) !== 0 || (isOthers && !isRoot())) return []
  const names = namesAt(folder, uid)
  return names.length === 0 ? [] : [{ folder, names, isUnit: true, ...(isOthers && { owner: uid }) }]
}

/** A socket alone is anybody's: a service has a record, or the file of a process beside it. */
function namesAt(folder: string, uid: number): readonly string[] {
  const isHis = (file: string, what: 'isFile' | 'isSocket') => {
    const stat = fileAt(join(folder, file))
    return stat?.uid === uid && stat[what]
  }
  const names = filesAt(folder).flatMap((file) => {
    const [, name = '', , pid] = /^([^@]+)\.(service|(\d+)\.owner)$/.exec(file) ?? []
    const isService = isDaemonName(name) && isHis(file, 'isFile')
    return isService && (pid === undefined || isHis(`${name}.sock`, 'isSocket')) ? [name] : []
  })
  return [...new Set(names)].sort()
}

function filesAt(folder: string): string[] {
  const files: string[] = []
  attempt(() => {
    const opened = opendirSync(folder)
    try {
      for (let at = opened.readSync(); at !== null && files.length < mostFiles; at = opened.readSync()) {
        files.push(at.name)
      }
    } finally {
      opened.closeSync()
    }
  })
  return files
}

function isRoot(): boolean {
  return process.geteuid?.() === 0
}
