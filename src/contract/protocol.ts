/** The version of this contract, and with which others it can be spoken. */

/** Each side sends its own, and ignores what it does not know of the other's. */
export const protocolVersion = 1

/**
 * The oldest version that this library still speaks. Each side compares the other's with its own,
 * so the newer one decides. The words for a refusal never change: `protocol`, `nonce` and
 * `predecessor` in the link record, `hello`, `done` with a no, and `refused`.
 */
export const oldestProtocol: number = 1

/** Why the version at the other end cannot be spoken with; undefined if it can. */
export function tooOld(other: 'old' | 'new', protocol: number): string | undefined {
  if (protocol >= oldestProtocol) return undefined
  const spoken = oldestProtocol === protocolVersion ? `${protocolVersion}` : `${oldestProtocol} to ${protocolVersion}`
  const self = other === 'old' ? 'new' : 'old'
  return `the ${other} version speaks protocol ${protocol} of cook-daemon and the ${self} one ${spoken}: deploy a version between the two first, or stop the service and start it`
}
