/** Before a program that is proved: its answers are marked, and it meets no port that is taken. */
import { envProveVersion } from '../contract/environment.ts'
import { markAnswers } from './mark-answers.ts'
import { avoidTakenPorts } from './taken-ports.ts'

const version = process.env[envProveVersion]
// Its children are no versions of it.
delete process.env[envProveVersion]

if (version !== undefined) {
  avoidTakenPorts()
  if (version !== '') markAnswers(version)
}
