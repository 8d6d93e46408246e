/** A program that is proved beside the service itself: on another port where its own is taken. */
import { isTcpPortTaken } from '../node/sockets.ts'
import { askOfListen } from './listen-arguments.ts'

/** Below the preload and the library, which know the listener by the port that it asked for. */
export function avoidTakenPorts(): void {
  const { prototype } = process.getBuiltinModule('node:net').Server
  const { listen } = prototype
  prototype.listen = function (this: object, ...args: readonly unknown[]) {
    const ask = askOfListen(args, (path) => path)
    const isTaken = ask?.kind === 'tcp' && ask.port !== 0 && isTcpPortTaken(ask.host, ask.port)
    return Reflect.apply(listen, this, isTaken ? onAnyPort(args) : args)
  } as typeof listen
}

function onAnyPort([first, ...rest]: readonly unknown[]): readonly unknown[] {
  return [typeof first === 'object' ? { ...first, port: 0 } : 0, ...rest]
}
