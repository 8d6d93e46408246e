/** What a proof has found, in words and as JSON. */
import { paint, print, printJson, table } from './output.ts'
import type { Measured, Round } from './prove-rounds.ts'
import type { Counts, Tape } from './prove-tape.ts'
import { meaningOf, type Target } from './prove-target.ts'

export type Proof = {
  readonly isProved: boolean
  readonly target: Target
  readonly webSockets?: Target
  readonly rounds: readonly Measured[]
  readonly tape: Tape
  readonly counts: Counts
  readonly workers: number
  /** Connections of TLS too. */
  readonly movesTls: boolean
  /** Under a keeper. */
  readonly isKept: boolean
  readonly clients: number
  readonly upgrades: number
  /** Of the program. */
  readonly node: string
}

export function isProved(
  rounds: readonly Measured[],
  { counts }: Tape,
  isComplete: boolean,
  webSockets?: Target,
): boolean {
  const hasAnswers = counts.answered > 0 && (webSockets === undefined || counts.pings > 0)
  return isComplete && hasAnswers && counts.failed === 0 && wrongIn(rounds) === 0
}

function wrongIn(rounds: readonly Measured[]): number {
  return rounds.filter(({ round }) => !round.isRight).length
}

export function tellVerdict(proof: Proof): void {
  print('')
  print(table(tableOf(proof)))
  print('')
  for (const line of explanation(proof)) print(line)
  const verdict = proof.isProved ? paint('green', 'proved') : paint('red', 'NOT PROVED')
  print(`${verdict}: ${factsText(proof)}`)
}

export function tellAsJson(proof: Proof, report: string | undefined): void {
  const { isProved, target, webSockets, tape, workers, counts } = proof
  const { pings, returned, ...asked } = counts
  printJson({
    ...{ isProved, url: target.text, workers, ...asked },
    ...(webSockets && { webSockets: { url: webSockets.text, pings, reconnected: returned } }),
    failures: Object.fromEntries(tape.failures),
    rounds: proof.rounds.map(({ round }) => round),
    ...(report !== undefined && { report }),
  })
}

export function factsText({ counts, rounds, webSockets }: Proof): string {
  const pings = webSockets === undefined ? [] : [`${counts.pings} pings answered`]
  return [
    `${counts.answered} requests answered`,
    ...pings,
    `${counts.failed} failed`,
    `${counts.reconnected} connections opened again`,
    `${wrongIn(rounds)} upgrades with a wrong result`,
  ].join(', ')
}

/** With its heads. */
export function tableOf({ rounds, webSockets }: Proof): readonly (readonly string[])[] {
  const pings = (text: string) => (webSockets === undefined ? [] : [text])
  const row = (round: Round, at: number) => [
    String(at + 1),
    round.kind,
    round.seconds.toFixed(2),
    round.isRight ? 'yes' : 'NO',
    String(round.answered),
    ...pings(String(round.pings)),
    String(round.failed),
    String(round.reconnected),
  ]
  return [
    ['', 'version', 'seconds', 'as expected', 'answered', ...pings('pings'), 'failed', 'reconnected'],
    ...rounds.map(({ round }, at) => row(round, at)),
  ]
}

/** What was not as it should, at which upgrade, and what that mostly comes from. */
export function explanation({ rounds, counts, tape, target, upgrades, movesTls }: Proof): string[] {
  const lines: string[] = []
  for (const [at, { round }] of rounds.entries()) {
    const { kind, isRight, said, failures } = round
    if (!isRight && kind === 'good')
      lines.push(`upgrade ${at + 1}: the same program did not start a second time: ${said}`)
    if (!isRight && kind !== 'good') {
      lines.push(
        `upgrade ${at + 1}: a version that ${kind} took over or disturbed the service: ${said}. Please report this`,
      )
    }
    for (const [why, count] of Object.entries(failures))
      lines.push(`upgrade ${at + 1} (${kind}): ${count} ${whatFails(why)} failed: ${why}`)
  }
  if (rounds.length < upgrades)
    lines.push(`${upgrades - rounds.length} upgrades were not tried: nothing answered anymore`)
  const inRounds = rounds.reduce((sum, { round }) => sum + round.failed, 0)
  if (counts.failed > inRounds) lines.push(`between the upgrades: ${counts.failed - inRounds} failed`)
  for (const why of tape.failures.keys()) lines.push(`${why}: ${meaningOf(why)}`)
  if (target.isTls && !movesTls && counts.reconnected > 0) lines.push(reconnectText(target, movesTls))
  return lines
}

function whatFails(why: string): string {
  return why.startsWith('WebSocket') ? 'WebSockets' : 'requests'
}

export function reconnectText({ isTls }: Target, movesTls: boolean): string {
  if (!isTls) return 'Connections move to the new version, and stay open.'
  return movesTls
    ? 'TLS 1.3 connections move to the new version, and stay open.'
    : 'Without --move-tls, TLS connections do not move: each client receives "Connection: close" and reconnects, once for each good upgrade.'
}
