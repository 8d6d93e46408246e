/**
 * Writes the JSON schema of a configuration from the table of its fields; with `--check` only says
 * whether it is up to date.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { configSchema } from '../src/config/schema.ts'

const file = new URL('../../schema/cook.config.json', import.meta.url)
const wanted = `${JSON.stringify(configSchema(), undefined, 2)}\n`

if (!process.argv.includes('--check')) {
  mkdirSync(new URL('.', file), { recursive: true })
  writeFileSync(file, wanted)
} else if (!existsSync(file) || readFileSync(file, 'utf8') !== wanted) {
  process.stdout.write('schema/cook.config.json does not say what src/config/fields.ts says: npm run docs\n')
  process.exitCode = 1
}
