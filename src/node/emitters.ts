/** Hearing what an emitter emits before its listeners do, or in their place. */

export type Emitter = { emit(name: string | symbol, ...args: unknown[]): boolean }

type Emit = Emitter['emit']

/**
 * Has each event go through `hear`, which passes it on with `emit`, or does not. Returns what ends
 * that: whoever has wrapped it after us (the package signal-exit does) keeps a working chain.
 */
export function wrapEmit(
  emitter: Emitter,
  hear: (emit: Emit, name: string | symbol, ...args: unknown[]) => boolean,
): () => void {
  const { emit } = emitter
  const hadOwn = Object.hasOwn(emitter, 'emit')
  let isOver = false
  const wrapped = function (this: Emitter, name: string | symbol, ...args: unknown[]): boolean {
    const plain: Emit = (...all) => Reflect.apply(emit, this, all)
    return isOver ? plain(name, ...args) : hear(plain, name, ...args)
  }
  emitter.emit = wrapped
  return () => {
    isOver = true
    if (emitter.emit !== wrapped) return
    if (hadOwn) emitter.emit = emit
    else Reflect.deleteProperty(emitter, 'emit')
  }
}
