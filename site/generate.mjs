/** Makes the pages that are written nowhere: the API from the doc comments, the examples from their sources, the home page's words from the README. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { exampleFiles, exampleName, root } from './pages.mjs'

const generated = join(root, 'site/generated')
rmSync(generated, { recursive: true, force: true })
mkdirSync(join(generated, 'examples'), { recursive: true })

// Each public name without a comment, and each broken link in one, is an error: see typedoc.json.
const typedoc = join(root, 'site/node_modules/typedoc/bin/typedoc')
const { status } = spawnSync(process.execPath, [typedoc], { cwd: join(root, 'site'), stdio: 'inherit' })
if (status !== 0) process.exit(1)

for (const name of exampleFiles()) {
  const code = readFileSync(join(root, 'examples', name), 'utf8').trimEnd()
  const page = `---\neditLink: false\n---\n\n# examples/${name}\n\n\`\`\`\`${name.endsWith('.ts') ? 'ts' : 'js'}\n${code}\n\`\`\`\`\n`
  writeFileSync(join(generated, 'examples', `${exampleName(name)}.md`), page)
}

// The problem, the answer, the numbers and the picture: everything before the first heading.
const readme = readFileSync(join(root, 'README.md'), 'utf8')
const [, intro] = /^# cook-daemon\n(.*?)\n## /s.exec(readme) ?? []
if (intro === undefined) throw new Error('README.md has no words between its title and the next heading')
writeFileSync(join(generated, 'intro.md'), `${intro.trim().replaceAll(/(\]\(|=")(?=docs\/)/g, '$1../')}\n`)
