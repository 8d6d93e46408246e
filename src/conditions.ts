/** What may be wrong with a service without anybody having done it to it: looked at when asked. */
import { resolve } from 'node:path'
import { faultOfLog } from './process/log.ts'
import { readPid } from './process/pid-file.ts'
import type { Service } from './service.ts'

/** Warns of what is wrong now, and takes back what is in order again. */
export function lookAround(service: Service): void {
  setWarning(service, 'log', faultOfLog(service.state.logFile))
  if (service.ownsNames) setWarning(service, 'pidFile', faultOfPidFile(service))
}

function faultOfPidFile({ options, pidFile, warnings }: Service): string | undefined {
  const file = pidFile ?? (options.pidFile && resolve(options.pidFile))
  if (file === undefined) return undefined
  const pid = readPid(file)
  if (pid === process.pid) return undefined
  // That it could not be written says why.
  const told = warnings.get('pidFile')
  if (told?.code !== undefined) return told.text
  return pid === undefined
    ? `the pid file ${file} is gone, or has no pid in it; the next upgrade writes it`
    : `the pid file ${file} names pid ${pid}, not this process (pid ${process.pid})`
}

function setWarning(service: Service, about: string, text: string | undefined): void {
  if (text === undefined) service.warnings.clear(about)
  else if (service.warnings.get(about)?.text !== text) service.emit({ type: 'warning', about, text })
}
