#!/usr/bin/env node
/** The command `cook-daemon`. */
import { runCommand } from './commands.ts'

// No process.exit(): what a slow reader has not read yet still arrives. No await here: this file is
// bundled as CommonJS.
void runCommand(process.argv.slice(2)).then((code) => {
  process.exitCode = code
})
