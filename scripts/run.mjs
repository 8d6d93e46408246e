/** `run.mjs scripts/test floors` builds, then runs dist/scripts/test.js with `floors`. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const [program, ...args] = process.argv.slice(2)
const script = new URL(`../dist/${program}.js`, import.meta.url)

// A process of its own: the bundler keeps a child, which the program would have beside it.
const build = fileURLToPath(new URL('build.mjs', import.meta.url))
const { status } = spawnSync(process.execPath, [build], { stdio: 'inherit' })
if (status !== 0) process.exit(status ?? 1)

// In this process, so that ^C and SIGTERM reach the program and its exit code is ours.
process.argv.splice(1, Number.POSITIVE_INFINITY, fileURLToPath(script), ...args)
await import(script.href)
