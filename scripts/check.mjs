/** Checks the project without running it: one line each, and the output of what fails. */
import { spawnSync } from 'node:child_process'

process.chdir(`${import.meta.dirname}/..`)

/** Name, and what `node` runs. The build is first: the others need its tools and what it makes. */
const checks = [
  ['compiles', 'scripts/build.mjs'],
  ['biome', 'node_modules/@biomejs/biome/bin/biome', 'ci', '--colors=off', '--error-on-warnings', '.'],
  ['knip', 'node_modules/knip/bin/knip.js'],
  ['publint', 'node_modules/publint/src/cli.js', '--strict'],
  // Every supported Node can require an ES module. TypeScript's oldest resolution ignores
  // `exports`.
  [
    'attw',
    'node_modules/@arethetypeswrong/cli/dist/index.js',
    '--pack',
    '.',
    '--profile',
    'node16',
    '--ignore-rules',
    'cjs-resolves-to-esm',
  ],
  ['docs/errors.md', 'dist/scripts/docs-errors.js', '--check'],
  ['schema/cook.config.json', 'dist/scripts/docs-schema.js', '--check'],
  ['docs/reliability.md', 'dist/scripts/docs-faults.js', '--check'],
  ['docs/benchmarks.md', 'dist/scripts/docs-benchmarks.js', '--check'],
]

for (const [name, ...args] of checks) {
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' })
  if (status === 0) {
    console.log(`ok      ${name}`)
    continue
  }
  console.log(`failed  ${name} (${signal ?? `exit code ${status}`})\n${stdout}${stderr}`)
  process.exitCode = 1
  // Without the build there is nothing to check.
  if (name === 'compiles') break
}
