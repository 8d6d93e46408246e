/** A certificate for 127.0.0.1 that nobody signed, made for one test. */
import { spawnSync } from 'node:child_process'
import type { Lab } from './lab.ts'

/** Writes `key.pem` and `cert.pem` into the folder of the lab, where its processes run. */
export function makeCertificate(lab: Lab): void {
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const files = ['-keyout', lab.path('key.pem'), '-out', lab.path('cert.pem')]
  const { status, stderr } = spawnSync('openssl', [
    'req',
    '-x509',
    ...curve,
    ...files,
    '-days',
    '2',
    '-subj',
    '/CN=test',
  ])
  if (status !== 0) throw new Error(`openssl: ${stderr}`)
}
