/**
 * Imported first by each benchmark: what this machine may have set, and slows every start of Node
 * down.
 */

/** The environment as it was, for what fetches from a registry. */
export const environmentToFetch = { ...process.env }

// Each process would read and parse all of those certificates before its first line: 40 ms, twice
// as long as the rest of its start (measured).
delete process.env.NODE_EXTRA_CA_CERTS
