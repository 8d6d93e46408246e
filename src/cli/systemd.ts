/** `systemd`: the units of a program, of a known service, or of those of a configuration. */
import { isConfigName } from '../config/find.ts'
import { messageOf } from '../errors.ts'
import { type Unit, type UnitFile, type UnitPlan, unitsOf } from '../host/unit.ts'
import { UnitFault } from '../host/unit-words.ts'
import { findDescribed } from './described.ts'
import { exitCodes, tell, UsageError } from './output.ts'
import { isServiceName, recordFor } from './start.ts'
import type { UnitOptions } from './unit-options.ts'
import { planOfKnown, planOfScript, plansOfFile } from './unit-plans.ts'
import { checkSockets } from './unit-sockets.ts'

export async function systemd(
  script: string | undefined,
  args: readonly string[],
  options: UnitOptions,
): Promise<number> {
  checkSockets(options.socket)
  const { plans, refused } = await plansMeant(script, args, options)
  const units = plans.map((plan): Unit => ({ plan, files: filesOf(plan) }))
  for (const text of refused) tell(new Error(text))
  if (options.install === true) {
    const code = await (await import('./unit-install.ts')).installUnits(units, options)
    return refused.length > 0 ? exitCodes.failed : code
  }
  const files = units.flatMap((unit) => unit.files)
  const texts = files.map(({ file, text }) => (files.length > 1 ? `# ${file}\n${text}` : text))
  process.stdout.write(texts.join('\n'))
  return refused.length > 0 ? exitCodes.failed : exitCodes.done
}

type Meant = { readonly plans: readonly UnitPlan[]; readonly refused: readonly string[] }

async function plansMeant(script: string | undefined, args: readonly string[], options: UnitOptions): Promise<Meant> {
  const { workers: _, ...others } = options
  const isOne = script !== undefined && !isConfigName(script)
  if (isOne) {
    const known = args.length === 0 && isServiceName(script) ? recordFor(script) : undefined
    const plan = known === undefined ? planOfScript(script, args, options) : planOfKnown(known, options)
    return { plans: [await plan], refused: [] }
  }
  const found = await findDescribed(script === undefined ? [] : [script, ...args], others)
  if (found !== undefined) return plansOfFile(found, options)
  throw new UsageError(
    'nothing to make a unit for: name a program or a service, or describe services in a cook.config.json',
  )
}

function filesOf(plan: UnitPlan): readonly UnitFile[] {
  try {
    return unitsOf(plan)
  } catch (error) {
    if (error instanceof UnitFault) throw new UsageError(messageOf(error))
    throw error
  }
}
