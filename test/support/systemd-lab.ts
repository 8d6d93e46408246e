/**
 * A machine of its own with a real systemd, in which commands are run as in a shell on it. What it
 * is made of is in systemd-lab.sh.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { Ended } from './command.ts'
import { onlyOnHost } from './extent.ts'
import { eventually, within } from './waiting.ts'

const repository = fileURLToPath(new URL('../../..', import.meta.url))
const script = join(repository, 'test/support/systemd-lab.sh')

/** After that a lab ends itself, in seconds: whoever started it may be stopped or hang. */
const longestLife = 600

/** Whatever is in that of the test: `node` is the one that runs it. */
const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

function whyNot(): string | false {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'only root can start a systemd of its own'
  if (!existsSync('/lib/systemd/systemd')) return 'there is no /lib/systemd/systemd to start'
  const { status, stderr } = spawnSync('bash', [script, 'check'], { encoding: 'utf8' })
  return status !== 0 && `no machine of its own can be made here: ${stderr.trim().split('\n').at(-1)}`
}

/** For a test that starts one: skipped, with the reason, where that is not possible. */
export const underSystemd = { skip: whyNot() }

/** The same for one that takes long, which `npm run test:host` runs. */
export const underSystemdOnHost = { skip: underSystemd.skip || onlyOnHost.skip }

/** Whose shell it is: root's, or that of the user `lab`, who has a manager of their own. */
type User = { readonly user?: 'lab' }

/** `longest`: time for the commands, in milliseconds. */
type How = User & { readonly longest?: number }

export class SystemdLab {
  /** What both sides see: `/lab` inside. */
  readonly folder: string
  readonly #process: ChildProcess
  readonly #commands = new Set<ChildProcess>()

  private constructor(folder: string) {
    this.folder = folder
    const log = openSync(this.#path('log'), 'w')
    const life = ['timeout', '--foreground', '--kill-after=10', String(longestLife)]
    this.#process = spawn(
      'setpriv',
      ['--pdeathsig', 'TERM', ...life, 'bash', script, 'run', folder, repository, process.execPath],
      { stdio: ['ignore', log, log] },
    )
    closeSync(log)
  }

  static async boot(): Promise<SystemdLab> {
    const lab = new SystemdLab(mkdtempSync(join(process.env.COOK_TEST_TMP ?? tmpdir(), 'cook-')))
    try {
      await lab.#untilBooted()
    } catch (error) {
      await lab[Symbol.asyncDispose]()
      throw error
    }
    return lab
  }

  /** As by hand: units that are enabled come back, and nothing of /run and /tmp. */
  async reboot(): Promise<void> {
    rmSync(this.#path('booted'))
    // What runs the command may go down before it.
    await this.runs('systemctl start reboot.target')
    await this.#untilBooted()
  }

  /** Writes a file of the machine. */
  async writes(file: string, content: string): Promise<void> {
    mkdirSync(this.#path('in'), { recursive: true })
    writeFileSync(this.#path('in/file'), content)
    await this.does(`install -D -m 0644 /lab/in/file ${file}`)
  }

  /** Runs commands of bash in `/`, and waits for their end. */
  async runs(commands: string, { user, longest = 120_000 }: How = {}): Promise<Ended> {
    const child = this.#begins(commands, user)
    const [stdout, stderr] = [text(child.stdout as NodeJS.ReadableStream), text(child.stderr as NodeJS.ReadableStream)]
    const [code] = await within(`the end of ${commands}`, once(child, 'close'), longest)
    return { code, stdout: await stdout, stderr: await stderr }
  }

  /** The same, and expects that it is done. */
  async does(commands: string, how: How = {}): Promise<string> {
    const { code, stdout, stderr } = await this.runs(commands, how)
    if (code === 0) return stdout
    throw new Error(`${commands} ended with ${code}: ${stdout}${stderr}${(await this.runs('journalctl -n 30')).stdout}`)
  }

  /** One property of a unit, as `systemctl show` has it. */
  async shows(unit: string, property: string): Promise<string> {
    return (await this.does(`systemctl show --value --property=${property} ${unit}`)).trim()
  }

  #begins(commands: string, user: User['user']): ChildProcess {
    const home = user === undefined ? '/root' : `/home/${user}`
    const environment = ['env', '-i', `PATH=${path}`, `HOME=${home}`, 'LANG=C.UTF-8']
    const asUser =
      user === undefined
        ? []
        : [`USER=${user}`, 'XDG_RUNTIME_DIR=/run/user/7100', 'setpriv', '--reuid=lab', '--regid=lab', '--init-groups']
    const inside = ['--mount', '--uts', '--ipc', '--net', '--pid', '--cgroup']
    const child = spawn(
      'nsenter',
      ['--target', this.#pid(), ...inside, ...environment, ...asUser, 'bash', '-c', commands],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
    this.#commands.add(child)
    child.once('close', () => this.#commands.delete(child))
    return child
  }

  #pid(): string {
    return readFileSync(this.#path('pid'), 'utf8').trim()
  }

  #path(name: string): string {
    return join(this.folder, name)
  }

  async #untilBooted(): Promise<void> {
    await eventually('the boot of systemd', () => {
      const { exitCode } = this.#process
      if (exitCode !== null)
        throw new Error(`the lab ended with ${exitCode}: ${readFileSync(this.#path('log'), 'utf8')}`)
      return existsSync(this.#path('booted')) || undefined
    })
  }

  /** All that runs inside ends with its pid 1. */
  async [Symbol.asyncDispose](): Promise<void> {
    const commands = [...this.#commands].map((child) => once(child, 'close'))
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      this.#process.kill('SIGTERM')
      await within('the end of the lab', once(this.#process, 'exit'))
    }
    await Promise.all(commands)
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** Where the package is inside, as `npm install` would have put it into a project in `folder`. */
export async function install(lab: SystemdLab, folder: string, who: User = {}): Promise<void> {
  await lab.does(
    `mkdir -p ${folder}/node_modules/.bin && cd ${folder}/node_modules && ln -sfn /srv/cook-daemon cook-daemon &&
     ln -sfn ../cook-daemon/dist/bin/cook-daemon.js .bin/cook-daemon`,
    who,
  )
}
