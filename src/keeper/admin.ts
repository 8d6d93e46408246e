/** The admin port of a service that is kept: one for all workers, and through all generations. */
import type { Server } from 'node:http'
import { adminAddressOf } from '../contract/admin-address.ts'
import { messageOf } from '../errors.ts'
import { adminServer, closeAdmin, openAdmin } from '../host/admin.ts'
import type { Keeper } from './keeper.ts'
import { say } from './log-lines.ts'
import { isReady, type KeeperStatus } from './status.ts'

/** How long until a port is tried again that another process has, in milliseconds. */
const pause = 1_000

export class KeeperAdmin {
  readonly #keeper: Keeper
  readonly #status: KeeperStatus
  #server: Server | undefined
  /** Where it is, or is to be. */
  #at: string | undefined
  #timer: NodeJS.Timeout | undefined
  #fault = ''

  constructor(keeper: Keeper, status: KeeperStatus) {
    this.#keeper = keeper
    this.#status = status
    keeper.hearing.add({ changed() {}, touched: () => void this.#follow() })
  }

  /** Rejects with `ERR_COOK_ADMIN`, before anything is started. */
  async open(): Promise<void> {
    await this.#moveTo(this.#keeper.said.admin)
  }

  /** Of a service that serves: it goes on without. */
  async #follow(): Promise<void> {
    const { admin } = this.#keeper.said
    if (admin === this.#at) return
    try {
      await this.#moveTo(admin)
      this.#fault = ''
    } catch (error) {
      const fault = messageOf(error)
      if (fault !== this.#fault) say(fault)
      this.#fault = fault
      this.#at = undefined
      clearTimeout(this.#timer)
      this.#timer = setTimeout(() => void this.#follow(), pause).unref()
    }
  }

  close(): void {
    clearTimeout(this.#timer)
    if (this.#server !== undefined) closeAdmin(this.#server)
  }

  async #moveTo(admin: string | undefined): Promise<void> {
    this.#at = admin
    const address = adminAddressOf(admin)
    const before = this.#server
    const keeper = this.#keeper
    if (address !== undefined) {
      const server = adminServer({
        isReady: () => isReady(keeper),
        status: () => this.#status.status(),
      })
      await openAdmin(server, address)
      this.#server = server
    }
    if (before !== undefined) closeAdmin(before)
  }
}
