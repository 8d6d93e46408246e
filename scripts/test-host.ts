/** Runs the tests that need a machine with a systemd of its own, whole; or others, by their names. */
process.env.COOK_TEST_HOST = '1'
if (process.argv.length === 2) process.argv.push('host-')
await import('./test.ts')
