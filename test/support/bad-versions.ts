/**
 * The ways in which a new version fails in the middle of many upgrades, and what its predecessor
 * must say of it.
 */
import type { DaemonUpgradeOptions } from 'cook-daemon'

export type BadVersion = {
  readonly what: string
  readonly code: string
  /**
   * Of test/fixtures/bad-version; without them it is the good version, which dies in its overlap.
   */
  readonly args?: readonly string[]
  readonly options?: DaemonUpgradeOptions
}

/**
 * How long one that never answers may take, in milliseconds: it is as good as dead from its start,
 * so a slow machine changes nothing.
 */
const hangs = { code: 'ERR_COOK_SUCCESSOR_TIMEOUT', options: { readyTimeout: 1_500 } }
const ends = { code: 'ERR_COOK_SUCCESSOR_EXITED' }
const breaks = { code: 'ERR_COOK_LINK_BROKEN' }

/** In turn; `takenPort` is one on which somebody else listens. */
export function badVersions(takenPort: number): readonly [BadVersion, ...BadVersion[]] {
  return [
    { what: 'exits with 0', args: ['exit', '0'], ...ends },
    { what: 'exits with 1', args: ['exit', '1'], ...ends },
    { what: 'throws', args: ['throw'], ...ends },
    { what: 'says no', args: ['no'], code: 'ERR_COOK_SUCCESSOR_FAILED' },
    { what: 'never answers', args: ['hang'], ...hangs },
    { what: 'is killed', args: ['kill'], ...ends },
    { what: 'loops for ever', args: ['loop'], ...hangs },
    { what: 'writes garbage on the link', args: ['garbage'], ...breaks },
    { what: 'closes the link', args: ['close-link'], ...ends },
    { what: 'wants a port that is taken', args: ['port', String(takenPort)], ...ends },
    { what: 'is killed right after it reported ready', args: ['yes-and-kill'], ...ends },
    { what: 'dies in its overlap', options: { overlap: 20_000 }, ...ends },
  ]
}
