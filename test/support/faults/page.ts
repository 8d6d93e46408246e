/** The fault matrix as a page for people. */
import {
  type Cell,
  type Fault,
  faults,
  losses,
  type Note,
  notes,
  parentTable,
  type Side,
  type Skip,
  type Step,
  steps,
  table,
} from './table.ts'

const noteOrder = Object.keys(notes) as Note[]

const count = [...Object.values(table), parentTable.new, parentTable.old]
  .flatMap((steps) => Object.values(steps) as (Cell | Readonly<Record<Fault, Cell | Skip>>)[])
  .flatMap((row) => ('serves' in row ? [row] : Object.values(row)))
  .filter((cell) => !('skip' in cell)).length

export function faultsPage(): string {
  return [
    intro(),
    soak(),
    '## The steps\n',
    lines(
      ['step', 'the new version has come so far'],
      Object.entries(steps).map(([step, words]) => [`\`${step}\``, words]),
    ),
    '## What clients see\n',
    'At most, in one word in the tables:\n',
    lines(['word', 'what'], Object.entries(losses)),
    '## The new version has the fault\n',
    ...sections('new'),
    '## The old version has the fault\n',
    'The step is still that of the new version: this is what happens to it when the old one fails meanwhile.\n',
    ...sections('old'),
    '## The way of the original Go API\n',
    "With `daemonize()` and `stage: 'parent'` a process stands between the two. SIGKILL, where the rest is as above:\n",
    parentSection(),
    '## Notes\n',
    noteOrder.map((note, index) => `${index + 1}. ${notes[note]}\n`).join(''),
  ].join('\n')
}

function intro(): string {
  return `# What a fault does to an upgrade

<!-- Generated from test/support/faults/table.ts by \`npm run docs\`; change it there. test/process/faults-*.test.ts hold cells to this table. -->

Each of the ${count} cells is a test, of which \`npm test\` runs an example of each fault and \`npm run test:matrix\` all: two real processes, one of which has the fault at that step of an upgrade, with 30 keep-alive clients and two that open a connection for each
request, none of which retries. In **every** cell somebody serves, no client is refused, and afterwards exactly one process of the two is left, with no zombie, no file and no descriptor more than
before; the pid file names it (but for note ${noteOrder.indexOf('pidFile') + 1}), and the next upgrade succeeds without a client's noticing.

The cells run the direct way (\`serve()\`, \`createDaemon()\`, the command line). What \`upgrade()\` says is what it rejects with, or that it succeeds; events are those of \`onEvent\`, beside the phases.
`
}

function soak(): string {
  return `## A thousand upgrades in a row

\`npm run soak\` (2 x AMD EPYC, Linux 6.18, Node 20.20, beside other work): 1,000 upgrades that succeeded and 499 to versions that failed in twelve ways, in 4,321 s, under 30 keep-alive clients, 10 more on a Unix path, 8
that connect for each request, and 20 WebSockets. 1,807,890 requests, none failed, and nobody reconnected; connections moved 60,292 times. Generation 1,001 had the descriptors and the environment of
generation 10, and 1.3 % more memory (66.7 MB against 65.8, resident after two full collections). Each run of the tests does 50 of them.
`
}

/** One for each step, or for several that follow each other and come to the same. */
function sections(side: Side): readonly string[] {
  const found: { readonly steps: string[]; readonly text: string }[] = []
  for (const step of Object.keys(steps) as Step[]) {
    const text = lines(head, rowsOf(table[side][step]))
    const last = found.at(-1)
    if (last?.text === text) last.steps.push(`\`${step}\``)
    else found.push({ steps: [`\`${step}\``], text })
  }
  const who = side === 'new' ? 'New' : 'Old'
  return found.map((one) => `### ${who} version, ${one.steps.join(', ')}\n\n${one.text}`)
}

/** Faults that come to the same stand in one row. */
function rowsOf(cells: (typeof table)[Side][Step]): readonly (readonly string[])[] {
  const rows = new Map<string, { readonly names: string[]; readonly words: readonly string[] }>()
  for (const [fault, cell] of Object.entries(cells) as [Fault, Cell | Skip][]) {
    const words = cellWords(cell)
    const row = rows.get(words.join()) ?? { names: [], words }
    row.names.push(faults[fault])
    rows.set(words.join(), row)
  }
  return [...rows.values()].map(({ names, words }) => [names.join('; '), ...words])
}

const head = ['fault', 'serves', '`upgrade()` says', 'events', 'clients see']

function parentSection(): string {
  const body = (['new', 'old'] as const).flatMap((side) =>
    Object.entries(parentTable[side]).map(([step, cell]) => [`${side} version, \`${step}\``, ...cellWords(cell)]),
  )
  return lines(['who is killed, and when', ...head.slice(1)], body)
}

function cellWords(cell: Cell | Skip): readonly string[] {
  if ('skip' in cell) return [`–${mark(cell.skip)}`, '', '', '']
  const { serves, upgrade, events, clients, note } = cell
  const said = upgrade.replace(/^ERR_\w+/, '`$&`')
  return [
    `**${serves}**${note === undefined ? '' : mark(note)}`,
    said,
    events.map((event) => event.replace(/[\w-]+$/, '`$&`')).join(', '),
    clients,
  ]
}

function mark(note: Note): string {
  return ` (${noteOrder.indexOf(note) + 1})`
}

/** Padded, as every table of these pages. */
function lines(heads: readonly string[], body: readonly (readonly string[])[]): string {
  const widths = heads.map((_, at) => Math.max(...[heads, ...body].map((row) => row[at]?.length ?? 0)))
  const line = (row: readonly string[]) => `| ${row.map((text, at) => text.padEnd(widths[at] ?? 0)).join(' | ')} |\n`
  return [line(heads), line(widths.map((width) => '-'.repeat(width))), ...body.map(line)].join('')
}
