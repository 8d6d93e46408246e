/**
 * The bytes that clients and servers of the load exchange: both sides know them, so that every one
 * of them can be checked.
 */
import { crc32 } from 'node:zlib'
import { randomFrom } from './random.ts'

/** Size of the biggest answer and of the biggest request body, in bytes. */
export const megabyte = 1024 * 1024
/** Two answers of one size begin at different places of the same bytes. */
export const places = 64 * 1024

const all = Buffer.allocUnsafeSlow(megabyte + places)
const random = randomFrom(1)
for (let offset = 0; offset < all.length; offset += 4) all.writeUInt32LE(random(0, 0xffff_ffff), offset)

/** `size` bytes from a place on. Shared by all: not to be written to. */
export function bytesFrom(place: number, size: number): Buffer {
  return all.subarray(place, place + size)
}

/** What the server answers to a request body. */
export function receipt(size: number, checksum: number): string {
  return `${size} ${checksum.toString(16)}`
}

export { crc32 }
