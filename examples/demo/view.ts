/** How the demo looks while it runs: redrawn in place in a terminal, plain lines elsewhere. */
import { Graph } from './graph.ts'
import type { Happening, Story, Tone, Version } from './story.ts'
import { align, count, cut, isPlain, paint, type Style, seconds } from './text.ts'

/** Milliseconds between two drawings. */
const interval = 200

const tones: Readonly<Record<Tone, Style | undefined>> = {
  step: 'bold',
  plain: undefined,
  good: 'green',
  bad: 'red',
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
    `${paint('bold', name)}  ${cut(`${clients} clients and a WebSocket; none of them retries`, columns - name.length - 2)}`,
    '',
    header(story),
    '',
    ...graph.lines(columns),
    '',
    ...table(story, columns),
    ...workers(story, columns),
    '',
  ]
  const happenings = story.happenings.slice(-Math.max(4, rows - above.length))
  const below = happenings.map((one) => paint(tones[one.tone], cut(wordsOf(one), columns)))
  // What is higher than the terminal could not be drawn over.
  return [...above, ...below].slice(0, rows)
}

function header(story: Story): string {
  const done = story.events.filter(({ to }) => to !== undefined).length
  const { requests } = story.losses()
  const lost = paint(requests === 0 ? 'green' : 'red', `${count(requests)} lost`)
  const elapsed = seconds(performance.now() - story.begun)
  return `${done} of ${story.eventsMeant} done    ${elapsed}    ${count(story.sum('answers'))} answered    ${lost}`
}

const widths = [-10, -10, 11, 14]

function table(story: Story, columns: number): string[] {
  const head = align(['version', 'state', 'answered', 'moved to it'], widths)
  const rows = story.versions.map((version, index) => rowOf(story, version, index))
  return [paint('dim', cut(head, columns)), ...rows]
}

function rowOf(story: Story, version: Version, index: number): string {
  const { name, state, moved } = version
  if (state === 'refused') return paint('red', align([name, 'did not start'], widths))
  const text = align([name, state, count(story.answersBy(version)), index === 0 ? '–' : count(moved)], widths)
  return paint(state === 'serves' ? 'green' : undefined, text)
}

function workers({ workers: all, webSocket }: Story, columns: number): string[] {
  return all.map(({ slot, pid, state, connections, restarts }) => {
    const has = pid === webSocket?.pid ? `, the WebSocket (message ${count(webSocket?.count ?? 0)})` : ''
    const who = pid === undefined ? '' : `pid ${pid}, `
    const again = restarts.crash > 0 ? `, started again ${restarts.crash} times` : ''
    const text = cut(`slot ${slot}    ${state}, ${who}${connections} connections${again}${has}`, columns)
    return paint(state === 'serving' ? undefined : 'red', text)
  })
}

function wordsOf({ at, words }: Happening): string {
  return `${seconds(at).padStart(7)}  ${words}`
}
