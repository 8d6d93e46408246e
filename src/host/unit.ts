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
export const unitMark = '# Written by `cook-daemon systemd`, which replaces this file as long as this line is in it.'

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
    [unitMark, `# Put your own changes in a drop-in: ${command} edit ${name}`],
    ['Unit', aboutService(plan)],
    ['Service', [...lifeOf(plan), ...environmentOf(plan), ...userOf(plan), ...hardeningOf(plan)]],
    ['Install', [installed(plan)]],
  )
}

function aboutService({ name, user, sockets }: UnitPlan): readonly Part[] {
  const part: Part[] = [['Shown by systemctl status.', `Description=${name}, a Node server run by cook-daemon`]]
  if (user.kind !== 'manager') {
    part.push(['Start after interfaces and firewall are set up, without waiting to be online.', 'After=network.target'])
  }
  if (sockets !== undefined)
    part.push(['systemd opens its listeners first and passes them to it.', `Requires=${name}.socket`])
  part.push(['systemd never stops trying: a database that it needs may start later.', 'StartLimitIntervalSec=0'])
  return part
}

function lifeOf({ name, run, reload, times }: UnitPlan): readonly Part[] {
  const { readyTimeout, drainTimeout, lameDuck, overlap } = times
  const start = seconds(readyTimeout + overlap + drainTimeout) + margin
  return [
    ['It counts as started only when it serves; the keeper notifies systemd.', 'Type=notify'],
    ['The keeper notifies through a child process, systemd-notify.', 'NotifyAccess=all'],
    [
      `The keeper is the main process: its pid stays the same through all upgrades, and it restarts a
worker that crashes. --cwd lets each upgrade follow symlinks in the path anew.`,
      `ExecStart=${execLine(run)}`,
    ],
    [
      `A reload is an upgrade. If the new version does not start, the reload fails with the reason, and
the old version still serves. With --update-env, it applies a changed environment.`,
      `ExecReload=${execLine(reload)}`,
    ],
    [
      `KillMode= is not set: by default systemd signals the keeper and the workers at the same time, and
they handle it as one stop. Accepted requests are finished.`,
    ],
    [
      'For the control socket and the record of the service; only its user may enter.',
      `RuntimeDirectory=${unitFolder(name)}`,
      'RuntimeDirectoryMode=0700',
    ],
    [
      `For a start or a reload: ready timeout (${seconds(readyTimeout)} s), overlap (${seconds(overlap)} s), drain timeout (${seconds(drainTimeout)} s)
and ${margin} s.`,
      `TimeoutStartSec=${start}`,
    ],
    [
      `Lame duck (${seconds(lameDuck)} s), drain timeout and ${margin} s. Raise it if the program itself sets longer ones.`,
      `TimeoutStopSec=${seconds(lameDuck + drainTimeout) + margin}`,
    ],
    [
      'Restart if the keeper is killed or no worker starts anymore, but not after a stop.',
      'Restart=on-failure',
      'RestartSec=1',
    ],
    ['The keeper reports every 20 s that it is alive; one that hangs is killed and restarted.', 'WatchdogSec=60'],
    ['The keeper itself restarts a worker that the kernel kills for lack of memory.', 'OOMPolicy=continue'],
    ['Its name in the journal, instead of node.', `SyslogIdentifier=${name}`],
  ]
}

function environmentOf({ name, user }: UnitPlan): readonly Part[] {
  const file = user.kind === 'manager' ? `%E/cook-daemon/${name}.env` : `/etc/default/${name}`
  return [
    [
      `The environment of the program, if the file exists: NAME=value on each line. Variables of the
shell that made this unit are not in it.${user.kind === 'manager' ? ' %E is ~/.config.' : ''}`,
      `EnvironmentFile=-${file}`,
    ],
  ]
}

function userOf({ user, hasLowPort, sockets, name }: UnitPlan): readonly Part[] {
  if (user.kind === 'manager') return []
  if (user.kind === 'dynamic') {
    return [
      [
        `A user that exists only while the service runs, and owns nothing: the files of the program belong
to root. For files that it must keep, StateDirectory=${name} gives it /var/lib/${name}.`,
        'DynamicUser=yes',
      ],
      ...portsOf(hasLowPort, sockets),
    ]
  }
  const group = user.group === undefined ? [] : [`Group=${value(user.group)}`]
  if (isRoot(user)) return [['Root, as set with --uid.', 'User=root', ...group]]
  return [['No part of it runs as root.', `User=${value(user.user)}`, ...group], ...portsOf(hasLowPort, sockets)]
}

function portsOf(hasLowPort: boolean | undefined, sockets: UnitPlan['sockets']): readonly Part[] {
  const [none, one] = ['CapabilityBoundingSet=', 'CapabilityBoundingSet=CAP_NET_BIND_SERVICE']
  const ambient = 'AmbientCapabilities=CAP_NET_BIND_SERVICE'
  if (sockets === undefined && hasLowPort === true)
    return [['The only capability of root: listen on a port below 1024.', ambient, one]]
  const rest = ['No capability of root.', none] as const
  if (sockets !== undefined || hasLowPort === false) return [rest]
  return [rest, ['To listen on a port below 1024, remove the # before both lines:', `#${ambient}`, `#${one}`]]
}

function hardeningOf({ user, isInHome }: UnitPlan): readonly Part[] {
  const seccomp: readonly Part[] = [
    ['No privileges through setuid programs.', 'NoNewPrivileges=yes'],
    [
      'No setuid files, no real-time scheduling, no other kernel personality.',
      'RestrictSUIDSGID=yes',
      'RestrictRealtime=yes',
      'LockPersonality=yes',
    ],
    [
      'No namespaces. A browser (Chromium) needs them for its sandbox: remove this line for one.',
      'RestrictNamespaces=yes',
    ],
    [
      'What Node needs: AF_NETLINK is for os.networkInterfaces().',
      'RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK',
    ],
    [
      'Only native system calls that services use; others fail.',
      'SystemCallArchitectures=native',
      'SystemCallFilter=@system-service',
      'SystemCallErrorNumber=EPERM',
    ],
    ['No MemoryDenyWriteExecute=: V8 compiles code at run time, and Node would not start.'],
  ]
  if (user.kind === 'manager') return seccomp
  const strict = user.kind === 'dynamic'
  return [
    strict
      ? ['It can write only to its runtime directory and its /tmp.', 'ProtectSystem=strict']
      : ['/usr, /boot and /etc are read-only.', 'ProtectSystem=full'],
    isInHome
      ? ['No ProtectHome=: a part of it is in a home directory.']
      : ['Home directories appear empty.', 'ProtectHome=yes'],
    ['A private /tmp, and a private /dev without hardware.', 'PrivateTmp=yes', 'PrivateDevices=yes'],
    [
      'No access to kernel settings, modules and log, control groups, clock and host name.',
      ...['KernelTunables', 'KernelModules', 'KernelLogs', 'ControlGroups', 'Clock', 'Hostname'].map(
        (what) => `Protect${what}=yes`,
      ),
    ],
    ...seccomp,
  ]
}

function installed({ user }: UnitPlan): Part {
  return user.kind === 'manager'
    ? ['Start with the manager of this user: at boot if lingering is on.', 'WantedBy=default.target']
    : ['Start at boot.', 'WantedBy=multi-user.target']
}

function socketText({ name, user }: UnitPlan, sockets: readonly UnitSocket[]): string {
  const hasPath = sockets.some(({ address }) => address.startsWith('/'))
  const command = user.kind === 'manager' ? 'systemctl --user' : 'systemctl'
  const part: Part[] = [
    [
      `systemd listens here, and the service finds its listeners by these addresses. They stay open during
a restart: clients wait, and none is refused.`,
      ...sockets.map(({ kind, address }) => `Listen${kind === 'stream' ? 'Stream' : 'Datagram'}=${value(address)}`),
    ],
  ]
  if (hasPath) part.push(['Who may connect to a path: SocketUser=, SocketGroup= and this.', 'SocketMode=0660'])
  part.push(['A service that fails to start must not close its listeners.', 'TriggerLimitIntervalSec=0'])
  return unit(
    [unitMark, `# Put your own changes in a drop-in: ${command} edit ${name}.socket`],
    ['Unit', [['Shown by systemctl status.', `Description=${name}: its listeners`]]],
    ['Socket', part],
    ['Install', [['Start at boot.', 'WantedBy=sockets.target']]],
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
