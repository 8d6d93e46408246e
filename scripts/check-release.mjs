/**
 * Whether a tag may be published: package.json and CHANGELOG.md name its version and protocol.
 * Without a tag, `npm run check:release`: what is missing now, but for what only the owner knows.
 */
import { readdirSync, readFileSync } from 'node:fs'

process.chdir(`${import.meta.dirname}/..`)

const [tag, option] = process.argv.slice(2)
const {
  version,
  repository,
  homepage,
  bugs,
  license,
  dependencies = {},
  scripts = {},
} = JSON.parse(readFileSync('package.json', 'utf8'))
const [, ownVersion] = /'([^']+)'/.exec(readFileSync('src/version.ts', 'utf8')) ?? []
const contract = readdirSync('src/contract').map((name) => readFileSync(`src/contract/${name}`, 'utf8'))
const [, protocol] = /protocolVersion = (\d+)/.exec(contract.join('\n')) ?? []
const section = readFileSync('CHANGELOG.md', 'utf8').split(/^## /m)[1] ?? ''

const workflow = readFileSync('.github/workflows/release.yml', 'utf8')
const files = readdirSync('.')

const faults = missing([
  [ownVersion === version, `src/version.ts says ${ownVersion}, and package.json ${version}`],
  [section.startsWith(`${version} (`), `CHANGELOG.md does not begin with "## ${version} (…)"`],
  [
    new RegExp(`^Protocol: ${protocol}$`, 'm').test(section),
    `CHANGELOG.md does not say "Protocol: ${protocol}" for it`,
  ],
  [/npm publish .*--provenance/.test(workflow), 'the release workflow does not publish with provenance'],
  [/id-token: write/.test(workflow), 'the release workflow may not ask for the token that provenance needs'],
  [files.includes('LICENSE') && license === 'MIT', 'there is no LICENSE, or package.json names another one'],
  [Object.keys(dependencies).length === 0, 'package.json has dependencies'],
  [!['preinstall', 'install', 'postinstall'].some((name) => name in scripts), 'package.json has an install script'],
  [tag === undefined || tag === `v${version}`, `the tag is ${tag}, and package.json says ${version}`],
])

/** They are known on the day of the release, and to the owner alone. */
const left = missing([
  [
    new RegExp(`^${version.replaceAll('.', '\\.')} \\(\\d{4}-\\d\\d-\\d\\d\\)\n`).test(section),
    `CHANGELOG.md has no date for ${version}`,
  ],
  // npm compares it with the place where the workflow runs.
  [repository !== undefined, 'package.json has no repository, without which npm accepts no provenance'],
  [homepage !== undefined, 'package.json has no homepage'],
  [bugs !== undefined, 'package.json has no bugs, where faults are reported'],
])
if (tag !== undefined) faults.push(...left)

// People who name no version get full releases only.
if (option === '--print-tag') console.log(/-/.test(version) ? 'next' : 'latest')
else if (faults.length === 0) console.log(`${tag ?? version} may be published`)
for (const fault of faults) console.error(fault)
if (tag === undefined) for (const one of left) console.log(`left to the owner: ${one}`)
if (faults.length > 0) process.exitCode = 1

/** @param {readonly (readonly [isThere: boolean, words: string])[]} all @returns {string[]} */
function missing(all) {
  return all.flatMap(([isThere, words]) => (isThere ? [] : [words]))
}
