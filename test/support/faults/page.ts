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
      ['step', 'progress of the new version'],
      Object.entries(steps).map(([step, words]) => [`\`${step}\``, words]),
    ),
    '## What clients see\n',
    'The worst case, as one word in the tables:\n',
    lines(['word', 'lost at most'], Object.entries(losses)),
    '## The new version has the fault\n',
    ...sections('new'),
    '## The old version has the fault\n',
    'The step is that of the new version: this is what happens when the old one fails at that time.\n',
    ...sections('old'),
    '## The way of the original Go API\n',
    "With `daemonize()` and `stage: 'parent'` there is a process between the two. Results of SIGKILL; everything else is as above:\n",
    parentSection(),
    '## Notes\n',
    noteOrder.map((note, index) => `${index + 1}. ${notes[note]}\n`).join(''),
  ].join('\n')
}

function intro(): string {
  return `# What a fault does to an upgrade

<!-- Generated from test/support/faults/table.ts by \`npm run docs\`; change it there. test/process/faults-*.test.ts hold cells to this table. -->

What clients lose when one side fails, at each step of an upgrade. Each of the ${count} cells is a test; \`npm test\` runs an example of each fault, and \`npm run test:matrix\` all. Two real processes run, one of which has the fault at that step, under 30 keep-alive clients and two that open a connection for each
request; none retries. In **every** cell one process serves, no client is refused, and afterwards exactly one of the two processes is left, without an additional zombie, file or
descriptor. The pid file names it (except in note ${noteOrder.indexOf('pidFile') + 1}), and the next upgrade succeeds unnoticed by clients.

The cells run the direct way (\`serve()\`, \`createDaemon()\`, the command line). "\`upgrade()\`" is its rejection, or that it succeeds; events are those of \`onEvent\`, without the phases.
`
}

function soak(): string {
  return `## A thousand upgrades in a row

\`npm run soak\` (2 x AMD EPYC, Linux 6.18, Node 20.20, with other work): 1,000 upgrades that succeeded and 499 to versions that failed in twelve ways, in 4,321 s, under 30 keep-alive clients, 10 more on a Unix path, 8
that connect for each request, and 20 WebSockets. Of 1,807,890 requests none failed, and no client reconnected; connections moved 60,292 times. Generation 1,001 had the same descriptors and environment as
generation 10, and 1.3 % more memory (66.7 MB against 65.8, resident after two full collections).
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

const head = ['fault', 'serves', '`upgrade()`', 'events', 'clients see']

function parentSection(): string {
  const body = (['new', 'old'] as const).flatMap((side) =>
    Object.entries(parentTable[side]).map(([step, cell]) => [`${side} version, \`${step}\``, ...cellWords(cell)]),
  )
  return lines(['killed process, and step', ...head.slice(1)], body)
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
