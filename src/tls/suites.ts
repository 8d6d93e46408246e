/** The three cipher suites of TLS 1.3, and how keys come from a secret (RFC 8446, 7.1 and 7.3). */
import { createHmac, createSecretKey, getCiphers, getFips, type KeyObject } from 'node:crypto'

export type SuiteName = keyof typeof suites

export type Suite = {
  /** By which it goes in an encoded state: never another one for the same suite. */
  readonly id: number
  /** Of node:crypto. */
  readonly cipher: 'aes-128-gcm' | 'aes-256-gcm' | 'chacha20-poly1305'
  readonly keyLength: number
  readonly hash: 'sha256' | 'sha384'
  /** Bytes of a traffic secret. */
  readonly secretLength: number
}

// The CCM suites are not among those that OpenSSL offers by itself, and nobody has asked for them.
export const suites = {
  TLS_AES_128_GCM_SHA256: { id: 1, cipher: 'aes-128-gcm', keyLength: 16, hash: 'sha256', secretLength: 32 },
  TLS_AES_256_GCM_SHA384: { id: 2, cipher: 'aes-256-gcm', keyLength: 32, hash: 'sha384', secretLength: 48 },
  TLS_CHACHA20_POLY1305_SHA256: { id: 3, cipher: 'chacha20-poly1305', keyLength: 32, hash: 'sha256', secretLength: 32 },
} as const satisfies Record<string, Suite>

export function isSuiteName(name: unknown): name is SuiteName {
  return typeof name === 'string' && Object.hasOwn(suites, name)
}

/** Why no connection can be taken up in this process; undefined: it can. */
export function whyUnavailable(): string | undefined {
  // A nonce that is made outside of the module is not allowed there.
  if (getFips() !== 0) return 'node:crypto is in FIPS mode'
  missing ??= missingCiphers()
  return missing.length === 0 ? undefined : `node:crypto has no ${missing.join(' and no ')}`
}

/** Looked up once: the list has more than a hundred names. */
let missing: readonly string[] | undefined

function missingCiphers(): readonly string[] {
  const known = getCiphers()
  return Object.values(suites).flatMap(({ cipher }) => (known.includes(cipher) ? [] : [cipher]))
}

export const ivLength = 12

export function trafficKey(suite: Suite, secret: Buffer): KeyObject {
  const bytes = expandLabel(suite.hash, secret, 'key', suite.keyLength)
  const key = createSecretKey(bytes)
  bytes.fill(0)
  return key
}

export function trafficIv(suite: Suite, secret: Buffer): Buffer {
  return expandLabel(suite.hash, secret, 'iv', ivLength)
}

/** The secret behind a KeyUpdate. */
export function nextSecret(suite: Suite, secret: Buffer): Buffer {
  return expandLabel(suite.hash, secret, 'traffic upd', suite.secretLength)
}

/**
 * HKDF-Expand-Label with an empty context. What TLS asks for is never longer than one block, so
 * that HKDF-Expand (RFC 5869) is one HMAC.
 */
function expandLabel(hash: Suite['hash'], secret: Buffer, label: string, length: number): Buffer {
  const full = Buffer.from(`tls13 ${label}`, 'latin1')
  const info = Buffer.concat([Buffer.from([length >> 8, length & 0xff, full.length]), full, Buffer.from([0, 1])])
  const block = createHmac(hash, secret).update(info).digest()
  // Of its own, not of the pool that others see into.
  const expanded = Buffer.alloc(length)
  block.copy(expanded)
  block.fill(0)
  return expanded
}
