/**
 * A certificate for the examples: the files that TLS_KEY and TLS_CERT name, or a self-signed one by
 * the `openssl` program.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export function certificate(): { readonly key: Buffer; readonly cert: Buffer } {
  const { TLS_KEY, TLS_CERT } = process.env
  if (TLS_KEY !== undefined && TLS_CERT !== undefined) {
    return { key: readFileSync(TLS_KEY), cert: readFileSync(TLS_CERT) }
  }
  const folder = mkdtempSync(join(tmpdir(), 'certificate-'))
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
  try {
    const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    const name = ['-days', '1', '-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
    execFileSync('openssl', ['req', ...kind, ...name, '-keyout', key, '-out', cert], {
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    return { key: readFileSync(key), cert: readFileSync(cert) }
  } finally {
    rmSync(folder, { recursive: true })
  }
}
