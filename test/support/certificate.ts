/**
 * A certificate for localhost that nobody signed. It is in the repository, since not every machine
 * has a program that makes one.
 */
import { copyFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { Lab } from './lab.ts'

const folder = new URL('../../../test/fixtures/certificate/', import.meta.url)

export const certificateFiles = {
  key: fileURLToPath(new URL('key.pem', folder)),
  cert: fileURLToPath(new URL('cert.pem', folder)),
}

/** Puts `key.pem` and `cert.pem` into the folder of the lab, where its processes run. */
export function makeCertificate(lab: Lab): void {
  copyFileSync(certificateFiles.key, lab.path('key.pem'))
  copyFileSync(certificateFiles.cert, lab.path('cert.pem'))
}
