/** A file system that is full in earnest: a small tmpfs. Only root can mount one. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

export class FullDisk {
  readonly #folder: string

  private constructor(folder: string) {
    this.#folder = folder
  }

  /** Undefined where it cannot be mounted. There is room on it until it is filled. */
  static mount(folder: string): FullDisk | undefined {
    mkdirSync(folder)
    const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=700', 'cook-test', folder])
    return status === 0 ? new FullDisk(folder) : undefined
  }

  fill(): void {
    try {
      writeFileSync(join(this.#folder, 'fill'), Buffer.alloc(1024 * 1024))
    } catch {
      // What has gone in has filled it.
    }
  }

  [Symbol.dispose](): void {
    // Lazily: a daemon that the test has just ended may still have its log open there.
    spawnSync('umount', ['--lazy', this.#folder])
  }
}

/** Why not, for a test that needs one. */
export function noFullDisk(): string | false {
  return process.platform === 'linux' && process.getuid?.() === 0 ? false : 'only root can mount a file system'
}
