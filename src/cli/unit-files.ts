/** Unit files on disk: whose they are, and how one of ours gets there whole. */
import { mkdirSync, readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { isAbsolute, join } from 'node:path'
import { type UnitFile, unitMark } from '../host/unit.ts'
import { fileAt } from '../node/stat.ts'
import { writeWhole } from './whole-file.ts'

/** Where units lie, the one in which we write first (systemd.unit(5)). */
export function unitFolders(isUser: boolean): readonly [string, ...string[]] {
  const shared = (kind: string) =>
    ['/etc', '/run', '/usr/local/lib', '/usr/lib', '/lib'].map((at) => `${at}/systemd/${kind}`)
  if (!isUser)
    return ['/etc/systemd/system', '/etc/systemd/system.control', '/run/systemd/transient', ...shared('system')]
  const { XDG_CONFIG_HOME: config = '', XDG_DATA_HOME: data = '', XDG_RUNTIME_DIR: runtime = '/run' } = process.env
  const own = isAbsolute(config) ? config : join(homedir(), '.config')
  const local = isAbsolute(data) ? data : join(homedir(), '.local/share')
  const [inOwn, ...others] = [own, runtime, local].map((at) => `${at}/systemd/user`)
  return [String(inOwn), ...others, ...shared('user')]
}

/** What another unit of this name would be to ours. Undefined: there is none, or it is ours. */
export function foreignUnit(file: string, [own, ...others]: ReturnType<typeof unitFolders>): string | undefined {
  const path = join(own, file)
  if (fileAt(path) !== undefined && ownText(path) === undefined) return path
  return others.map((folder) => join(folder, file)).find((other) => other !== path && fileAt(other) !== undefined)
}

/** Of a unit that we have written; undefined: it is not there, or another's. */
function ownText(path: string): string | undefined {
  if (fileAt(path)?.isFile !== true) return undefined
  const text = readFileSync(path, 'utf8')
  return text.startsWith(`${unitMark}\n`) ? text : undefined
}

/** Whole or not at all, also if the machine stops meanwhile. Whether something has changed. */
export function writeUnit(folder: string, { file, text }: UnitFile): boolean {
  const path = join(folder, file)
  if (ownText(path) === text) return false
  mkdirSync(folder, { recursive: true, mode: 0o755 })
  writeWhole(path, text, 0o644)
  return true
}
