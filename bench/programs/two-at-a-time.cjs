// Loaded before a server: connections move two at a time, by the queue of Node, as before there was
// a window. The library falls back to it where Node's channel does not look as expected.
const { ChildProcess } = require('node:child_process')

const { spawn } = ChildProcess.prototype
ChildProcess.prototype.spawn = function (...args) {
  const result = spawn.apply(this, args)
  if (this.channel) this._pendingMessage = undefined
  return result
}
