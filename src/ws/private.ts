/** The only file that touches private parts of `ws`. */
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { WebSocket, WebSocketServer } from 'ws'
import { CookError, messageOf } from '../errors.ts'

/** lib/websocket.js */
type PrivateWebSocket = {
  _socket: Duplex
  _receiver: Receiver
  _sender: Sender
  _extensions: Record<string, Deflate>
  _protocol: string
  _readyState: number
  setSocket(socket: Duplex, head: Buffer, options: object): void
}

/** lib/receiver.js, a Writable: state 0 waits for the first byte of a frame. */
type Receiver = {
  readonly _state: number
  readonly _bufferedBytes: number
  /** Opcode of a message of which some frames have come; 0: none. */
  readonly _fragmented: number
  readonly writableLength: number
}

/**
 * lib/sender.js: state 0 has nothing to compress or to read from a Blob. Every frame goes through
 * `sendFrame`.
 */
type Sender = {
  readonly _state: number
  readonly _queue: readonly unknown[]
  /** False between the frames of a message that the program sends in pieces. */
  readonly _firstFragment: boolean
  sendFrame(list: unknown, done: unknown): void
}

/**
 * lib/permessage-deflate.js: the two streams are made with the first message that is compressed in
 * their direction.
 */
type Deflate = { params: Record<string, unknown>; readonly _inflate: object | null; readonly _deflate: object | null }

/** lib/websocket-server.js */
type PrivateServer = {
  readonly options: object & {
    readonly WebSocket: new (address: null, protocols: undefined, options: object) => WebSocket
    readonly perMessageDeflate: object | false
  }
  _state: number
  readonly _shouldEmitClose?: boolean
  handleUpgrade(request: object, socket: Duplex, head: Buffer, done: () => void): void
}

/** What a connection has agreed on with its client, beside the bytes. */
export type Agreed = {
  readonly protocol: string
  /** Parameters of permessage-deflate; undefined: no compression. */
  readonly deflate: Record<string, unknown> | undefined
}

/** What `ws` listens to on a socket: the same functions for each. */
type Listeners = readonly (readonly [event: string, listener: (...args: unknown[]) => void])[]

/** Where a connection stands: it can move now, after the next message or frame, or never. */
export type Standing = 'free' | 'busy' | 'stuck'

const deflateName = 'permessage-deflate'
const nothing = Buffer.alloc(0)

export class WsInside {
  readonly #server: WebSocketServer
  readonly #listeners: Listeners

  /**
   * Throws `ERR_COOK_WS` for a `ws` that is built otherwise than those we know: 8.18 and later ones
   * of 8.
   */
  constructor(server: WebSocketServer) {
    this.#server = server
    this.#listeners = probe(server)
  }

  socketOf(webSocket: WebSocket): Socket {
    return inside(webSocket)._socket as Socket
  }

  /** `carries` says of a connection whether it moves at all. */
  standing(webSocket: WebSocket, carries: (socket: Socket) => boolean): Standing {
    const { _socket, _receiver, _extensions } = inside(webSocket)
    const deflate = _extensions[deflateName]
    const isKnown = _socket instanceof process.getBuiltinModule('node:net').Socket || 'encrypted' in _socket
    const mayMove = isKnown && carries(_socket as Socket)
    if (!mayMove || (deflate !== undefined && hasContext(deflate))) return 'stuck'
    const hasRead = _receiver._state === 0 && _receiver._bufferedBytes === 0 && _receiver.writableLength === 0
    const isBetween = hasRead && _receiver._fragmented === 0 && _socket.readableLength === 0
    return isBetween && isWritten(webSocket) ? 'free' : 'busy'
  }

  /** Calls back after each frame that is sent from now on. Returns the function that ends it. */
  watchFrames(webSocket: WebSocket, onFrame: () => void): () => void {
    const { _sender } = inside(webSocket)
    const { sendFrame } = _sender
    _sender.sendFrame = function (list, done) {
      sendFrame.call(this, list, done)
      onFrame()
    }
    return () => Reflect.deleteProperty(_sender, 'sendFrame')
  }

  /** Calls back when everything that was sent is with the kernel, if anything waits for that. */
  whenWritten(webSocket: WebSocket, then: () => void): void {
    const { _socket } = inside(webSocket)
    // Behind all the others.
    if (_socket.writableLength > 0 && _socket.writable) _socket.write('', () => then())
  }

  agreed(webSocket: WebSocket): Agreed {
    return { protocol: webSocket.protocol, deflate: inside(webSocket)._extensions[deflateName]?.params }
  }

  /**
   * Parts a connection from its socket: it is closed for the program from now on, without a word to
   * the client, and out of the server's list.
   */
  detach(webSocket: WebSocket): void {
    const own = inside(webSocket)
    for (const [event, listener] of this.#listeners) own._socket.removeListener(event, listener)
    // What happens to the husk that is left here is nobody's business.
    own._socket.on('error', () => {})
    own._readyState = webSocket.CLOSED
    this.#forget(webSocket)
  }

  /**
   * Builds a connection on a socket that was handed over, as `completeUpgrade` does after the
   * handshake, and puts it in the server's list.
   */
  attach(socket: Socket, { protocol, deflate }: Agreed): WebSocket {
    const { options } = this.#server as unknown as PrivateServer
    const webSocket = new options.WebSocket(null, undefined, options)
    const own = inside(webSocket)
    own._protocol = protocol
    if (deflate !== undefined) own._extensions = { [deflateName]: this.#makeDeflate(deflate) }
    own.setSocket(socket, nothing, options)
    // Undefined with `clientTracking: false`, whatever the types say.
    const clients = this.#server.clients as Set<WebSocket> | undefined
    clients?.add(webSocket)
    webSocket.on('close', () => this.#forget(webSocket))
    return webSocket
  }

  /** One that was detached goes on here after all, as if nothing had been. */
  attachAgain(webSocket: WebSocket): void {
    const own = inside(webSocket)
    Reflect.deleteProperty(webSocket, 'send')
    own._readyState = webSocket.OPEN
    const clients = this.#server.clients as Set<WebSocket> | undefined
    clients?.add(webSocket)
    for (const [event, listener] of this.#listeners) own._socket.on(event, listener)
    if (!webSocket.isPaused) own._socket.resume()
  }

  /** Calls back when the program sends something on one that was detached: `ws` drops it. */
  watchLateSends(webSocket: WebSocket, onSend: () => void): void {
    const { send } = webSocket
    webSocket.send = function (this: WebSocket, ...args: unknown[]) {
      onSend()
      Reflect.apply(send, this, args)
    } as WebSocket['send']
  }

  #forget(webSocket: WebSocket): void {
    const server = this.#server as unknown as PrivateServer
    const clients = this.#server.clients as Set<WebSocket> | undefined
    if (clients?.delete(webSocket) !== true || clients.size > 0 || server._shouldEmitClose !== true) return
    // lib/websocket-server.js, emitClose: close() was called, and this was the last one.
    process.nextTick(() => {
      server._state = 2
      this.#server.emit('close')
    })
  }

  /**
   * The class is not to be had from a server, and an import of `ws` may be another copy: the
   * server's own handshake makes one, and is stopped there.
   */
  #makeDeflate(params: Record<string, unknown>): Deflate {
    const { options, handleUpgrade } = this.#server as unknown as PrivateServer
    const anyOffer = {
      serverNoContextTakeover: undefined,
      clientNoContextTakeover: undefined,
      serverMaxWindowBits: undefined,
      clientMaxWindowBits: undefined,
    }
    const perMessageDeflate = { ...(options.perMessageDeflate || {}), ...anyOffer }
    let made: Deflate | undefined
    const server = Object.create(this.#server, {
      options: { value: { ...options, perMessageDeflate, verifyClient: null } },
      shouldHandle: { value: () => true },
      completeUpgrade: {
        value: (extensions: Record<string, Deflate>) => {
          made = extensions[deflateName]
        },
      },
    })
    const headers = {
      upgrade: 'websocket',
      'sec-websocket-key': `${'a'.repeat(22)}==`,
      'sec-websocket-version': '13',
      'sec-websocket-extensions': deflateName,
    }
    handleUpgrade.call(server, { method: 'GET', headers }, emptyDuplex(), nothing, () => {})
    if (made === undefined) throw new CookError('ERR_COOK_WS', { why: 'its compression cannot be rebuilt' })
    made.params = params
    return made
  }
}

/** The request that opened a connection, as far as it can cross. */
export type RequestParts = {
  readonly url: string
  readonly method: string
  readonly headers: Record<string, unknown>
  readonly rawHeaders: readonly string[]
}

export function requestParts({ url = '', method = '', headers, rawHeaders }: IncomingMessage): RequestParts {
  return { url, method, headers: { ...headers }, rawHeaders }
}

export function buildRequest(socket: Socket, parts: RequestParts | undefined): IncomingMessage {
  const { IncomingMessage: Request } = process.getBuiltinModule('node:http')
  return Object.assign(new Request(socket), { httpVersion: '1.1', complete: true }, parts)
}

function inside(webSocket: WebSocket): PrivateWebSocket {
  return webSocket as unknown as PrivateWebSocket
}

function isWritten(webSocket: WebSocket): boolean {
  const { _socket, _sender } = inside(webSocket)
  return _sender._state === 0 && _sender._queue.length === 0 && _sender._firstFragment && _socket.writableLength === 0
}

/**
 * Whether what comes next can only be read by who has seen what came before. Without a stream
 * nothing was compressed yet in that direction.
 */
function hasContext({ params, _inflate, _deflate }: Deflate): boolean {
  const hasRead = _inflate !== null && params.client_no_context_takeover !== true
  return hasRead || (_deflate !== null && params.server_no_context_takeover !== true)
}

/**
 * Builds a connection on nothing, looks whether everything that we touch is there, and keeps what
 * it listens to.
 */
function probe(server: WebSocketServer): Listeners {
  try {
    const { options, handleUpgrade, _state } = server as unknown as PrivateServer
    const duplex = emptyDuplex()
    const before = new Set(duplex.eventNames().flatMap((event) => duplex.listeners(event)))
    const webSocket = new options.WebSocket(null, undefined, options)
    inside(webSocket).setSocket(duplex, nothing, options)
    const { _socket, _receiver, _sender, _extensions, _protocol, _readyState } = inside(webSocket)
    const numbers = [
      _state,
      _receiver._state,
      _receiver._bufferedBytes,
      _receiver._fragmented,
      _receiver.writableLength,
    ]
    const isKnown =
      [...numbers, _sender._state].every((value) => value === 0) &&
      Array.isArray(_sender._queue) &&
      _sender._firstFragment === true &&
      typeof _sender.sendFrame === 'function' &&
      typeof handleUpgrade === 'function' &&
      typeof _extensions === 'object' &&
      _protocol === '' &&
      _readyState === webSocket.OPEN &&
      _socket === duplex
    if (!isKnown) throw new Error('a private part of it is missing or has changed')
    const listeners = duplex
      .eventNames()
      .flatMap((event) => duplex.listeners(event).map((listener) => [String(event), listener as () => void] as const))
      .filter(([, listener]) => !before.has(listener))
    const events = listeners.map(([event]) => event).sort()
    if (events.join() !== 'close,data,end,error') throw new Error(`it listens to ${events.join(', ')}`)
    return listeners
  } catch (cause) {
    throw new CookError('ERR_COOK_WS', { why: messageOf(cause) }, { cause })
  }
}

function emptyDuplex(): Duplex {
  const { Duplex: Stream } = process.getBuiltinModule('node:stream')
  return new Stream({ read() {}, write: (_chunk, _encoding, done) => done() })
}
