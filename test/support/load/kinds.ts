/** What a load counts: the kinds of requests and of failures. */

export const requestKinds = [
  'small', // GET, 1 to 1,000 bytes
  'large', // GET, 1 byte to 1 MB
  'chunked', // the same, in up to 8 pieces of unknown length in all
  'post', // a body of 1 byte to 1 MB, its checksum is answered
  'late', // GET, answered only after a while
  'pipelined', // three GETs in one write
  'byteByByte', // GET, each byte in a write of its own
  'inSevens', // the same 7 bytes at a time, with a body of up to 500 bytes
  'slowReader', // GET, 1 MB, read with pauses
  'message', // of a WebSocket
] as const
export type RequestKind = (typeof requestKinds)[number]

export const failureKinds = [
  'refused', // nobody accepts
  'reset', // ECONNRESET or EPIPE, at any time; one that comes together with bytes is an end to libuv, hence `half` or `closed`
  'closed', // closed with a request open and nothing of its answer sent; of a WebSocket: closed at all
  'closedIdle', // closed between two requests, without a word: no request lost, but the connection
  'toldToClose', // an answer asked the client to leave (Connection: close): the same
  'half', // closed in the middle of an answer
  'wrongBytes', // an answer that is not the one asked for, or no HTTP
  'wrongOrder', // the answer to another request of this connection; of a WebSocket: one that overtook another
  'wrongStatus', // anything but 200
  'unasked', // an answer to no request
  'late', // no answer until the deadline
  'lost', // WebSocket: a later message was answered, this one was not, or the connection ended before
  'doubled', // WebSocket: answered again
  'wrongState', // WebSocket: the server's counter of this connection is not what it must be
  'other', // an error of the system, told in `faults`
] as const
export type FailureKind = (typeof failureKinds)[number]
