/** The live view of `top`, drawn with ink: a file of its own in dist/bin. */
import type { Writable } from 'node:stream'
import { Box, render, Text, useApp, useInput } from 'ink'
import { useEffect, useRef, useState } from 'react'
import { signalNumbers } from '../../node/signals.ts'
import { Job } from './job.ts'
import { type Action, actionsOf, type Choice, helpLines, keyLine } from './keys.ts'
import { fit, linesOf } from './layout.ts'
import type { Tone } from './progress.ts'
import type { Row } from './rows.ts'
import { Screen } from './screen.ts'

type View = {
  /** Milliseconds between two looks. */
  readonly interval: number
  look(): Promise<readonly Row[]>
}

/** Resolves to the exit code when the user has quit, and the terminal is as it was. */
export async function showView(view: View): Promise<number> {
  const { stdin, stdout, stderr } = process
  const screen = new Screen(stdout)
  const close = () => {
    screen.close()
    if (stdin.isRaw) stdin.setRawMode(false)
  }
  // Before the words of the error are printed.
  process.once('uncaughtExceptionMonitor', close)
  screen.open()
  try {
    const stream = screen as Writable as NodeJS.WriteStream
    const options = { stdout: stream, stdin, stderr, debug: true, patchConsole: false }
    const app = render(<Top {...view} screen={screen} />, options)
    let code = 0
    for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) {
      process.once(signal, () => {
        code = 128 + signalNumbers()[signal]
        app.unmount()
      })
    }
    await app.waitUntilExit()
    return code
  } finally {
    close()
  }
}

type Question = { readonly text: string; readonly choice: Choice }

function Top({ interval, look, screen }: View & { readonly screen: Screen }) {
  const { exit } = useApp()
  const [rows, setRows] = useState<readonly Row[]>()
  const [size, setSize] = useState({ width: screen.columns, height: screen.rows })
  const [choice, choose] = useState<Row>()
  const [question, ask] = useState<Question>()
  const [isHelp, setHelp] = useState(false)
  const [message, tell] = useState('')
  const [job, setJob] = useState<Job>()
  const [, setChanges] = useState(0)
  const running = useRef<Job>(undefined)

  useEffect(() => {
    const resized = () => setSize({ width: screen.columns, height: screen.rows })
    screen.on('resize', resized)
    return () => void screen.off('resize', resized)
  }, [screen])
  useEffect(() => {
    const show = (found: readonly Row[]) => {
      setRows(found)
      choose((now) => now ?? found[0])
    }
    return untilEnd(interval, look, show, exit)
  }, [interval, look, exit])
  useEffect(() => () => running.current?.leave(), [])

  const choosable = (rows ?? []).filter((row) => row.isChoosable)
  const chosen = chosenAmong(choosable, choice)

  const begin = ({ words, row }: Choice) => {
    running.current?.leave()
    const isAlone = choosable.every((one) => one.name !== row.name || one.place.folder === row.place.folder)
    const next = new Job(words, row, isAlone, () => setChanges((count) => count + 1))
    running.current = next
    setJob(next)
  }
  const act = (action: Action) => {
    tell('')
    switch (action.type) {
      case 'quit':
        return exit()
      case 'help':
        return setHelp((isShown) => !isShown)
      case 'move':
        return choose((now) => {
          const at = choosable.indexOf(chosenAmong(choosable, now) as Row)
          return choosable[Math.max(0, Math.min(choosable.length - 1, at + action.by))]
        })
      case 'close':
        if (isHelp) return setHelp(false)
        if (job?.code === undefined && job?.isLooking === false) return tell(`${job.title} is still running`)
        running.current?.leave()
        running.current = undefined
        return setJob(undefined)
      case 'refused':
        return tell(action.why)
      default:
        if (job !== undefined && job.code === undefined && !job.isLooking)
          return tell(`${job.title} is still running: wait until it ends`)
        return action.question === undefined ? begin(action) : ask({ text: action.question, choice: action })
    }
  }
  useInput((input, key) => {
    if (question !== undefined) {
      ask(undefined)
      if (input === 'y') begin(question.choice)
      else tell('nothing was done')
      return
    }
    for (const action of actionsOf(input, key, chosen)) act(action)
  })

  const { width, height } = size
  const panel = job === undefined || isHelp ? [] : panelLines(job, width, Math.floor(height / (job.isLooking ? 2 : 3)))
  const room = Math.max(1, height - 3 - panel.length)
  const { head, lines } = linesOf(rows ?? [], width - 2)
  const first = firstShown((rows ?? []).indexOf(chosen as Row), lines.length, room)
  const shown = lines.slice(first, first + room)
  return (
    <Box flexDirection="column" width={width} height={height}>
      <Line inverse text={` ${titleOf(rows, lines.length - first - shown.length)}`} width={width} />
      <Line bold text={`  ${head}`} width={width} />
      <Box flexDirection="column" height={room}>
        {isHelp
          ? helpLines.map((text) => <Line key={text} text={`  ${text}`} width={width} />)
          : shown.map((text, at) => {
              const row = rows?.[first + at]
              const isChosen = row !== undefined && row === chosen
              return (
                <Line
                  key={row?.key}
                  text={`${isChosen ? '▸' : ' '} ${text}`}
                  width={width}
                  inverse={isChosen}
                  tone={row?.tone}
                />
              )
            })}
      </Box>
      {panel.map((text, at) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: a place on the screen is what it is
        <Line key={at} text={text} width={width} bold={at === 0} />
      ))}
      {question === undefined ? (
        <Line text={message === '' ? keyLine(job !== undefined) : message} width={width} tone="quiet" />
      ) : (
        <Line text={question.text} width={width} bold tone="moving" />
      )}
    </Box>
  )
}

/** A worker that is gone leaves its service chosen; nothing else takes its place by itself. */
function chosenAmong(choosable: readonly Row[], choice: Row | undefined): Row | undefined {
  if (choice === undefined) return undefined
  return choosable.find(({ key }) => key === choice.key) ?? choosable.find(({ key }) => key === choice.service)
}

type LineProps = {
  readonly text: string
  readonly width: number
  readonly bold?: boolean
  readonly inverse?: boolean
  readonly tone?: Tone | undefined
}

const colours = { good: 'green', bad: 'red', moving: 'yellow' } as const
const hasColour = !process.env.NO_COLOR

function Line({ text, width, tone, ...style }: LineProps) {
  const colour = hasColour && tone !== undefined && tone !== 'quiet' ? { color: colours[tone] } : {}
  return (
    <Text wrap="truncate" dimColor={tone === 'quiet'} {...colour} {...style}>
      {fit(text, width)}
    </Text>
  )
}

/** Looks again and again; what it returns ends that. */
function untilEnd(
  interval: number,
  look: View['look'],
  show: (rows: readonly Row[]) => void,
  fail: (error: Error) => void,
): () => void {
  let timer: NodeJS.Timeout | undefined
  let isOver = false
  const again = async () => {
    try {
      const rows = await look()
      if (isOver) return
      show(rows)
      timer = setTimeout(again, interval)
    } catch (error) {
      fail(error as Error)
    }
  }
  void again()
  return () => {
    isOver = true
    clearTimeout(timer)
  }
}

function titleOf(rows: readonly Row[] | undefined, below: number): string {
  if (rows === undefined) return 'cook-daemon top  looking …'
  const services = new Set(rows.map(({ service }) => service)).size
  const count = services === 0 ? 'no service is running' : `${services} service${services === 1 ? '' : 's'}`
  return `cook-daemon top  ${count}  ${new Date().toTimeString().slice(0, 8)}${below > 0 ? `  ${below} more lines below` : ''}`
}

/** The one that is chosen is seen. */
function firstShown(chosen: number, count: number, room: number): number {
  return Math.max(0, Math.min(chosen - Math.floor(room / 2), count - room))
}

function panelLines({ title, lines, code, isLooking }: Job, width: number, most: number): readonly string[] {
  const end = code === undefined ? (isLooking ? '' : '  …') : `  exit code ${code}`
  const shown = lines.slice(-Math.max(1, most - 1)).map((line) => ` ${line}`)
  return [fit(`── ${title}${end} `, width).replace(/ +$/, (rest) => ` ${'─'.repeat(rest.length - 1)}`), ...shown]
}
