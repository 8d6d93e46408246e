/**
 * Containers of a real engine, with storage and state in a folder of their own: nothing of the
 * machine's own podman is seen or changed, and nothing is left.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { Status } from '../../src/control/status.ts'
import type { Ended } from './command.ts'
import { onlyOnHost } from './extent.ts'
import { eventually, within } from './waiting.ts'

export const repository = fileURLToPath(new URL('../../..', import.meta.url))

/** It works without cgroup v2 and where limits cannot be raised, as in another container. */
const configuration = `[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
`

function whyNot(): string | false {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'only root can start containers here'
  for (const program of ['podman', 'runc', 'catatonit']) {
    if (spawnSync(program, ['--version']).error !== undefined) return `there is no ${program} to start containers with`
  }
  return false
}

/** For a test that starts one: skipped, with the reason, where that is not possible. */
export const inContainers = { skip: whyNot() }

/** With Docker's compose too: it asks podman as if that were Docker. */
export const inCompose = {
  skip:
    inContainers.skip ||
    onlyOnHost.skip ||
    (spawnSync('docker-compose', ['version']).error !== undefined && 'there is no docker-compose'),
}

/** The same for one that takes long, which `npm run test:host` runs. */
export const inContainersOnHost = { skip: inContainers.skip || onlyOnHost.skip }

/** Where the programs of tests find what they import, in a container as here. */
const fixtures = '/srv/fixtures/dist/test/fixtures'

export class Podman {
  readonly folder: string
  readonly #global: readonly string[]
  readonly #env: NodeJS.ProcessEnv

  private constructor(folder: string) {
    this.folder = folder
    mkdirSync(this.path('t'))
    writeFileSync(this.path('containers.conf'), configuration)
    this.#global = ['--root', this.path('s'), '--runroot', this.path('r'), '--tmpdir', this.path('t')]
    const { COOK_DAEMON_HOME: _, ...env } = process.env
    this.#env = { ...env, CONTAINERS_CONF: this.path('containers.conf'), TMPDIR: this.path('t') }
  }

  /** With a root folder that has Node, a shell and npm's command, and no cook-daemon. */
  static async open(): Promise<Podman> {
    // Its sockets have long paths below it, and the engine refuses a long one.
    const podman = new Podman(mkdtempSync(join(process.env.COOK_TEST_TMP ?? tmpdir(), 'p-')))
    makeRoot(podman.root)
    return podman
  }

  path(...names: readonly string[]): string {
    return join(this.folder, ...names)
  }

  get root(): string {
    return this.path('root')
  }

  async runs(args: readonly string[], ms = 60_000): Promise<Ended> {
    const child = spawn('podman', [...this.#global, ...args], {
      env: this.#env,
      cwd: this.folder,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const [stdout, stderr] = [text(child.stdout), text(child.stderr)]
    const [code] = await within(`the end of podman ${args.join(' ')}`, once(child, 'close'), ms)
    return { code, stdout: await stdout, stderr: await stderr }
  }

  /** The same, and expects that it is done. */
  async does(args: readonly string[], ms?: number): Promise<string> {
    const { code, stdout, stderr } = await this.runs(args, ms)
    if (code !== 0) throw new Error(`podman ${args.join(' ')} ended with ${code}: ${stdout}${stderr}`)
    return stdout
  }

  /** The engine as Docker's programs find it; with the environment that names it. */
  serves(): { readonly env: NodeJS.ProcessEnv } & AsyncDisposable {
    const socket = `unix://${this.path('docker.sock')}`
    const child = spawn('podman', [...this.#global, 'system', 'service', '--time', '0', socket], {
      env: this.#env,
      cwd: this.folder,
      stdio: 'ignore',
    })
    const ended = once(child, 'close')
    return {
      env: { ...this.#env, DOCKER_HOST: socket },
      async [Symbol.asyncDispose]() {
        child.kill('SIGTERM')
        await within('the end of the service of the engine', ended)
      },
    }
  }

  /** Runs `cook-daemon` in a container, as an operator does it. */
  cook(container: string, ...words: readonly string[]): Promise<Ended> {
    return this.runs(['exec', container, 'cook-daemon', ...words], 120_000)
  }

  async status(container: string): Promise<Status> {
    return JSON.parse(await this.does(['exec', container, 'cook-daemon', 'status', '--json'])) as Status
  }

  /** Everything that was written to its stdout and stderr. */
  async logs(container: string): Promise<string> {
    const { stdout, stderr } = await this.runs(['logs', container])
    return stdout + stderr
  }

  async shows(container: string, format: string): Promise<string> {
    return (await this.does(['inspect', container, '--format', format])).trim()
  }

  /** An image of the root folder, without a registry. */
  async imports(name: string): Promise<void> {
    const file = this.path('root.tar')
    const { status, stderr } = spawnSync('tar', ['--create', '--file', file, '--directory', this.root, '.'])
    if (status !== 0) throw new Error(`no image was made: ${stderr}`)
    await this.does(['import', file, name], 120_000)
    rmSync(file)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.runs(['pod', 'rm', '--all', '--force', '--time', '0'])
    const remove = () => this.runs(['rm', '--all', '--force', '--time', '0'])
    const first = await remove()
    // One on which another depends stays for the second time.
    const { code, stderr } = first.code === 0 ? first : await remove()
    try {
      if (code !== 0) throw new Error(`containers are left: ${stderr}`)
      // The end of a container is followed by a process that mounts what is here once more.
      await eventually('the last of the engine', () => this.#processes().length === 0 || undefined)
    } finally {
      this.#remove()
    }
  }

  #remove(): void {
    const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n')
    const below = mounts.map((line) => line.split(' ')[1] ?? '').filter((at) => at.startsWith(`${this.folder}/`))
    // The inner ones come later.
    for (const mount of below.reverse()) spawnSync('umount', ['--lazy', mount])
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** Those of the engine that name a folder of this test. */
  #processes(): string[] {
    return readdirSync('/proc').filter((pid) => {
      try {
        return Number(pid) > 0 && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${this.folder}/s\0`)
      } catch {
        // It is gone.
        return false
      }
    })
  }
}

/** What an image of Node has, as far as tests need it. */
function makeRoot(root: string): void {
  for (const folder of ['usr/bin', 'bin', 'etc', 'home/node', 'tmp', 'run', 'proc', 'sys', 'dev', 'srv/web']) {
    mkdirSync(join(root, folder), { recursive: true })
  }
  chmodSync(join(root, 'tmp'), 0o1777)
  const programs = [[process.execPath, '/usr/bin/node'], ['/bin/sh'], ['/usr/bin/env']] as const
  for (const [from, to = from] of programs) {
    put(root, from, to)
    const { stdout } = spawnSync('ldd', [from], { encoding: 'utf8' })
    for (const [library] of stdout.matchAll(/\/\S+/g)) put(root, library)
  }
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\nnode:x:1000:1000::/home/node:/bin/sh\n')
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnode:x:1000:\n')
  cpSync(join(repository, 'dist/test/support/load'), join(root, fixtures, '../support/load'), { recursive: true })
  mkdirSync(join(root, fixtures))
  copyFileSync(
    join(repository, 'dist/test/fixtures/load-server-handler.js'),
    join(root, fixtures, 'load-server-handler.js'),
  )
  writeFileSync(join(root, fixtures, '../../package.json'), '{"type":"module"}')
}

function put(root: string, from: string, to = from): void {
  const target = join(root, to)
  if (existsSync(target)) return
  mkdirSync(dirname(target), { recursive: true })
  copyFileSync(realpathSync(from), target)
}

/** As `npm ci` puts it into the folder of a program; the command is found by its name. */
export function installIn(root: string, folder = 'srv/web'): void {
  const modules = join(root, folder, 'node_modules')
  for (const part of ['package.json', 'dist/bin', 'dist/bundle']) {
    cpSync(join(repository, part), join(modules, 'cook-daemon', part), { recursive: true })
  }
  mkdirSync(join(modules, '.bin'))
  symlinkSync('../cook-daemon/dist/bin/cook-daemon.js', join(modules, '.bin/cook-daemon'))
}

/** Answers the load, and /slow in two parts: who has the first one is being answered. */
export function program(version: string, port: number | string, before = ''): string {
  return `import { createServer } from 'node:http'
import { loadHandler } from '${fixtures}/load-server-handler.js'
${before}
const load = loadHandler('${version}')
const server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
  if (request.url !== '/slow') return load(request, response)
  response.write('slow ')
  setTimeout(() => response.end('${version}'), 3_000)
})
server.listen(${port}, '127.0.0.1', () => console.log('${version} serves'))
`
}

/** A folder of a program that depends on this package, and an image that has npm and the package. */
export function packIn(podman: Podman): string {
  const folder = podman.path('build/srv/web')
  mkdirSync(folder, { recursive: true })
  const npm = realpathSync(spawnSync('sh', ['-c', 'command -v npm'], { encoding: 'utf8' }).stdout.trim())
  const runs = (args: readonly string[], cwd: string) => {
    const { status, stderr } = spawnSync(process.execPath, [npm, ...args], { cwd, encoding: 'utf8' })
    if (status !== 0) throw new Error(`npm ${args.join(' ')}: ${stderr}`)
  }
  mkdirSync(podman.path('build/opt'))
  runs(['pack', '--ignore-scripts', '--pack-destination', podman.path('build/opt')], repository)
  const [file = ''] = readdirSync(podman.path('build/opt'))
  const dependencies = { 'cook-daemon': `file:../../opt/${file}` }
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module', private: true, dependencies }))
  runs(['install', '--package-lock-only', '--ignore-scripts', '--offline'], folder)
  cpSync(podman.path('build/opt'), join(podman.root, 'opt'), { recursive: true })
  cpSync(join(dirname(npm), '..'), join(podman.root, 'usr/lib/npm'), { recursive: true })
  symlinkSync('../lib/npm/bin/npm-cli.js', join(podman.root, 'usr/bin/npm'))
  return folder
}
