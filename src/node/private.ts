/** Private properties of Node's objects that stand under a symbol, found by its description. */

export function privateProperty<Value>(target: object, description: string): Value | undefined {
  const symbol = Object.getOwnPropertySymbols(target).find((one) => one.description === description)
  return symbol === undefined ? undefined : (target as Record<symbol, Value>)[symbol]
}

/**
 * lib/internal/async_hooks.js, owner_symbol: a handle that is never closed holds whoever made it.
 */
export function disown(handle: object): void {
  const symbol = Object.getOwnPropertySymbols(handle).find(({ description }) => description === 'owner_symbol')
  if (symbol !== undefined) Object.assign(handle, { [symbol]: null })
}

/** A descriptor, unless it is missing or closed. */
export function usable(fd: number | undefined): number | undefined {
  return fd === undefined || fd < 0 ? undefined : fd
}
