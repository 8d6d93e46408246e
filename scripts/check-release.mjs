/** Whether a tag may be published: package.json and CHANGELOG.md name its version and protocol. */
import { readdirSync, readFileSync } from 'node:fs'

process.chdir(`${import.meta.dirname}/..`)

const [tag = '', option] = process.argv.slice(2)
const { version, repository } = JSON.parse(readFileSync('package.json', 'utf8'))
const [, ownVersion] = /'([^']+)'/.exec(readFileSync('src/version.ts', 'utf8')) ?? []
const contract = readdirSync('src/contract').map((name) => readFileSync(`src/contract/${name}`, 'utf8'))
const [, protocol] = /protocolVersion = (\d+)/.exec(contract.join('\n')) ?? []
const section = readFileSync('CHANGELOG.md', 'utf8').split(/^## /m)[1] ?? ''

const faults = [
  [tag === `v${version}`, `the tag is ${tag}, and package.json says ${version}`],
  [ownVersion === version, `src/version.ts says ${ownVersion}, and package.json ${version}`],
  [
    new RegExp(`^${version.replaceAll('.', '\\.')} \\(\\d{4}-\\d\\d-\\d\\d\\)\n`).test(section),
    `CHANGELOG.md does not begin with "## ${version} (YYYY-MM-DD)"`,
  ],
  [
    new RegExp(`^Protocol: ${protocol}$`, 'm').test(section),
    `CHANGELOG.md does not say "Protocol: ${protocol}" for it`,
  ],
  // npm compares it with the place where the workflow runs.
  [repository !== undefined, 'package.json has no repository, without which npm accepts no provenance'],
].flatMap(([isRight, fault]) => (isRight ? [] : [fault]))

// People who name no version get full releases only.
if (option === '--print-tag') console.log(/-/.test(version) ? 'next' : 'latest')
else if (faults.length === 0) console.log(`${tag} may be published`)
for (const fault of faults) console.error(fault)
if (faults.length > 0) process.exitCode = 1
