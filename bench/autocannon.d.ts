/** What the benchmarks use of autocannon, which brings no types. */
declare module 'autocannon' {
  export default function autocannon(options: {
    readonly url: string
    readonly connections: number
    readonly amount: number
    /** Milliseconds; a run ends at the end of one. */
    readonly sampleInt: number
  }): Promise<{ readonly errors: number; readonly non2xx: number; readonly latency: { readonly p99: number } }>
}
