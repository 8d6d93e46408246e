/**
 * What a system of the comparison is: something that starts the service, in one process or in
 * several, and replaces it by the version on disk.
 */
import type { Identity } from '../../src/contract/environment.ts'
import { system as os } from '../../src/node/system.ts'
import type { Site } from './site.ts'

export type System = {
  readonly name: string
  readonly title: string
  /** How it is set up and upgraded, in a sentence or two. */
  readonly setup: string
  /** The documentation that was followed. */
  readonly documentation: string
  /** Its version, or why it cannot be measured here. May install it. */
  look(): Promise<Availability> | Availability
  /** Starts it; it need not serve yet. */
  start(site: Site): Promise<Service> | Service
}

export type Availability = { readonly version: string } | { readonly missing: string }

export type Service = {
  /**
   * What the operator does, from its start to its end; the old processes, which serve until then,
   * may outlive it.
   */
  upgrade(old: readonly Identity[]): Promise<void> | void
  /** Ends the service in the system's own way; what is left is ended without it. */
  end(serving: readonly Identity[]): Promise<void> | void
}

export function signal(processes: readonly Identity[], name: NodeJS.Signals): void {
  for (const one of processes) os.kill(one, name)
}

/** As a sentence has it. */
export function number(count: number, one: string): string {
  return count === 1 ? `one ${one}` : `${count} ${one}${one.endsWith('s') ? 'es' : 's'}`
}
