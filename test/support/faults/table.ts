/**
 * The fault matrix: what becomes of an upgrade when one side has a fault at one of its steps. The
 * tests run each cell and hold it to this table; docs/reliability.md is made from it. Pure.
 */

/** How far the new version has come. */
export const steps = {
  spawn: 'its process exists, Node has not started yet',
  boot: 'its program runs, but has not called this library yet',
  hello: 'the first call has sent `hello`',
  claim: 'it has claimed the listener, but does not listen yet',
  listen: 'it listens, and only the old one accepts',
  state: 'it has asked for state, and the old version is about to send it',
  done: 'it has reported ready; both accept, here for 0.3 s of `overlap`',
  handover: 'after the commit, connections move: five have moved',
  drain: 'the old version has stopped accepting, and has one long request to finish',
  exit: 'the old version has sent `bye`',
} as const
export type Step = keyof typeof steps

export const faults = {
  SIGKILL: 'SIGKILL',
  SIGSTOP: 'SIGSTOP, and SIGCONT after the deadline',
  'exit 0': '`process.exit(0)`',
  'exit 1': '`process.exit(1)`',
  exception: 'uncaught exception',
  loop: 'endless loop',
  descriptors: 'out of descriptors',
  disk: 'full disk',
  link: 'link closed',
  garbage: 'garbage on the link',
  slow: 'slow machine',
} as const
export type Fault = keyof typeof faults

export type Side = 'old' | 'new'

/**
 * What clients that never retry may see at most. Refused are none in any cell, and none waits for
 * ever.
 */
export const losses = {
  nothing: 'nothing',
  accepted: 'one-request connections that the new version accepted during the overlap, at most one for each client',
  closed: 'new connections: a process without a free descriptor cannot keep them, as without any upgrade',
  moved: 'connections that had moved, and up to 32 on their way; none that the old version still had',
  stayed: 'connections that the old version still had; none that had moved',
  noRoom: 'connections that the old version still had, and new ones: the new version has no descriptor for either',
  old: 'the connections of the old version',
} as const
export type Loss = keyof typeof losses

export type Cell = {
  /** Who serves afterwards. */
  readonly serves: Side
  /**
   * What upgrade() gives in the old version: that it succeeds, or the code of its error and words
   * of it; `–` where nobody is left to be told.
   */
  readonly upgrade: string
  /** Events of either version, beside phases. */
  readonly events: readonly string[]
  readonly clients: Loss
  /** Whom the pid file names, where that is not who serves. */
  readonly pidFile?: Side
  readonly note?: Note
}

/** A combination that means nothing, and why. */
export type Skip = { readonly skip: Note }

export const notes = {
  noProgram:
    'No line of the program runs yet that could throw: a Node that cannot start exits with an exit code, as in the row of `process.exit(1)`.',
  sameDisk:
    'A full disk affects both: see the new version. Pid file, log and Unix path are on it, with no byte and no inode left.',
  disk: 'Pid file, log and Unix path are on the full file system, with no byte and no inode left. The pid is written over the old one.',
  pidFile:
    'Without a descriptor the pid file cannot be written: it names the old version until the next upgrade, with the event `hook-failed`. If a descriptor becomes free for a moment, the file is written, without the event.',
  owner:
    'Before the commit the old version is the owner, and the new one never takes the service from a living owner: while the old one loops, nobody answers, as without any upgrade. When it is killed, by an operator, a watchdog or the out-of-memory killer, the waiting new version serves at once.',
  stopped:
    'Time in which the old version is stopped does not count against the new one: the upgrade continues where it was.',
  overstays: 'The new version kills it 10 s after its `drainTimeout`.',
  stands: 'The old version kills it 5 s after its `drainTimeout`, and takes the service back.',
  cutLink:
    'Both are alive, but can no longer communicate: the service stays with the new one, and connections that have not moved end with the old one.',
  noRoom:
    'Here it has none until the old version gives up. If it has one earlier, it gets the connections then: a test in live-http.test.ts shows that.',
  saidBye:
    'It no longer has anything of the service and may have other work, so it is not killed. After SIGCONT it exits; if it loops, the operator must kill it.',
  alone: 'From here on the service is only the new version: a later crash is not a fault of the upgrade.',
  sliced: 'The process runs for 10 ms of every 35.',
} as const
export type Note = keyof typeof notes

// ------------------------------------------------------------------------------------------------ what happens again and again

const succeeds: Cell = { serves: 'new', upgrade: 'succeeds', events: ['old: upgraded'], clients: 'nothing' }
const slow: Cell = { ...succeeds, note: 'sliced' }
const full: Cell = { ...succeeds, note: 'disk' }

function fails(upgrade: string, clients: Loss = 'nothing'): Cell {
  return { serves: 'old', upgrade, events: ['old: upgrade-failed'], clients }
}

function exits(how: string, clients?: Loss): Cell {
  return fails(`ERR_COOK_SUCCESSOR_EXITED: ${how}`, clients)
}

function late(how: string, clients?: Loss): Cell {
  return fails(`ERR_COOK_SUCCESSOR_TIMEOUT: ${how}`, clients)
}

/** The old version dies before the commit. */
const ownerDies: Cell = { serves: 'new', upgrade: '–', events: [], clients: 'old' }
const ownerLoops: Cell = { ...ownerDies, note: 'owner' }
const ownerStops: Cell = { ...succeeds, note: 'stopped' }

/** The new version is lost after the commit, and the old one takes the service back. */
const comesBack: Cell = {
  serves: 'old',
  upgrade: 'succeeds',
  events: ['old: upgraded', 'old: successor-lost'],
  clients: 'moved',
}
const isKilled: Cell = { ...comesBack, note: 'stands' }

const linkIsCut: Cell = { ...succeeds, clients: 'stayed', note: 'cutLink' }
const overstays: Cell = {
  ...succeeds,
  events: ['old: upgraded', 'new: predecessor-killed'],
  clients: 'stayed',
  note: 'overstays',
}

type Row = Readonly<Record<Fault, Cell | Skip>>

/** The new version, before the commit; in an overlap it accepts too. */
function newBefore(lateWords: string, accepted: Loss = 'nothing'): Row {
  return {
    SIGKILL: exits('signal SIGKILL', accepted),
    SIGSTOP: late(lateWords, accepted),
    'exit 0': exits('exit code 0', accepted),
    'exit 1': exits('exit code 1', accepted),
    exception: exits('no cache left', accepted),
    loop: late(lateWords, accepted),
    descriptors: {
      ...succeeds,
      events: ['old: upgraded', 'new: hook-failed'],
      clients: 'closed',
      pidFile: 'old',
      note: 'pidFile',
    },
    disk: full,
    link: exits('exited before it was ready', accepted),
    garbage: fails('ERR_COOK_LINK_BROKEN: no message', accepted),
    slow,
  }
}

/**
 * The old version, before the commit; what a new one that loses its link had accepted in an overlap
 * ends with it.
 */
const oldBefore = (accepted: Loss = 'nothing'): Row => ({
  SIGKILL: ownerDies,
  SIGSTOP: ownerStops,
  'exit 0': ownerDies,
  'exit 1': ownerDies,
  exception: ownerDies,
  loop: ownerLoops,
  descriptors: { ...succeeds, clients: 'closed' },
  disk: { skip: 'sameDisk' },
  link: exits('exited before it was ready', accepted),
  garbage: exits('exited before it was ready', accepted),
  slow,
})

const hello = 'last step: booted'

/** The new version, after the commit. */
const newAfter: Row = {
  SIGKILL: comesBack,
  SIGSTOP: isKilled,
  'exit 0': comesBack,
  'exit 1': comesBack,
  exception: comesBack,
  loop: isKilled,
  descriptors: { ...succeeds, clients: 'closed' },
  disk: full,
  link: linkIsCut,
  garbage: succeeds,
  slow,
}

const oldDies: Cell = { ...succeeds, clients: 'stayed' }

/**
 * It dies in the turn in which it moves the first ones, before its caller hears that the upgrade
 * has succeeded.
 */
const oldDiesUntold: Cell = { ...oldDies, upgrade: '–' }

const oldAfter = {
  SIGKILL: oldDies,
  SIGSTOP: overstays,
  'exit 0': oldDies,
  'exit 1': oldDies,
  exception: oldDies,
  loop: overstays,
  descriptors: succeeds,
  disk: { skip: 'sameDisk' },
  link: linkIsCut,
  garbage: succeeds,
  slow,
} as const satisfies Row

// ------------------------------------------------------------------------------------------------ the table

export const table: Readonly<Record<Side, Readonly<Record<Step, Row>>>> = {
  new: {
    spawn: {
      ...newBefore('last step: started'),
      exception: { skip: 'noProgram' },
      descriptors: exits('exited before it was ready'),
      garbage: fails('ERR_COOK_LINK_BROKEN: no message'),
    },
    boot: newBefore('last step: started'),
    hello: newBefore(hello),
    claim: newBefore(hello),
    listen: newBefore(hello),
    state: newBefore(hello),
    done: newBefore('last step: ready, not confirmed', 'accepted'),
    handover: { ...newAfter, descriptors: { ...succeeds, clients: 'noRoom', note: 'noRoom' } },
    drain: newAfter,
    exit: newAfter,
  },
  old: {
    spawn: { ...oldBefore(), descriptors: fails('ERR_COOK_SUCCESSOR_SPAWN: EMFILE', 'closed') },
    boot: oldBefore(),
    hello: oldBefore(),
    claim: oldBefore(),
    listen: oldBefore(),
    state: oldBefore(),
    done: oldBefore('accepted'),
    handover: {
      ...oldAfter,
      SIGKILL: oldDiesUntold,
      SIGSTOP: { ...overstays, upgrade: '–' },
      'exit 0': oldDiesUntold,
      'exit 1': oldDiesUntold,
      loop: { ...overstays, upgrade: '–' },
    },
    drain: oldAfter,
    exit: {
      ...oldAfter,
      SIGSTOP: { ...succeeds, note: 'saidBye' },
      loop: { ...succeeds, note: 'saidBye' },
      link: succeeds,
      SIGKILL: { ...succeeds, note: 'alone' },
      'exit 0': { ...succeeds, note: 'alone' },
      'exit 1': { ...succeeds, note: 'alone' },
      exception: { ...succeeds, note: 'alone' },
    },
  },
}

/** The way of the original Go API, with a process between the two: what is not as above. */
export const parentTable: Readonly<Record<Side, Readonly<Record<Step, Cell>>>> = {
  new: {
    spawn: exits('signal SIGKILL'),
    boot: exits('exited before it was ready'),
    hello: exits('its link ended'),
    claim: exits('its link ended'),
    listen: exits('its link ended'),
    state: exits('its link ended'),
    done: exits('its link ended', 'accepted'),
    handover: comesBack,
    drain: comesBack,
    exit: comesBack,
  },
  old: {
    spawn: ownerDies,
    boot: ownerDies,
    hello: ownerDies,
    claim: ownerDies,
    listen: ownerDies,
    state: ownerDies,
    done: ownerDies,
    handover: oldDiesUntold,
    drain: oldDies,
    exit: { ...succeeds, note: 'alone' },
  },
}

// ------------------------------------------------------------------------------------------------ its examples

/**
 * What `npm test` runs: each fault of each side once, and each step that a side can be at. The
 * others come to the same by the same code.
 */
export const examples: Readonly<Record<Side, Readonly<Record<Fault, Step | undefined>>>> = {
  new: {
    SIGKILL: 'handover',
    SIGSTOP: 'hello',
    'exit 0': 'boot',
    'exit 1': 'listen',
    exception: 'drain',
    loop: 'claim',
    descriptors: 'exit',
    disk: 'state',
    link: 'done',
    garbage: 'listen',
    slow: 'spawn',
  },
  old: {
    SIGKILL: 'listen',
    SIGSTOP: 'exit',
    'exit 0': 'done',
    'exit 1': 'handover',
    exception: 'drain',
    loop: 'boot',
    descriptors: 'spawn',
    disk: undefined,
    link: 'hello',
    garbage: 'state',
    slow: 'claim',
  },
}
export const parentExamples: Readonly<Record<Side, Step>> = { new: 'claim', old: 'listen' }
