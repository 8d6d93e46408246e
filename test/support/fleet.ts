/**
 * Three hosts with an sshd each, Debian's Ansible with the files of examples/fleet, and HAProxy
 * before them. All of it ends with this process, whichever way that ends.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  closeSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { Status } from '../../src/control/status.ts'
import { onlyOnHost } from './extent.ts'
import { freePort } from './free-port.ts'
import { installIn } from './podman.ts'
import { eventually, within } from './waiting.ts'

const repository = fileURLToPath(new URL('../../..', import.meta.url))
const script = join(repository, 'test/support/fleet-host.sh')
const handler = join(repository, 'dist/test/fixtures/load-server-handler.js')

/** Whatever is in that of the test: `node` is the one that runs it. */
const path = `${dirname(process.execPath)}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`

const separated = ['--net', '--mount', '--pid', '--uts', '--ipc', '--fork', '--kill-child', '--mount-proc']

function whyNot(): string | false {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'only root can make hosts of its own'
  for (const program of ['ansible-playbook', 'haproxy', 'sshd', 'ip']) {
    if (spawnSync('sh', ['-c', `command -v ${program}`], { env: { PATH: path } }).status !== 0) {
      return `there is no ${program}, which npm run test:host installs as root`
    }
  }
  const probe = 'mount -t tmpfs none /srv && ip link add cook-a type veth peer name cook-b'
  const { status, stderr } = spawnSync('unshare', [...separated, 'sh', '-ec', probe], { encoding: 'utf8' })
  return status !== 0 && `no hosts can be made here: ${stderr.trim().split('\n').at(-1)}`
}

/** For a test that needs it. */
export const withFleet = { skip: onlyOnHost.skip || whyNot() }

/** A run of Ansible, on a machine without a core to spare, in milliseconds. */
export const longestPlay = 600_000

/** Benchmarking of networks has these addresses (RFC 2544): nobody is there. */
const subnet = `198.18.${process.pid % 256}`

/** Commands come over the one, requests over the other. */
const links = ['ssh', 'web'] as const
type Link = (typeof links)[number]

export class Host {
  readonly name: string
  readonly #index: number
  /** unshare(1), which has the network of the host; its one child is pid 1 there. */
  readonly #process: ChildProcess

  constructor(index: number, folder: string) {
    this.name = `web${index + 1}`
    this.#index = index
    const log = openSync(join(folder, `${this.name}.log`), 'a')
    const command = ['unshare', ...separated, 'bash', script, this.name, join(folder, 'sshd_config')]
    this.#process = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], { stdio: ['ignore', log, log] })
    closeSync(log)
  }

  address(link: Link): string {
    return `${subnet}.${this.#base(link) + 2}`
  }

  async connects(): Promise<void> {
    // setpriv and unshare are one process, which has another network from some moment on.
    const own = readlinkSync('/proc/self/ns/net')
    const pid = `${this.#process.pid}`
    await eventually(`the network of ${this.name}`, () => readlinkSync(`/proc/${pid}/ns/net`) !== own || undefined)
    for (const link of links) {
      runsHere('ip', 'link', 'add', this.#device(link), 'type', 'veth', 'peer', 'name', link, 'netns', pid)
      const inside = [`--net=/proc/${pid}/ns/net`, 'ip']
      runsHere('nsenter', ...inside, 'address', 'add', `${this.address(link)}/30`, 'dev', link)
      runsHere('nsenter', ...inside, 'link', 'set', link, 'up')
      runsHere('ip', 'address', 'add', `${subnet}.${this.#base(link) + 1}/30`, 'dev', this.#device(link))
      runsHere('ip', 'link', 'set', this.#device(link), 'up')
    }
    await eventually(`sshd of ${this.name}`, () => isOpen(this.address('ssh'), 22))
  }

  /** Its packets are lost from now on, in both directions. */
  cut(link: Link): void {
    runsHere('ip', 'link', 'set', this.#device(link), 'down')
  }

  heal(link: Link): void {
    runsHere('ip', 'link', 'set', this.#device(link), 'up')
  }

  /** Where current leads; undefined: there is none. */
  get current(): string | undefined {
    try {
      return readlinkSync(this.#path('srv/web/current'))
    } catch {
      return undefined
    }
  }

  get releases(): string[] {
    return readdirSync(this.#path('srv/web/releases')).sort()
  }

  /** One that was deployed a day ago. */
  addRelease(version: string): void {
    const folder = this.#path(`srv/web/releases/${version}`)
    mkdirSync(folder)
    const then = Date.now() / 1000 - 86_400
    utimesSync(folder, then, then)
  }

  async status(): Promise<Status> {
    const command = '/srv/web/current/node_modules/.bin/cook-daemon status web --json'
    const inside = ['--target', this.#pid1(), '--net', '--mount', '--pid', '--uts', '--ipc']
    const child = spawn('nsenter', [...inside, 'env', '-i', `PATH=${path}`, 'sh', '-c', command])
    const [status] = await Promise.all([text(child.stdout), once(child, 'close')])
    return JSON.parse(status) as Status
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process.exitCode === null && this.#process.signalCode === null) {
      const ended = once(this.#process, 'exit')
      // With its pid 1 the kernel ends all of it, and unshare waits for that.
      const pid1 = Number(this.#pid1())
      if (pid1 > 1) process.kill(pid1, 'SIGKILL')
      else this.#process.kill('SIGKILL')
      await within(`the end of ${this.name}`, ended)
    }
    // They go with the network of the host, but not at once.
    for (const link of links) spawnSync('ip', ['link', 'delete', this.#device(link)])
  }

  #path(file: string): string {
    return `/proc/${this.#pid1()}/root/${file}`
  }

  #pid1(): string {
    const { pid } = this.#process
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim()
  }

  #device(link: Link): string {
    return `ck${process.pid}${link}${this.#index}`
  }

  #base(link: Link): number {
    return (this.#index * links.length + links.indexOf(link)) * 4
  }
}

export type Played = { readonly code: number | null; readonly output: string }

export class Fleet {
  readonly hosts: readonly Host[]
  readonly #folder: string
  readonly #children = new Set<ChildProcess>()
  /** Every command that was typed. */
  readonly typed: string[] = []

  private constructor(folder: string) {
    this.#folder = folder
    for (const key of ['host', 'own']) runsHere('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', this.#path(key))
    writeFileSync(
      this.#path('sshd_config'),
      `HostKey ${this.#path('host')}\nAuthorizedKeysFile ${this.#path('own.pub')}\nStrictModes no\nPidFile none
UsePAM no\nSubsystem sftp internal-sftp\nSetEnv PATH=${path}\n`,
    )
    this.hosts = [0, 1, 2].map((index) => new Host(index, folder))
  }

  static async open(): Promise<Fleet> {
    const fleet = new Fleet(mkdtempSync(join(process.env.COOK_TEST_TMP ?? tmpdir(), 'cook-')))
    try {
      for (const host of fleet.hosts) await host.connects()
      copyExample(fleet.#path('fleet'))
      const ssh = `-o UserKnownHostsFile=${fleet.#path('known')} -o StrictHostKeyChecking=accept-new`
      fleet.#adapts(
        'inventory.ini',
        'ssh',
        (inventory) => `${inventory}
ansible_ssh_private_key_file=${fleet.#path('own')}
ansible_ssh_common_args=${ssh}
ansible_remote_tmp=/run/ansible
`,
      )
    } catch (error) {
      await fleet[Symbol.asyncDispose]()
      throw error
    }
    return fleet
  }

  /** Builds a release as the page does it. */
  async builds(version: string, before = ''): Promise<void> {
    writeBuild(this.#path('fleet'), program(version, before))
    await this.does(`tar -czf releases/web-${version}.tar.gz -C dist .`)
  }

  /** Types a command in the folder of the playbook. */
  async types(line: string): Promise<Played> {
    this.typed.push(line)
    const env = { PATH: path, LC_ALL: 'C.UTF-8', HOME: this.#folder, ANSIBLE_NOCOLOR: '1' }
    // A file: the connections that ssh keeps for the next command hold a pipe open.
    const output = this.#path('output')
    const child = this.#starts('sh', ['-c', `exec ${line}`], env, output)
    const ended = within(`the end of ${line}`, once(child, 'exit'), longestPlay)
    const [code] = await ended.catch((error: Error) => {
      throw new Error(`${error.message}, which has said: ${readFileSync(output, 'utf8')}`)
    })
    return { code, output: readFileSync(output, 'utf8') }
  }

  async does(line: string): Promise<string> {
    const { code, output } = await this.types(line)
    if (code !== 0) throw new Error(`${line} ended with ${code}: ${output}`)
    return output
  }

  /** HAProxy with the example's configuration; gives its port. */
  async balances(): Promise<number> {
    const port = await freePort()
    this.#adapts('haproxy.cfg', 'web', (configuration) => configuration.replace('bind :80', `bind 127.0.0.1:${port}`))
    const output = this.#path('haproxy.log')
    this.#starts('haproxy', ['-db', '-f', 'haproxy.cfg'], { PATH: path }, output)
    const isUp = () => isOpen('127.0.0.1', port)
    await eventually(() => `HAProxy: ${readFileSync(output, 'utf8')}`, isUp)
    return port
  }

  #starts(command: string, args: readonly string[], env: NodeJS.ProcessEnv, output: string): ChildProcess {
    const log = openSync(output, 'w')
    const mark = { COOK_TEST_RUN: process.env.COOK_TEST_RUN ?? '' }
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', command, ...args], {
      cwd: this.#path('fleet'),
      env: { ...env, ...mark },
      stdio: ['ignore', log, log],
    })
    closeSync(log)
    this.#children.add(child)
    child.once('exit', () => this.#children.delete(child))
    return child
  }

  /** The example's file, with the addresses of the hosts here. */
  #adapts(name: string, link: Link, change: (content: string) => string): void {
    const file = this.#path('fleet', name)
    let content = readFileSync(file, 'utf8')
    for (const [index, host] of this.hosts.entries()) {
      content = content.replaceAll(`10.0.0.${11 + index}`, host.address(link))
    }
    writeFileSync(file, change(content))
  }

  #path(...names: readonly string[]): string {
    return join(this.#folder, ...names)
  }

  /** Those that ssh keeps open for the next task, each in a process of its own. */
  #keptConnections(): string[] {
    const folder = this.#path('.ansible/cp')
    return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : []
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const ended = [...this.#children].map((child) => once(child, 'exit'))
    // As ^C: Ansible ends its own processes too.
    for (const child of this.#children) child.kill('SIGINT')
    await within('the end of Ansible and HAProxy', Promise.all(ended))
    for (const socket of this.#keptConnections())
      spawnSync('ssh', ['-O', 'exit', '-o', `ControlPath=${socket}`, 'host'])
    await Promise.all(this.hosts.map((host) => host[Symbol.asyncDispose]()))
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** What a user copies. */
export function copyExample(folder: string): void {
  cpSync(join(repository, 'examples/fleet'), folder, { recursive: true })
  mkdirSync(join(folder, 'releases'))
}

/** A program, with this package in its node_modules, in the folder dist beside the playbook. */
export function writeBuild(folder: string, code: string): void {
  const build = join(folder, 'dist')
  rmSync(build, { recursive: true, force: true })
  mkdirSync(build)
  installIn(build, '.')
  writeFileSync(join(build, 'package.json'), '{"type":"module"}')
  writeFileSync(join(build, 'app.js'), code)
}

/** Says in each answer which version it is, and of which host; `ill` starts, and is not healthy. */
function program(version: string, before: string): string {
  return `import { createServer } from 'node:http'
import { hostname } from 'node:os'
import { loadHandler } from '${handler}'
${before}
// Longer than a balancer keeps its own.
const answers = loadHandler('${version} ' + hostname())
createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  if (request.url !== '/health') return answers(request, response)
  response.writeHead(${version === 'ill' ? 500 : 200}).end()
}).listen(8080)
`
}

function runsHere(command: string, ...args: readonly string[]): void {
  const { status, stderr } = spawnSync(command, args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`)
}

function isOpen(host: string, port: number): Promise<true | undefined> {
  return new Promise((told) => {
    const socket = connect({ host, port })
    socket
      .once('connect', () => told(true))
      .once('error', () => told(undefined))
      .once('close', () => told(undefined))
    socket.once('connect', () => socket.destroy())
  })
}
