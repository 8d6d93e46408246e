/** What may be wrong with a service without anybody having done it to it: looked at when asked. */
import { resolve } from 'node:path'
import { envGracePeriod } from './contract/environment.ts'
import type { WarningRecord } from './contract/messages.ts'
import { statPath } from './node/stat.ts'
import { faultOfLog } from './process/log.ts'
import { readPid } from './process/pid-file.ts'
import type { Service } from './service.ts'

/** Warns of what is wrong now, and takes back what is in order again. */
export function lookAround(service: Service): void {
  setWarning(service, 'log', faultOfLog(service.state.logFile))
  setWarning(service, 'gracePeriod', faultOfGracePeriod(service))
  // That of a service with a keeper is not ours to look after.
  if (service.ownsNames && service.keeper === undefined) setWarning(service, 'pidFile', faultOfPidFile(service))
}

function faultOfGracePeriod({ state, lameDuck, drainTimeout }: Service): string | undefined {
  const { [envGracePeriod]: told } = state.environment
  if (told === undefined || told === '') return undefined
  const grace = Number(told)
  if (!(grace >= 0)) return `${envGracePeriod} must be a number of milliseconds, but is ${JSON.stringify(told)}`
  if (lameDuck + drainTimeout < grace) return undefined
  const parts =
    lameDuck > 0
      ? `a lame duck of ${lameDuck} ms and a drain timeout of ${drainTimeout} ms`
      : `a drain timeout of ${drainTimeout} ms`
  return `a stop may take ${parts}, but the process is killed after ${grace} ms (${envGracePeriod}): lower --lame-duck or --drain-timeout, or raise the grace period`
}

function faultOfPidFile({ options, pidFile, warnings }: Service): string | undefined {
  const file = pidFile ?? (options.pidFile && resolve(options.pidFile))
  return file === undefined ? undefined : pidFileFault(file, warnings.get('pidFile'))
}

/** `told`: what was wrong with it last. */
export function pidFileFault(file: string, told?: Pick<WarningRecord, 'text' | 'code'>): string | undefined {
  const pid = readPid(file)
  if (pid === process.pid) return undefined
  // That it could not be written says why.
  if (told?.code !== undefined) return told.text
  if (pid !== undefined) return `the pid file ${file} names pid ${pid}, not this process (pid ${process.pid})`
  try {
    const found = statPath(file)
    // Not to read it, as without a free descriptor, is not to miss it.
    if (found?.isFile === true && found.size > 0) return undefined
    return `the pid file ${file} ${found === undefined ? 'is gone' : 'contains no pid'}; the next upgrade writes it`
  } catch {
    // Its folder is not for us to enter: a program that has given up root.
    return undefined
  }
}

function setWarning(service: Service, about: string, text: string | undefined): void {
  if (text === undefined) service.warnings.clear(about)
  else if (service.warnings.get(about)?.text !== text) service.emit({ type: 'warning', about, text })
}
