/** What holds where nothing else is said; times in milliseconds. */

export const defaults = {
  readyTimeout: 60_000,
  drainTimeout: 30_000,
  stateTimeout: 10_000,
  maxGenerations: 4,
  upgradeSignal: 'SIGUSR2',
  stopSignals: ['SIGTERM', 'SIGINT'],
} as const
