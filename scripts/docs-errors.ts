/**
 * Writes docs/errors.md from the table of errors; with `--check` only says whether the page is up
 * to date.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { errorTexts } from '../src/error-texts.ts'

const page = new URL('../../docs/errors.md', import.meta.url)

const intro = `# Errors

<!-- Generated from src/error-texts.ts by \`npm run docs\`; change it there. -->

Everything that this library throws or rejects with is a \`CookError\`. Match on its \`code\`: codes stay, texts may change.
Its \`message\` says what failed, why, and who serves now; its \`help\` what to do about it; its \`values\` hold, by name, what stands
in the text in braces.
`

const entries = Object.entries(errorTexts).map(([code, { text, help }]) => `## ${code}\n\n> ${text}\n\n${help}\n`)
const wanted = [intro, ...entries].join('\n')

if (!process.argv.includes('--check')) {
  writeFileSync(page, wanted)
} else if (readPage() !== wanted) {
  process.stdout.write('docs/errors.md does not say what src/error-texts.ts says: npm run docs\n')
  process.exitCode = 1
}

function readPage(): string | undefined {
  try {
    return readFileSync(page, 'utf8')
  } catch {
    // A page that is not there is as stale as an old one.
    return undefined
  }
}
