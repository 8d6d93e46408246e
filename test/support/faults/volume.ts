/** A file system of its own that can be filled up; needs root. */
import { spawnSync } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'

export class FullVolume {
  readonly folder: string

  private constructor(folder: string) {
    this.folder = folder
  }

  static mount(folder: string): FullVolume {
    const { status, stderr } = spawnSync('mount', [
      '-t',
      'tmpfs',
      '-o',
      'size=64k,nr_inodes=64,mode=755',
      'tmpfs',
      folder,
    ])
    if (status !== 0) throw new Error(`no file system of our own: ${stderr}`)
    return new FullVolume(folder)
  }

  /** Neither a byte nor a name is left. */
  fill(): void {
    try {
      writeFileSync(`${this.folder}/full`, Buffer.alloc(64 * 1024), { flag: 'a' })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    }
    try {
      for (let count = 0; ; count++) writeFileSync(`${this.folder}/full-${count}`, '')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    }
  }

  empty(): void {
    spawnSync('sh', ['-c', 'rm -f "$1"/full*', 'sh', this.folder])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Lazily: processes that are ended after this still have it open.
    spawnSync('umount', ['-l', this.folder])
    rmSync(this.folder, { recursive: true, force: true })
  }
}
