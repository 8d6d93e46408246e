/** Starts a program, and at once again whenever it has ended, as a unit with Restart=always. */
import { spawn } from 'node:child_process'

const [, , program = ''] = process.argv
let child = start()
process.once('SIGTERM', () => {
  child.removeAllListeners('exit')
  child.kill('SIGKILL')
  process.exit()
})

function start() {
  return spawn(process.execPath, [program], { stdio: ['ignore', 'inherit', 'inherit'] }).once('exit', () => {
    child = start()
  })
}
