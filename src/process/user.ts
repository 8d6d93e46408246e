/** The user as whom this process serves, though it may have been started as root. */
import { userText } from '../contract/user.ts'
import { CookError, messageOf } from '../errors.ts'
import { becomeUser } from '../node/users.ts'
import type { ProcessState } from './state.ts'

type Started = Pick<ProcessState, 'program'>

/** It still is root, to open what only root may. */
export function isRootForNow({ program }: Started): boolean {
  return program?.user !== undefined && process.geteuid?.() === 0
}

/** Right before this process serves anybody; throws `ERR_COOK_USER`, and then it must end. */
export function becomeItsUser({ program }: Started): void {
  const { user } = program ?? {}
  // Whoever was started by one who is that user already is no other one.
  if (user === undefined || process.geteuid?.() === user.uid) return
  try {
    becomeUser(user)
  } catch (cause) {
    throw new CookError('ERR_COOK_USER', { user: userText(user), why: messageOf(cause) }, { cause })
  }
}

/** Adds to what Node says of a port why it is not for this process, and what to do. */
export function explainPort(error: NodeJS.ErrnoException & { readonly port?: number }, { program }: Started): void {
  const { user } = program ?? {}
  const isPort = error.code === 'EACCES' && error.port !== undefined && error.port > 0
  if (!isPort || user === undefined || process.geteuid?.() === 0) return
  const text = `${error.message}. This process was started as ${userText(user)}, not as root. A port below 1024 that the first version did not open needs a new start (stop, then start), or systemd (socket activation)`
  const { stack, message } = error
  // Node prints the one that was made with the error.
  if (stack !== undefined) error.stack = stack.replace(message, () => text)
  error.message = text
}
