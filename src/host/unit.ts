/** The units of a service for systemd: what stands in them, each line with its reason. Pure. */
import { execLine, value } from './unit-words.ts'

/** Its run directory, below /run or $XDG_RUNTIME_DIR. */
export function unitFolder(name: string): string {
  return `cook-daemon-${name}`
}

/** Who runs it. `manager`: the user whose own manager starts it. */
export type UnitUser =
  | { readonly kind: 'manager' }
  | { readonly kind: 'dynamic' }
  | { readonly kind: 'named'; readonly user: string; readonly group?: string | undefined }

/** Where systemd listens. */
export type UnitSocket = { readonly kind: 'stream' | 'datagram'; readonly address: string }

export type UnitPlan = {
  readonly name: string
  /** The commands, with absolute paths. */
  readonly run: readonly string[]
  readonly reload: readonly string[]
  /** In milliseconds. */
  readonly times: {
    readonly readyTimeout: number
    readonly drainTimeout: number
    readonly lameDuck: number
    readonly overlap: number
  }
  readonly user: UnitUser
  /** Something that it runs lies in a home. */
  readonly isInHome: boolean
  /** Undefined: the service listens itself. */
  readonly sockets?: readonly UnitSocket[] | undefined
  /** It listens on a port that is root's; undefined: nobody knows. */
  readonly hasLowPort?: boolean | undefined
}

export type UnitFile = { readonly file: string; readonly text: string }

/** A service and its units. */
export type Unit = { readonly plan: UnitPlan; readonly files: readonly UnitFile[] }

/** The first line of what is ours. */
export const unitMark = '# Written by `cook-daemon systemd`, which replaces this file as long as this line stands.'

/** A reason, of one line or several, and the lines that it stands above. */
type Part = readonly [why: string, ...lines: readonly string[]]

export function unitsOf(plan: UnitPlan): readonly UnitFile[] {
  const service = { file: `${plan.name}.service`, text: serviceText(plan) }
  return plan.sockets === undefined
    ? [service]
    : [service, { file: `${plan.name}.socket`, text: socketText(plan, plan.sockets) }]
}

function serviceText(plan: UnitPlan): string {
  const { name } = plan
  const command = plan.user.kind === 'manager' ? 'systemctl --user' : 'systemctl'
  return unit(
    [unitMark, `# Changes of your own belong in a drop-in: ${command} edit ${name}`],
    ['Unit', aboutService(plan)],
    ['Service', [...lifeOf(plan), ...environmentOf(plan), ...userOf(plan), ...hardeningOf(plan)]],
    ['Install', [installed(plan)]],
  )
}

function aboutService({ name, user, sockets }: UnitPlan): readonly Part[] {
  const part: Part[] = [['What systemctl status shows.', `Description=${name}, a Node server kept by cook-daemon`]]
  if (user.kind !== 'manager') {
    part.push(['Interfaces and firewall are set up first. It does not wait for a connection.', 'After=network.target'])
  }
  if (sockets !== undefined) part.push(['Its listeners are opened first, and handed to it.', `Requires=${name}.socket`])
  part.push(['systemd never gives it up: what it needs, as a database, may come later.', 'StartLimitIntervalSec=0'])
  return part
}

function lifeOf({ name, run, reload, times }: UnitPlan): readonly Part[] {
  const { readyTimeout, drainTimeout, lameDuck, overlap } = times
  const start = seconds(readyTimeout + overlap + drainTimeout) + margin
  return [
    ['It has started when it serves, and not before; the keeper says so.', 'Type=notify'],
    ['The keeper says it by a child of its own, systemd-notify.', 'NotifyAccess=all'],
    [
      `The keeper is the main process: its pid stays the same through all upgrades, and it starts a worker
that crashes again. --cwd: so that each upgrade follows symlinks in the path anew.`,
      `ExecStart=${execLine(run)}`,
    ],
    [
      `A reload is an upgrade. It fails, with the reason, if the new version does not come up, and the old
one serves on. --update-env: a changed environment counts from then on.`,
      `ExecReload=${execLine(reload)}`,
    ],
    [
      `KillMode= is not set: by default systemd stops keeper and workers at once, and they know that this
is one stop. What was accepted is finished.`,
    ],
    [
      'The control socket and what is known of the service; nobody else may look in.',
      `RuntimeDirectory=${unitFolder(name)}`,
      'RuntimeDirectoryMode=0700',
    ],
    [
      `Of a start, and of a reload too: ready timeout (${seconds(readyTimeout)} s), overlap (${seconds(overlap)} s), drain timeout (${seconds(drainTimeout)} s)
and ${margin} s.`,
      `TimeoutStartSec=${start}`,
    ],
    [
      `Lame duck (${seconds(lameDuck)} s), drain timeout and ${margin} s. A program that sets longer ones itself needs more.`,
      `TimeoutStopSec=${seconds(lameDuck + drainTimeout) + margin}`,
    ],
    [
      'If the keeper is killed, or no worker comes up any more; not after a stop.',
      'Restart=on-failure',
      'RestartSec=1',
    ],
    ['The keeper says every 20 s that it lives; one that hangs is killed, and started again.', 'WatchdogSec=60'],
    ['A worker that is killed for lack of memory is for the keeper to start again.', 'OOMPolicy=continue'],
    ['The name before its lines in the journal, instead of node.', `SyslogIdentifier=${name}`],
  ]
}

function environmentOf({ name, user }: UnitPlan): readonly Part[] {
  const file = user.kind === 'manager' ? `%E/cook-daemon/${name}.env` : `/etc/default/${name}`
  return [
    [
      `The environment of the program, if the file is there: NAME=value in each line. Nothing of the shell
that has made this unit is in it.${user.kind === 'manager' ? ' %E is ~/.config.' : ''}`,
      `EnvironmentFile=-${file}`,
    ],
  ]
}

function userOf({ user, hasLowPort, sockets, name }: UnitPlan): readonly Part[] {
  if (user.kind === 'manager') return []
  if (user.kind === 'dynamic') {
    return [
      [
        `A user that exists while it runs, and owns nothing: the program's files belong to root. For files
that it has to keep, StateDirectory=${name} gives it /var/lib/${name}.`,
        'DynamicUser=yes',
      ],
      ...portsOf(hasLowPort, sockets),
    ]
  }
  const group = user.group === undefined ? [] : [`Group=${value(user.group)}`]
  if (isRoot(user)) return [['Root, as --uid said.', 'User=root', ...group]]
  return [['Nothing of it runs as root.', `User=${value(user.user)}`, ...group], ...portsOf(hasLowPort, sockets)]
}

function portsOf(hasLowPort: boolean | undefined, sockets: UnitPlan['sockets']): readonly Part[] {
  const [none, one] = ['CapabilityBoundingSet=', 'CapabilityBoundingSet=CAP_NET_BIND_SERVICE']
  const ambient = 'AmbientCapabilities=CAP_NET_BIND_SERVICE'
  if (sockets === undefined && hasLowPort === true)
    return [['Of the rights of root, the one to listen on a port below 1024.', ambient, one]]
  const rest = ['None of the rights of root.', none] as const
  if (sockets !== undefined || hasLowPort === false) return [rest]
  return [rest, ['To listen on a port below 1024, remove the # before both lines:', `#${ambient}`, `#${one}`]]
}

function hardeningOf({ user, isInHome }: UnitPlan): readonly Part[] {
  const seccomp: readonly Part[] = [
    ['No more rights by a program with the setuid bit.', 'NoNewPrivileges=yes'],
    [
      'No files with that bit, no real-time scheduling, no other personality of the kernel.',
      'RestrictSUIDSGID=yes',
      'RestrictRealtime=yes',
      'LockPersonality=yes',
    ],
    [
      'No containers of its own. A browser (Chromium) needs them for its sandbox: remove the line then.',
      'RestrictNamespaces=yes',
    ],
    [
      'What Node needs: AF_NETLINK is for os.networkInterfaces().',
      'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
    ],
    [
      'System calls of this machine, as services need them; others fail.',
      'SystemCallArchitectures=native',
      'SystemCallFilter=@system-service',
      'SystemCallErrorNumber=EPERM',
    ],
    ['No MemoryDenyWriteExecute=: V8 compiles to memory that it then runs; Node would not start.'],
  ]
  if (user.kind === 'manager') return seccomp
  const strict = user.kind === 'dynamic'
  return [
    strict
      ? ['It can write in its runtime directory and its /tmp alone.', 'ProtectSystem=strict']
      : ['/usr, /boot and /etc cannot be written to.', 'ProtectSystem=full'],
    isInHome
      ? ['No ProtectHome=: something that it runs lies in a home.']
      : ['Homes are empty to it.', 'ProtectHome=yes'],
    ['A /tmp and a /dev of its own, without hardware.', 'PrivateTmp=yes', 'PrivateDevices=yes'],
    [
      'Settings, modules and log of the kernel, control groups, clock and host name are not its own.',
      ...['KernelTunables', 'KernelModules', 'KernelLogs', 'ControlGroups', 'Clock', 'Hostname'].map(
        (what) => `Protect${what}=yes`,
      ),
    ],
    ...seccomp,
  ]
}

function installed({ user }: UnitPlan): Part {
  return user.kind === 'manager'
    ? ['With the manager of this user: at boot, if lingering is on.', 'WantedBy=default.target']
    : ['At boot.', 'WantedBy=multi-user.target']
}

function socketText({ name, user }: UnitPlan, sockets: readonly UnitSocket[]): string {
  const hasPath = sockets.some(({ address }) => address.startsWith('/'))
  const command = user.kind === 'manager' ? 'systemctl --user' : 'systemctl'
  const part: Part[] = [
    [
      `systemd listens here, and the service finds its listeners by these addresses. They stay open while
it restarts: clients wait, and none is refused.`,
      ...sockets.map(({ kind, address }) => `Listen${kind === 'stream' ? 'Stream' : 'Datagram'}=${value(address)}`),
    ],
  ]
  if (hasPath) part.push(['Who may connect to a path: SocketUser=, SocketGroup= and this.', 'SocketMode=0660'])
  part.push(['A service that does not come up must not close its listeners.', 'TriggerLimitIntervalSec=0'])
  return unit(
    [unitMark, `# Changes of your own belong in a drop-in: ${command} edit ${name}.socket`],
    ['Unit', [['What systemctl status shows.', `Description=${name}: its listeners`]]],
    ['Socket', part],
    ['Install', [['At boot.', 'WantedBy=sockets.target']]],
  )
}

function unit(head: readonly string[], ...sections: readonly (readonly [string, readonly Part[]])[]): string {
  const text = sections.map(([section, parts]) => `[${section}]\n${parts.map(partText).join('\n')}\n`)
  return `${head.join('\n')}\n\n${text.join('\n')}`
}

function partText([why, ...lines]: Part): string {
  return [...why.split('\n').map((line) => `# ${line}`), ...lines].join('\n')
}

/** What a stop or an upgrade may take beyond its own times, in seconds. */
const margin = 10

function seconds(ms: number): number {
  return Math.ceil(ms / 1000)
}

function isRoot(user: UnitUser): boolean {
  return user.kind === 'named' && (user.user === 'root' || user.user === '0')
}
