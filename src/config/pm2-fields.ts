/** Every field of PM2's configuration: mapped, or not offered with what to do instead. */
import { envHome } from '../contract/environment.ts'

type Pm2Field = {
  readonly aliases?: readonly string[]
  /** Undefined: it is mapped. */
  readonly instead?: string
  /** Whether this value asks for what is not given. @default every value but false and nothing */
  readonly asks?: (value: unknown) => boolean
}

const never = () => false
const ifFalse = (value: unknown) => value === false
const pauses = 'the pause after a crash grows automatically, from 100 ms to 30 s'
const monitoring = 'use GET /metrics of the control socket (Prometheus); nothing is injected into the program'
const watching = 'files are not watched: run cook-daemon upgrade after a change, or node --watch in development'
const plainLog = 'the log contains exactly what the program writes: let its logger add the time'

export const pm2Fields: Readonly<Record<string, Pm2Field>> = {
  name: {},
  script: { aliases: ['exec', 'cmd', 'command'] },
  args: {},
  cwd: {},
  instances: {},
  exec_mode: {},
  execute_command: {},
  env: {},
  node_args: { aliases: ['interpreterArgs', 'interpreter_args'] },
  exec_interpreter: { aliases: ['interpreter'] },
  max_memory_restart: {},
  out_file: { aliases: ['out', 'output', 'out_log'] },
  error_file: { aliases: ['error', 'err', 'err_file', 'err_log'] },
  log_file: { aliases: ['log'] },
  disable_logs: {},
  pid_file: { aliases: ['pid'] },
  wait_ready: {},
  listen_timeout: {},
  kill_timeout: {},
  autorestart: {},
  port: {},
  source_map_support: {},
  uid: { aliases: ['user'] },
  gid: {},
  disable_source_map_support: { instead: '', asks: never },
  disable_trace: { instead: '', asks: never },
  username: { instead: '', asks: never },
  windowsHide: { instead: '', asks: never },
  vizion: { instead: 'status shows the folder of the release, not its commit', asks: (value) => value === true },
  merge_logs: {
    aliases: ['combine_logs'],
    instead: 'cook-daemon logs shows the logs of all workers as one',
    asks: never,
  },
  instance_var: {
    instead: 'the number of a worker is in NODE_APP_INSTANCE',
    asks: (value) => value !== 'NODE_APP_INSTANCE',
  },
  increment_var: { instead: 'the number of a worker is in NODE_APP_INSTANCE' },
  watch: { instead: watching },
  ignore_watch: { instead: watching },
  watch_options: { instead: watching },
  watch_delay: { instead: watching },
  cron_restart: {
    aliases: ['cron'],
    instead: 'call cook-daemon upgrade from a crontab or a systemd timer',
    asks: (value) => String(value ?? 0) !== '0',
  },
  max_restarts: { instead: 'restarts are not limited: after ten crashes in a row, one every 30 s' },
  min_uptime: { instead: 'a worker counts as stable after it has served for 10 s' },
  restart_delay: { instead: pauses },
  exp_backoff_restart_delay: { instead: pauses },
  stop_exit_codes: { instead: 'every unexpected exit is a crash, whatever its code' },
  autostart: { instead: 'every service of the file is started; to start some, name them', asks: ifFalse },
  time: { instead: plainLog },
  log_date_format: { instead: plainLog },
  log_type: { instead: plainLog, asks: (value) => value !== 'raw' },
  namespace: { instead: `${envHome} keeps groups of services apart`, asks: (value) => value !== 'default' },
  name_prefix: { instead: 'a service has only its name' },
  append_env_to_name: { instead: 'a service has only its name' },
  filter_env: { instead: 'to leave a variable out: env -u NAME cook-daemon start' },
  shutdown_with_message: { instead: 'a program is stopped by SIGTERM' },
  kill_retry_time: { instead: 'stop watches the process itself', asks: never },
  treekill: { instead: 'start a child that must outlive the program with { detached: true }', asks: ifFalse },
  force: { instead: 'two services cannot have the same name' },
  post_update: { instead: 'run it in your deploy script, before cook-daemon upgrade' },
  install_url: { instead: 'install it before start' },
  write: { instead: 'the file is only read' },
  trace: { instead: monitoring },
  v8: { instead: monitoring },
  event_loop_inspector: { instead: monitoring },
  deep_monitoring: { instead: monitoring },
  pmx: { instead: monitoring, asks: never },
  automation: { instead: monitoring, asks: never },
  io: { instead: monitoring },
}

const byAlias = new Map(
  Object.entries(pm2Fields).flatMap(([field, { aliases = [] }]) =>
    [field, camelCase(field), ...aliases].map((alias) => [alias, field] as const),
  ),
)

/** The name that PM2 documents, of any spelling of a field; undefined: PM2 does not know it. */
export function pm2FieldOf(typed: string): string | undefined {
  return byAlias.get(typed)
}

/** What is not given of what a value asks for; undefined: nothing. */
export function missedOf(field: string, value: unknown): string | undefined {
  const { instead, asks = isAsking } = pm2Fields[field] ?? {}
  return instead !== undefined && asks(value) ? instead : undefined
}

function isAsking(value: unknown): boolean {
  return value !== undefined && value !== null && value !== false && String(value) !== ''
}

function camelCase(field: string): string {
  return field.replace(/_(\w\w)/g, (_, [first = '', ...rest]: string) => first.toUpperCase() + rest.join(''))
}
