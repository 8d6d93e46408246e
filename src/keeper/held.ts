/** The listeners that the keeper holds, as its workers have told them. */
import { controlName, type HandleRecord, isHandleRecord } from '../contract/environment.ts'
import { fileAt, statPath } from '../node/stat.ts'
import type { RawHandle } from '../upgrade/station.ts'

type Held = { readonly record: HandleRecord; readonly handle: RawHandle }

export class HeldHandles {
  #all: readonly Held[] = []
  /** What each slot has, by inode, in the order in which it was told last. */
  readonly #bySlot = new Map<number, readonly number[]>()

  /** What is handed to a worker that starts there: what is shared, and what is of this slot. */
  recordsFor(slot: number): readonly HandleRecord[] {
    const own = this.#bySlot.get(slot) ?? []
    const others = this.#all.map(({ record }) => record.inode).filter((inode) => !own.includes(inode))
    return [...own, ...others].flatMap((inode) => {
      const record = this.#find(inode)?.record
      const isOthers = record?.name === controlName && !own.includes(inode)
      return record === undefined || isOthers ? [] : [record]
    })
  }

  /**
   * As a worker says. One that has given up root must not have root remove or change what it likes:
   * its word on a path counts if a socket of just that identity is there, and once.
   */
  hear(slot: number, record: unknown, handle: RawHandle | undefined, isTrusted: boolean): void {
    const isKnown = isHandleRecord(record) && this.#find(record.inode) !== undefined
    if (handle === undefined || !isHandleRecord(record)) handle?.close()
    else if (isTrusted || (!isKnown && isHarmless(record))) this.hold(slot, record, handle)
    else handle.close()
  }

  /** Every generation sends what it has: another descriptor of the same socket. */
  hold(slot: number, record: HandleRecord, handle: RawHandle): void {
    const own = this.#bySlot.get(slot) ?? []
    if (!own.includes(record.inode)) this.#bySlot.set(slot, [...own, record.inode])
    const known = this.#find(record.inode)
    if (known !== undefined) handle.close()
    this.#all = [
      ...this.#all.filter((one) => one !== known),
      known === undefined ? { record, handle } : { record, handle: known.handle },
    ]
  }

  /** All that this slot has: what no slot has any more is let go of. */
  keepOnly(slot: number, inodes: readonly number[]): void {
    this.#bySlot.set(slot, inodes)
    const kept = [...this.#bySlot.values()].flat()
    for (const { record, handle } of this.#all) if (!kept.includes(record.inode)) handle.close()
    this.#all = this.#all.filter(({ record }) => kept.includes(record.inode))
  }

  /** There is no such slot any more. */
  forget(slot: number): void {
    if (this.#bySlot.size === 1) return
    this.keepOnly(slot, [])
    this.#bySlot.delete(slot)
  }

  /** Throws for one that no keeper can hold: a plain descriptor. */
  descriptorsOf(records: readonly HandleRecord[]): readonly number[] {
    return records.map(({ inode, name }) => {
      const found = this.#find(inode)
      if (found === undefined) throw new Error(`the keeper cannot hold ${name}, which is a plain descriptor`)
      return found.handle.fd
    })
  }

  #find(inode: number): Held | undefined {
    return this.#all.find((one) => one.record.inode === inode)
  }
}

function isHarmless(record: HandleRecord): boolean {
  if (record.kind === 'tcp' || record.kind === 'udp') return true
  if (record.kind !== 'unix' || record.file === undefined) return false
  return statPath(record.path)?.isSocket === true && fileAt(record.path)?.id === record.file
}
