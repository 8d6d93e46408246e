/** A file system that is full in earnest: a small tmpfs. Only root can mount one. */
import { spawnSync } from 'node:child_process'
import { readdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const size = 64 * 1024
const mountOptions = `size=${size},nr_inodes=64,mode=700`
const filler = 'full'

export class FullDisk {
  readonly folder: string

  private constructor(folder: string) {
    this.folder = folder
  }

  /** On a folder that is there. There is room on it until it is filled. */
  static mount(folder: string): FullDisk {
    const { status, stderr } = spawnSync('mount', ['-t', 'tmpfs', '-o', mountOptions, 'cook-test', folder])
    if (status !== 0) throw new Error(`no file system of our own: ${stderr}`)
    return new FullDisk(folder)
  }

  /** Neither a byte nor a name is left. */
  fill(): void {
    this.fillBytes()
    untilFull(() => {
      for (let count = 0; ; count++) writeFileSync(join(this.folder, `${filler}-${count}`), '')
    })
  }

  /** A file can still be made, and stays empty. */
  fillBytes(): void {
    untilFull(() => writeFileSync(join(this.folder, filler), Buffer.alloc(size), { flag: 'a' }))
  }

  empty(): void {
    for (const name of readdirSync(this.folder)) if (name.startsWith(filler)) rmSync(join(this.folder, name))
  }

  [Symbol.dispose](): void {
    // Lazily: a daemon that the test has just ended may still have its log open there.
    spawnSync('umount', ['--lazy', this.folder])
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Why there is none, for a test that needs one. */
export function noFullDisk(): string | false {
  return process.platform === 'linux' && process.getuid?.() === 0 ? false : 'only root can mount a file system'
}

function untilFull(write: () => void): void {
  try {
    write()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  }
}
