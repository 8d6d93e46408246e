/** The fault matrix */
export const steps = ['spawn', 'boot', 'hello', 'claim', 'listen', 'state', 'done', 'handover', 'drain', 'exit'] as const
export type Step = (typeof steps)[number]
export const faults = ['SIGKILL', 'SIGSTOP', 'exit 0', 'exit 1', 'exception', 'loop', 'descriptors', 'disk', 'link', 'garbage', 'slow'] as const
export type Fault = (typeof faults)[number]
export type Side = 'old' | 'new'
export type Outcome = { readonly upgrade: string; readonly events: readonly string[]; clients: string }
export type Cell = { readonly step: Step; readonly fault: Fault; readonly side: Side; readonly stage?: 'daemon' | 'parent'; readonly serves: Side; readonly waits?: boolean; readonly boots?: boolean }
