/** Private properties of Node's objects that stand under a symbol, found by its description. */

export function privateProperty<Value>(target: object, description: string): Value | undefined {
  const symbol = Object.getOwnPropertySymbols(target).find((one) => one.description === description)
  return symbol === undefined ? undefined : (target as Record<symbol, Value>)[symbol]
}

/** A descriptor, unless it is missing or closed. */
export function usable(fd: number | undefined): number | undefined {
  return fd === undefined || fd < 0 ? undefined : fd
}
