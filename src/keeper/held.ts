/** The listeners that the keeper holds, as its workers have told them. */
import { type HandleRecord, isHandleRecord } from '../contract/environment.ts'
import { fileAt, statPath } from '../node/stat.ts'
import type { RawHandle } from '../upgrade/station.ts'

export type Held = { readonly record: HandleRecord; readonly handle: RawHandle }

export class HeldHandles {
  #all: readonly Held[] = []

  get records(): readonly HandleRecord[] {
    return this.#all.map(({ record }) => record)
  }

  /**
   * As a worker says. One that has given up root must not have root remove or change what it likes:
   * its word on a path counts if a socket of just that identity is there, and once.
   */
  hear(record: unknown, handle: RawHandle | undefined, isTrusted: boolean): void {
    const isKnown = isHandleRecord(record) && this.#all.some((one) => one.record.inode === record.inode)
    if (handle === undefined || !isHandleRecord(record)) handle?.close()
    else if (isTrusted || (!isKnown && isHarmless(record))) this.hold(record, handle)
    else handle.close()
  }

  /** Every generation sends what it has: another descriptor of the same socket. */
  hold(record: HandleRecord, handle: RawHandle): void {
    const known = this.#all.find((one) => one.record.inode === record.inode)
    if (known !== undefined) handle.close()
    this.#all = [
      ...this.#all.filter((one) => one !== known),
      known === undefined ? { record, handle } : { record, handle: known.handle },
    ]
  }

  /** Lets go of all others. */
  keepOnly(inodes: readonly number[]): void {
    const kept = this.#all.filter(({ record }) => inodes.includes(record.inode))
    for (const one of this.#all) if (!kept.includes(one)) one.handle.close()
    // In the order in which they were told last.
    this.#all = inodes.flatMap((inode) => kept.filter(({ record }) => record.inode === inode))
  }

  /** Throws for one that no keeper can hold: a plain descriptor. */
  descriptorsOf(records: readonly HandleRecord[]): readonly number[] {
    return records.map(({ inode, name }) => {
      const found = this.#all.find(({ record }) => record.inode === inode)
      if (found === undefined) throw new Error(`the keeper cannot hold ${name}, which is a plain descriptor`)
      return found.handle.fd
    })
  }
}

function isHarmless(record: HandleRecord): boolean {
  if (record.kind === 'tcp' || record.kind === 'udp') return true
  if (record.kind !== 'unix' || record.file === undefined) return false
  return statPath(record.path)?.isSocket === true && fileAt(record.path)?.id === record.file
}
