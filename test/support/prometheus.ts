/** Debian's Prometheus, with its configuration, data and port in the folder of a test. */
import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { promisify } from 'node:util'
import { onlyOnHost } from './extent.ts'
import { freePort } from './free-port.ts'
import type { Lab } from './lab.ts'
import { eventually } from './waiting.ts'

const binary = '/usr/bin/prometheus'
const promtoolBinary = '/usr/bin/promtool'

const whyNot = !existsSync(binary) && "needs Debian's prometheus, which npm run test:host installs as root"

/** For a test that needs it. */
export const withPrometheus = { skip: onlyOnHost.skip || whyNot }

export type Target = { readonly service: string; readonly port: number }

type Options = {
  readonly targets: readonly Target[]
  readonly rules: string
}

/** Of a scrape, which may not take longer either: on a busy machine it needs more than 200 ms. */
const interval = '1s'

/** So often a second each service is scraped by another job besides, at other moments. */
const more = 4

type Labels = Readonly<Record<string, string>>
type Sample = readonly [seconds: number, value: string]
type Answer = { readonly status: string; readonly error?: string; readonly data: unknown }

/** Its checks of files. */
export async function promtool(args: readonly string[], cwd: string): Promise<string> {
  const { stdout } = await promisify(execFile)(promtoolBinary, args, { cwd })
  return stdout
}

export class Prometheus {
  readonly #child: ChildProcess
  readonly #url: string

  private constructor(child: ChildProcess, url: string) {
    this.#child = child
    this.#url = url
  }

  static async start(lab: Lab, { targets, rules }: Options): Promise<Prometheus> {
    const port = await freePort()
    const scraped = (labels: Labels) =>
      targets.map(({ service, port: at }) => ({ targets: [`127.0.0.1:${at}`], labels: { ...labels, service } }))
    const probes = Array.from({ length: more }, (_, probe) => scraped({ probe: String(probe) })).flat()
    const configuration = {
      global: { scrape_interval: interval, scrape_timeout: interval, evaluation_interval: '1s' },
      rule_files: [rules],
      scrape_configs: [
        { job_name: 'cook-daemon', static_configs: scraped({}) },
        { job_name: 'closely', static_configs: probes },
      ],
    }
    const file = lab.path('prometheus.yml')
    // JSON is YAML.
    writeFileSync(file, JSON.stringify(configuration))
    const log = openSync(lab.path('prometheus.log'), 'a')
    const child = spawn(
      binary,
      [
        ...[`--config.file=${file}`, `--storage.tsdb.path=${lab.path('prometheus')}`],
        ...[`--web.listen-address=127.0.0.1:${port}`, '--query.lookback-delta=1m'],
      ],
      { stdio: ['ignore', log, log], cwd: lab.folder },
    )
    closeSync(log)
    const prometheus = new Prometheus(child, `http://127.0.0.1:${port}`)
    try {
      await eventually(
        () => `Prometheus: ${readFileSync(lab.path('prometheus.log'), 'utf8').slice(-2_000)}`,
        async () => (await fetch(`${prometheus.#url}/-/ready`).catch(() => undefined))?.ok || undefined,
      )
      return prometheus
    } catch (error) {
      await prometheus[Symbol.asyncDispose]()
      throw error
    }
  }

  async asks(path: string, words: Labels = {}): Promise<unknown> {
    const response = await fetch(`${this.#url}/api/v1/${path}?${new URLSearchParams(words)}`)
    const { status, error, data } = (await response.json()) as Answer
    assert.equal(status, 'success', `${words.query}: ${error}`)
    return data
  }

  /** The value of an expression now, for each series. */
  async values(query: string): Promise<{ readonly metric: Labels; readonly value: number }[]> {
    const { result } = (await this.asks('query', { query })) as { result: { metric: Labels; value: Sample }[] }
    return result.map(({ metric, value: [, text] }) => ({ metric, value: Number(text) }))
  }

  /** How often it was to scrape, all targets together. */
  async scrapes(): Promise<number> {
    const text = await (await fetch(`${this.#url}/metrics`)).text()
    const name = 'prometheus_target_interval_length_seconds_count'
    return Number(new RegExp(`^${name}{interval="${interval}"} (\\d+)$`, 'm').exec(text)?.[1])
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return
    const ended = once(this.#child, 'exit')
    this.#child.kill('SIGKILL')
    await ended
  }
}
