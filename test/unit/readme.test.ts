/**
 * Holds the pages to the code: promises are titles of tests, examples compile, links lead
 * somewhere.
 */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const pages = [
  ...readdirSync(root).filter((name) => name.endsWith('.md')),
  ...readdirSync(join(root, 'docs')).flatMap((name) => (name.endsWith('.md') ? [`docs/${name}`] : [])),
].map((path) => ({ path, text: readFileSync(join(root, path), 'utf8') }))

/**
 * A title as it stands in a test file; what a template fills in is in some other string of that
 * file.
 */
type Title = { readonly pattern: RegExp; readonly file: string; readonly isOnlyInMatrix: boolean }

test('each promise of the README is the title of a test with real processes that npm test runs', () => {
  const four = [...pageText('README.md').matchAll(/^- \*\*.+?\*\* _(.+)_$/gm)].map(([, title = '']) => title)
  assert.equal(four.length, 4)
  const list = [...pageText('docs/promises.md').matchAll(/^- (.+)$/gm)].map(([, title = '']) => title)
  assert.ok(list.length >= 20)
  const promises = [...four, ...list]
  const titles = titlesOf('test/process').filter(({ isOnlyInMatrix }) => !isOnlyInMatrix)
  assert.deepEqual(
    promises.filter((promise) => !isTitle(promise, titles)),
    [],
  )
})

test('each test that docs/failure-modes.md names for a failure mode is there, and every failure mode has an answer', () => {
  const rows = [...pageText('docs/failure-modes.md').matchAll(/^\| (\d+) +\| .* \| (.*) \|$/gm)].map(
    ([, row, answer = '']) => ({ row, answer }),
  )
  assert.deepEqual(
    rows.map(({ row }) => Number(row)),
    Array.from({ length: 38 }, (_, at) => at + 1),
  )
  const titles = [...titlesOf('test/process'), ...titlesOf('test/unit')]
  const named = rows.flatMap(({ answer }) =>
    // Code is no title, and full of the mark.
    [...answer.replace(/`[^`]*`/g, '').matchAll(/_([^_]+)_/g)].map(([, title = '']) => title),
  )
  assert.ok(named.length > 20)
  assert.deepEqual(
    named.filter((title) => !isTitle(title, titles)),
    [],
  )
})

test('each threat that SECURITY.md names has a test, and each test is there', () => {
  const [, table = ''] = pageText('SECURITY.md').split('## Defences')
  const titles = [...titlesOf('test/process'), ...titlesOf('test/unit')]
  const rows = [...table.matchAll(/^\| (?!-|threat)([^|]+?) +\| [^|]+ \| ([^|]*) \|$/gm)]
  assert.ok(rows.length >= 17)
  const unproven = rows.flatMap(([, threat, tests = '']) => {
    const named = [...tests.matchAll(/_((?:[^_]|(?<=\w)_(?=\w))+)_/g)].map(([, title = '']) => title)
    return named.length > 0 && named.every((title) => isTitle(title, titles)) ? [] : [threat, ...named]
  })
  assert.deepEqual(unproven, [])
})

test('every example in the pages compiles against the package', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cook-daemon-readme-'))
  try {
    const names = pages.flatMap(({ path, text }) =>
      [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map(([, code = ''], index) => {
        const name = `${path.replaceAll('/', '-')}-${index + 1}.mts`
        writeFileSync(join(folder, name), code)
        return name
      }),
    )
    assert.ok(names.length >= 3)
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify(settings(names)))
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, '-p', folder], { encoding: 'utf8' })
    assert.equal(status, 0, stdout + stderr)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

test('every link between the pages leads to a file that is there', () => {
  const lost = pages.flatMap(({ path, text }) =>
    [...text.matchAll(/\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)/g)]
      .map(([, to = '']) => to)
      .filter((to) => !existsSync(join(root, dirname(path), to)))
      .map((to) => `${path} -> ${to}`),
  )
  assert.deepEqual(lost, [])
})

test('every link to a place in a page leads to a heading that is there', () => {
  const headings = new Map(pages.map(({ path, text }) => [path, anchorsOf(text)]))
  const lost = pages.flatMap(({ path, text }) =>
    [...withoutCode(text).matchAll(/\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)/g)]
      .filter(([, to = '', place = '']) => {
        const page = to === '' ? path : join(dirname(path), to)
        return headings.get(page)?.has(place) === false
      })
      .map(([, to, place]) => `${path} -> ${to}#${place}`),
  )
  assert.deepEqual(lost, [])
})

test('the pages type commands and options that cook-daemon has, and scripts that package.json has', () => {
  const typed = pages.flatMap(({ path, text }) => typedIn(text).map((words) => ({ path, words })))
  const helps = new Map<string, ReadonlySet<string>>()
  const unknown = typed.filter(({ words: [program, command = '', ...rest] }) => {
    if (program === 'npm') return !scriptsOf(rest.includes('--prefix') ? 'site' : '.').includes(rest[0] ?? '')
    if (!helps.has(command)) helps.set(command, optionsOf(command))
    // What follows --node-arg or a bare -- is not for the command.
    const own = rest.slice(0, rest.includes('--') ? rest.indexOf('--') : undefined)
    const options = own.filter((word, at) => /^--?[a-z]/.test(word) && own[at - 1] !== '--node-arg')
    return options.some((option) => helps.get(command)?.has(option) !== true) || helps.get(command)?.size === 0
  })
  assert.ok(typed.length > 50)
  assert.deepEqual(
    unknown.map(({ path, words }) => `${path}: ${words.join(' ')}`),
    [],
  )
})

test('every page of docs/ is in the index of the README', () => {
  const readme = pageText('README.md')
  const unlisted = pages.filter(({ path }) => path.startsWith('docs/') && !readme.includes(`](${path})`))
  assert.deepEqual(
    unlisted.map(({ path }) => path),
    [],
  )
})

test('the pages name error codes and variables that there are', () => {
  const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => readFileSync(join(root, 'src', name), 'utf8'))
    .join('\n')
  const unknown = pages.flatMap(({ path, text }) =>
    [...text.matchAll(/\b(ERR_COOK_[A-Z_]*[A-Z]|COOK_DAEMON_[A-Z_]*[A-Z])\b/g)]
      .filter(([name]) => !sources.includes(name))
      .map(([name]) => `${path}: ${name}`),
  )
  assert.deepEqual(unknown, [])
})

/** As GitHub makes them of headings, and the site too. */
function anchorsOf(text: string): ReadonlySet<string> {
  const seen = new Map<string, number>()
  const anchors = [...withoutCode(text).matchAll(/^#{1,6} (.+)$/gm)].map(([, heading = '']) => {
    const slug = heading
      .replace(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{Pc}\- ]/gu, '')
      .replaceAll(' ', '-')
    const before = seen.get(slug) ?? 0
    seen.set(slug, before + 1)
    return before === 0 ? slug : `${slug}-${before}`
  })
  return new Set(anchors)
}

function withoutCode(text: string): string {
  return text.replace(/^```.*?^```$/gms, '')
}

/** What a reader would type: lines of shell blocks, and words in backticks. */
function typedIn(text: string): string[][] {
  const lines = [...text.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block = '']) => block.split('\n'))
  const inline = [...withoutCode(text).matchAll(/`([^`\n]+)`/g)].map(([, code = '']) => code)
  return [...lines, ...inline].flatMap((line) => {
    const [, typed] = /(?:^|\s)((?:cook-daemon [a-z]+|npm run \S+)(?:\s[^#|&]*)?)(?:\s*#|\|\||&&|$)/.exec(line) ?? []
    return typed === undefined ? [] : [typed.trim().split(/[\s,]+/)]
  })
}

function scriptsOf(folder: string): readonly string[] {
  const manifest = JSON.parse(readFileSync(join(root, folder, 'package.json'), 'utf8')) as { scripts: object }
  return Object.keys(manifest.scripts)
}

/** Empty for a command that there is not. */
function optionsOf(command: string): ReadonlySet<string> {
  const bin = join(root, 'dist/bin/cook-daemon.js')
  const { status, stdout } = spawnSync(process.execPath, [bin, command, '--help'], { encoding: 'utf8' })
  const words = stdout.startsWith(`Usage: cook-daemon ${command} `) ? stdout.match(/(?<=^ +|, )--?[a-z][a-z-]*/gm) : []
  return new Set(status === 0 ? words : [])
}

function pageText(path: string): string {
  return pages.find((page) => page.path === path)?.text ?? ''
}

function titlesOf(folder: string): Title[] {
  return readdirSync(join(root, folder))
    .filter((name) => name.endsWith('.test.ts'))
    .flatMap((name) => {
      const file = readFileSync(join(root, folder, name), 'utf8')
      // A test that only stands in a comment, or is skipped for good, holds nothing.
      return [...file.matchAll(/^\s*test\(\s*(['`])(.*?)\1,(\s*onlyInMatrix)?/gm)].map(([, , title = '', mark]) => ({
        pattern: new RegExp(
          `^${title
            .split(/\$\{[^}]*\}/)
            .map(literally)
            .join('(.+)')}$`,
        ),
        file,
        isOnlyInMatrix: mark !== undefined,
      }))
    })
}

function isTitle(text: string, titles: readonly Title[]): boolean {
  return titles.some(({ pattern, file }) => {
    const [whole, ...filled] = pattern.exec(text) ?? []
    // `…` stands for all that a template fills in.
    return (
      whole !== undefined && filled.every((part) => part === '…' || file.includes(`'${part}'`) || isQuoted(file, part))
    )
  })
}

function isQuoted(file: string, part: string): boolean {
  return file.includes(`"${part}"`) || file.includes(`\`${part}\``)
}

function literally(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')
}

function settings(files: readonly string[]): object {
  return {
    compilerOptions: {
      target: 'es2023',
      module: 'nodenext',
      strict: true,
      exactOptionalPropertyTypes: true,
      noEmit: true,
      skipLibCheck: true,
      types: ['node'],
      typeRoots: [join(root, 'node_modules/@types')],
      paths: {
        'cook-daemon': [join(root, 'dist/src/index.d.ts')],
        'cook-daemon/ws': [join(root, 'dist/src/ws/index.d.ts')],
        ws: [join(root, 'node_modules/@types/ws/index.d.ts')],
      },
    },
    files,
  }
}
