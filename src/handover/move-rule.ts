/** The option `moveConnections`: which connections move. */
import type { MoveRule } from '../options.ts'
import type { Service } from '../service.ts'

/** A function that throws is reported once, and moves nothing. */
export function moveRule(service: Service): MoveRule {
  const { moveConnections = true } = service.options
  if (typeof moveConnections === 'boolean') return moveConnections
  let hasFailed = false
  return (socket) => {
    try {
      return service.context(() => moveConnections(socket)) === true
    } catch (error) {
      if (!hasFailed) service.hookFailed('moveConnections', error)
      hasFailed = true
      return false
    }
  }
}
