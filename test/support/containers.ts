/** A service in a container of a real engine: its keeper is pid 1 there. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { installIn, Podman, program } from './podman.ts'
import { eventually } from './waiting.ts'

export const network = ['--network', 'host']
export const readOnly = ['--read-only', '--user', '12345']
const path = 'PATH=/srv/web/node_modules/.bin:/usr/bin:/bin'

/** An image is not needed: the root folder is one, which all of them share. */
export async function openContainers(version = 'v1'): Promise<Podman> {
  const podman = await Podman.open()
  try {
    installIn(podman.root)
    mkdirSync(podman.path('app'))
    writeApp(podman, version)
    mkdirSync(`${podman.root}/srv/app`)
    return podman
  } catch (error) {
    await podman[Symbol.asyncDispose]()
    throw error
  }
}

export function writeApp(podman: Podman, version: string, before = ''): void {
  writeFileSync(podman.path('app/app.mjs'), program(version, 0, before))
}

/** What a container runs, and where: an engine's options before it. */
export function running(
  podman: Podman,
  options: readonly string[],
  words: readonly string[] = [],
  name = 'web',
): readonly string[] {
  const volume = ['--volume', `${podman.path('app')}:/srv/app:ro`, '--workdir', '/srv/app']
  const command = ['cook-daemon', 'run', 'app.mjs', '--name', 'web', ...words]
  const how = ['--name', name, ...network, '--env', path, ...volume, ...options]
  return ['run', ...how, '--rootfs', `${podman.root}:O`, ...command]
}

export async function starts(
  podman: Podman,
  options: readonly string[],
  words: readonly string[] = [],
  name = 'web',
): Promise<void> {
  const [run = '', ...how] = running(podman, options, words, name)
  await podman.does([run, '--detach', ...how])
  await untilLogged(podman, 'v1 serves', 1, name)
}

export async function untilLogged(podman: Podman, words: string, times = 1, name = 'web'): Promise<void> {
  let logs = ''
  await eventually(
    () => `${words} in the logs, which have: ${logs}`,
    async () => {
      logs = await podman.logs(name)
      return logs.split(words).length > times || undefined
    },
  )
}

/** Processes in the container that nobody has reaped, one a line of /proc/PID/stat. */
export async function zombies(podman: Podman): Promise<string[]> {
  const look = `for (const pid of fs.readdirSync('/proc').filter(Number)) try {
    const stat = fs.readFileSync('/proc/' + pid + '/stat', 'latin1'); if (/\\) Z /.test(stat)) console.log(stat) } catch {}`
  return (await podman.does(['exec', 'web', 'node', '-e', look])).split('\n').filter((line) => line !== '')
}
