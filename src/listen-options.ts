/** Where a server of a daemon listens: the options. */

/** Where a server of a daemon listens: on a port, or on a Unix path. */
export type ListenOptions = ListenNaming & (PortOptions | PathOptions)

/** The name of a listener, and its queue. */
export type ListenNaming = {
  /**
   * Name of the listener, for reports and for the next version.
   * @default its address, for example `tcp:*:8080` or `unix:/run/app.sock`
   */
  readonly name?: string
  /**
   * Length of the queue of connections that wait to be accepted; upgrades keep it.
   * @default 511
   */
  readonly backlog?: number
}

/** A listener on a TCP port. */
export type PortOptions = {
  /** TCP port; 0: any free port. */
  readonly port: number
  /** Address for `port`. @default all, IPv6 and IPv4 */
  readonly host?: string
  /** Not with a port. */
  readonly path?: never
  /** Not with a port. */
  readonly mode?: never
}

/** A listener on a Unix path. */
export type PathOptions = {
  /** Unix path instead of a port. */
  readonly path: string
  /** File mode of `path`, for example `0o660`. @default 0o777 without the umask */
  readonly mode?: number
  /** Not with a path. */
  readonly port?: never
  /** Not with a path. */
  readonly host?: never
}
