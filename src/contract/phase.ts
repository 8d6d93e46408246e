/** The phases of a daemon, and the only table of what may follow what. Pure. */

/** The phase of a daemon. */
export type Phase = 'starting' | 'ready' | 'upgrading' | 'overlapping' | 'lame' | 'draining' | 'gone'

/** What moves it on. */
export type Step =
  /** It serves: the first start is up, or the predecessor accepted it. */
  | 'serve'
  /** It starts its successor. */
  | 'upgrade'
  /** The successor says that it is up; both accept for a while. */
  | 'overlap'
  /** The upgrade failed: everything is as it was. */
  | 'roll back'
  /** The successor has taken over. */
  | 'commit'
  /** It will stop: it still serves, and sends its clients elsewhere (a lame duck). */
  | 'go lame'
  /** It stops without a successor. */
  | 'stop'
  /** The successor was lost while this process drained. */
  | 'return'
  | 'end'

const table: Readonly<Record<Phase, Readonly<Partial<Record<Step, Phase>>>>> = {
  starting: { serve: 'ready', stop: 'draining' },
  ready: { upgrade: 'upgrading', 'go lame': 'lame', stop: 'draining' },
  upgrading: { overlap: 'overlapping', commit: 'draining', 'roll back': 'ready' },
  overlapping: { commit: 'draining', 'roll back': 'ready' },
  lame: { stop: 'draining' },
  draining: { end: 'gone', return: 'ready' },
  gone: {},
}

export const phases = Object.keys(table) as readonly Phase[]

/**
 * The phase after a step; a step that cannot be taken there is a fault of this library and throws.
 */
export function nextPhase(phase: Phase, step: Step): Phase {
  const next = table[phase][step]
  if (next === undefined) throw new Error(`cook-daemon: a daemon that is ${phase} cannot ${step}`)
  return next
}
