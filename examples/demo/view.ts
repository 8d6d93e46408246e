/** How the demo looks while it runs: redrawn in place in a terminal, plain lines elsewhere. */
import { Graph } from './graph.ts'
import type { Generation, Happening, Story, Tone, Upgrade } from './story.ts'
import { align, count, cut, isPlain, milliseconds, paint, type Style, seconds } from './text.ts'

/** Milliseconds between two drawings. */
const interval = 200

const tones: Readonly<Record<Tone, Style | undefined>> = {
  step: 'bold',
  plain: undefined,
  good: 'green',
  bad: 'red',
  why: 'red',
}

/** Shows the story until it is closed. */
export function openView(story: Story): { close(): void } {
  if (!isPlain) return openLiveView(story)
  story.onHappening = (happening) => console.log(wordsOf(happening))
  return { close() {} }
}

function openLiveView(story: Story): { close(): void } {
  const graph = new Graph(story)
  let height = 0

  function draw(): void {
    const { columns = 80, rows = 24 } = process.stdout
    const lines = frame(story, graph, columns - 1, rows - 1)
    const up = height > 0 ? `\x1b[${height}A` : ''
    // Each line is cleared behind its end; a terminal that can (mode 2026) shows nothing before all
    // are there.
    const body = lines.map((line) => `${line}\x1b[K\n`).join('')
    process.stdout.write(`\x1b[?2026h\x1b[?25l${up}${body}\x1b[J\x1b[?2026l`)
    height = lines.length
  }

  /** What stands there was wrapped anew: nobody knows where it begins. */
  function drawAnew(): void {
    process.stdout.write('\x1b[2J\x1b[H')
    height = 0
    draw()
  }

  const timer = setInterval(() => {
    graph.step()
    draw()
  }, interval)
  process.stdout.on('resize', drawAnew)
  draw()
  return {
    close() {
      clearInterval(timer)
      process.stdout.off('resize', drawAnew)
      draw()
      process.stdout.write('\x1b[?25h')
    },
  }
}

function frame(story: Story, graph: Graph, columns: number, rows: number): string[] {
  const clients = story.clients.map(({ kind, count }) => `${count} ${kind}`).join(', ')
  const name = 'cook-daemon'
  const above = [
    `${paint('bold', name)}  ${cut(`${clients} clients; none of them retries`, columns - name.length - 2)}`,
    '',
    header(story),
    '',
    ...graph.lines(columns),
    '',
    ...table(story, columns),
    '',
  ]
  const happenings = story.happenings.slice(-Math.max(4, rows - above.length))
  const below = happenings.map((one) => paint(tones[one.tone], cut(wordsOf(one), columns)))
  // What is higher than the terminal could not be drawn over.
  return [...above, ...below].slice(0, rows)
}

function header(story: Story): string {
  const done = story.upgrades.filter(({ to }) => to !== undefined).length
  const failures = story.failures()
  const failed = paint(failures === 0 ? 'green' : 'red', `${count(failures)} failed`)
  const elapsed = seconds(performance.now() - story.begun)
  return `upgrades ${done} of ${story.upgradesMeant}    ${elapsed}    ${count(story.sum('answers'))} answered    ${failed}`
}

const widths = [-9, -9, -10, 11, 14, 9, 16]

function table(story: Story, columns: number): string[] {
  const head = align(['version', 'process', 'phase', 'answered', 'moved to it', 'failed', 'longest pause'], widths)
  const rows = [
    ...story.generations.map(({ from }, index) => ({ from, row: rowOf(story, index) })),
    ...story.upgrades
      .filter(({ failedPid }) => failedPid !== undefined)
      .map((one) => ({ from: one.from, row: failedRow(one) })),
  ].sort((one, other) => one.from - other.from)
  return [{ row: [head, 'dim'] as const }, ...rows].map(({ row: [text, style] }) => paint(style, cut(text, columns)))
}

type Row = readonly [text: string, style: Style | undefined]

function rowOf(story: Story, index: number): Row {
  const generation = story.generations[index] as Generation
  const { version, pid, phase, from, to, moved } = generation
  const failures = story.failuresUnder(generation)
  // To the first nothing can move; to the newest all are on their way.
  const movedTo = index === 0 ? '–' : moved === undefined ? '…' : count(moved)
  const pause = milliseconds(story.longestPause(from, to))
  const answers = count(story.answersBy(generation))
  const text = align([version, `${pid}`, phase, answers, movedTo, count(failures), pause], widths)
  if (failures > 0) return [text, 'red']
  return [text, phase === 'ready' ? 'green' : phase === 'gone' ? undefined : 'bold']
}

function failedRow({ version, failedPid }: Upgrade): Row {
  return [align([version, `${failedPid}`, 'did not come up'], widths), 'red']
}

function wordsOf({ at, words, tone }: Happening): string {
  return `${tone === 'why' ? ' '.repeat(7) : seconds(at).padStart(7)}  ${words}`
}
