/** Where the admin port is, as people type it: `[HOST:]PORT`. Pure. */

export type AdminAddress = { readonly host: string; readonly port: number }

/** Whoever is to reach it from elsewhere is to be named. */
const loopback = '127.0.0.1'

/** Undefined: it is no address. */
export function adminAddressOf(value: unknown): AdminAddress | undefined {
  const [, bracketed, plain, digits] = /^(?:(?:\[([^\]\s]+)\]|([^:\s]+)):)?(\d{1,5})$/.exec(String(value)) ?? []
  const port = Number(digits)
  if (digits === undefined || port > 65_535) return undefined
  return { host: bracketed ?? plain ?? loopback, port }
}

/** As people write an address with its port. */
export function addressText({ host, port }: AdminAddress): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
