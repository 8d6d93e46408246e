/** The async context of the program (AsyncLocalStorage): that in which it gave us what we call. */
import { AsyncLocalStorage } from 'node:async_hooks'

/** Calls a function in the context in which this was made. */
export type Context = <Result>(call: () => Result) => Result

export function currentContext(): Context {
  return AsyncLocalStorage.snapshot()
}

/** The same function, called in the context of now. */
export function inContext<This, Args extends unknown[], Result>(call: (this: This, ...args: Args) => Result) {
  const context = currentContext()
  return function (this: This, ...args: Args): Result {
    return context(() => Reflect.apply(call, this, args))
  }
}
