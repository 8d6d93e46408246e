/** node:cluster under the preload: refused, at the first fork, since half of an upgrade would be worse than none. */
import { CookError } from '../errors.ts'
import { watchClusterPrimary } from '../node/sockets.ts'

/** Returns what ends the refusal. */
export function refuseCluster(): () => void {
  return watchClusterPrimary(() => {
    throw new CookError('ERR_COOK_CLUSTER', {})
  })
}
