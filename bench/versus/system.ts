/**
 * What a system of the comparison is: something that starts the service, and replaces it by the
 * version on disk.
 */
import type { Identity } from '../../src/contract/environment.ts'
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
  /** What the operator does, from its start to its end; the old process may outlive it. */
  upgrade(old: Identity): Promise<void> | void
  /** Ends the service in the system's own way; what is left is ended without it. */
  end(): Promise<void> | void
}
