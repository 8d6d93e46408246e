/** What the keys of `top` do. */
import type { Key } from 'ink'
import type { Row } from './rows.ts'

/** A command of this program, for a service. */
export type Choice = { readonly words: readonly string[]; readonly row: Row }

export type Action =
  | { readonly type: 'quit' | 'help' | 'close' }
  | { readonly type: 'move'; readonly by: number }
  | { readonly type: 'refused'; readonly why: string }
  /** With a question it is done after a `y`. */
  | ({ readonly type: 'command'; readonly question?: string } & Choice)

export const helpLines = [
  '↑ ↓  k j    choose a service or a worker',
  'u           upgrade the service to the version on disk',
  '+  -        add or remove a worker',
  'l           follow its log; on a worker, the log of that worker',
  's           stop the service, after confirmation',
  'Esc  c      close the output below',
  '?           this help',
  'q  ^C       quit; a running command continues',
] as const

export function keyLine(hasOutput: boolean): string {
  return `↑↓ choose  u upgrade  +- scale  l logs  s stop  ${hasOutput ? 'c close  ' : ''}? help  q quit`
}

const page = 10

/**
 * Several characters at once were pasted, or typed while this process was not asked: of those only
 * the ones that change nothing count.
 */
export function actionsOf(input: string, key: Key, row: Row | undefined): readonly Action[] {
  const all = input.length > 1 ? [...input] : [input]
  return all
    .flatMap((one) => actionOf(one, key, row) ?? [])
    .filter(({ type }) => all.length === 1 || type !== 'command')
}

/** Undefined: nothing. */
function actionOf(input: string, key: Key, row: Row | undefined): Action | undefined {
  if (key.upArrow || input === 'k') return { type: 'move', by: -1 }
  if (key.downArrow || input === 'j') return { type: 'move', by: 1 }
  if (key.pageUp) return { type: 'move', by: -page }
  if (key.pageDown) return { type: 'move', by: page }
  if (key.escape || input === 'c') return { type: 'close' }
  if (input === '?') return { type: 'help' }
  if (input === 'q') return { type: 'quit' }
  return row === undefined ? undefined : commandOf(input, row)
}

function commandOf(input: string, row: Row): Action | undefined {
  const { name, slot, workers } = row
  switch (input) {
    case 'u':
      return { type: 'command', words: ['upgrade', name], row }
    case '+':
    case '=':
      return scaleTo(row, workers + 1)
    case '-':
      return workers === 1 ? { type: 'refused', why: `${name} has one worker: s stops it` } : scaleTo(row, workers - 1)
    case 'l': {
      const own = slot === undefined ? [] : ['--slot', String(slot)]
      return { type: 'command', words: ['logs', name, '-f', '-n', '50', ...own], row }
    }
    case 's':
      return { type: 'command', words: ['stop', name], row, question: `stop ${name}? No process will serve. y/n` }
    default:
      return undefined
  }
}

function scaleTo(row: Row, count: number): Action {
  if (row.workers === 0) return { type: 'refused', why: `the number of workers of ${row.name} is unknown` }
  return { type: 'command', words: ['scale', row.name, String(count)], row }
}
