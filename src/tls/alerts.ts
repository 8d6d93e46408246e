/** Alerts (RFC 8446, 6), and the errors that a program sees, as Node makes them of OpenSSL's. */

export const alert = {
  closeNotify: 0,
  unexpectedMessage: 10,
  badRecordMac: 20,
  recordOverflow: 22,
  illegalParameter: 47,
  decodeError: 50,
  userCanceled: 90,
} as const

/** What a client must not do: the alert that it gets, and OpenSSL's word for it. */
export type Fault = { readonly alert: number; readonly reason: string }

// What an OpenSSL gives for what is sent to it after a handshake (measured, 3.0 and 3.5).
export const faults = {
  wrongVersion: { alert: alert.decodeError, reason: 'WRONG_VERSION_NUMBER' },
  badRecordType: { alert: alert.unexpectedMessage, reason: 'BAD_RECORD_TYPE' },
  tooLong: { alert: alert.recordOverflow, reason: 'ENCRYPTED_LENGTH_TOO_LONG' },
  contentTooLong: { alert: alert.recordOverflow, reason: 'DATA_LENGTH_TOO_LONG' },
  doesNotOpen: { alert: alert.badRecordMac, reason: 'DECRYPTION_FAILED_OR_BAD_RECORD_MAC' },
  tooManyEmpty: { alert: alert.unexpectedMessage, reason: 'RECORD_TOO_SMALL' },
  emptyMessage: { alert: alert.unexpectedMessage, reason: 'BAD_LENGTH' },
  mixed: { alert: alert.unexpectedMessage, reason: 'MIXED_HANDSHAKE_AND_NON_HANDSHAKE_DATA' },
  unexpectedRecord: { alert: alert.unexpectedMessage, reason: 'UNEXPECTED_RECORD' },
  invalidAlert: { alert: alert.unexpectedMessage, reason: 'INVALID_ALERT' },
  tooManyWarnings: { alert: alert.unexpectedMessage, reason: 'TOO_MANY_WARN_ALERTS' },
  unexpectedMessage: { alert: alert.unexpectedMessage, reason: 'UNEXPECTED_MESSAGE' },
  messageTooLong: { alert: alert.illegalParameter, reason: 'EXCESSIVE_MESSAGE_SIZE' },
  notAtEndOfRecord: { alert: alert.unexpectedMessage, reason: 'NOT_ON_RECORD_BOUNDARY' },
  emptyKeyUpdate: { alert: alert.decodeError, reason: 'BAD_KEY_UPDATE' },
  badKeyUpdate: { alert: alert.illegalParameter, reason: 'BAD_KEY_UPDATE' },
} as const satisfies Record<string, Fault>

/** Those that SSL 3 had already are called so by OpenSSL. */
const sslv3: Readonly<Record<number, string>> = {
  10: 'UNEXPECTED_MESSAGE',
  20: 'BAD_RECORD_MAC',
  30: 'DECOMPRESSION_FAILURE',
  40: 'HANDSHAKE_FAILURE',
  42: 'BAD_CERTIFICATE',
  43: 'UNSUPPORTED_CERTIFICATE',
  44: 'CERTIFICATE_REVOKED',
  45: 'CERTIFICATE_EXPIRED',
  46: 'CERTIFICATE_UNKNOWN',
  47: 'ILLEGAL_PARAMETER',
}
const tlsv1: Readonly<Record<number, string>> = {
  21: 'DECRYPTION_FAILED',
  22: 'RECORD_OVERFLOW',
  48: 'UNKNOWN_CA',
  49: 'ACCESS_DENIED',
  50: 'DECODE_ERROR',
  51: 'DECRYPT_ERROR',
  70: 'PROTOCOL_VERSION',
  71: 'INSUFFICIENT_SECURITY',
  80: 'INTERNAL_ERROR',
  86: 'INAPPROPRIATE_FALLBACK',
}

export function faultError({ reason }: Fault): Error {
  return sslError(reason, 'the client violated the TLS protocol, and its connection was closed')
}

/** The client has ended the connection with an alert. */
export function alertError(number: number): Error {
  const name = sslv3[number] ?? tlsv1[number] ?? `NUMBER_${number}`
  const reason = `${number in sslv3 ? 'SSLV3' : 'TLSV1'}_ALERT_${name}`
  return sslError(reason, 'the client closed its TLS connection with an alert')
}

/** Programs sort by the code, and know Node's. */
function sslError(name: string, what: string): Error {
  const reason = name.toLowerCase().replaceAll('_', ' ')
  return Object.assign(new Error(`${what}: ${reason}`), { library: 'SSL routines', reason, code: `ERR_SSL_${name}` })
}
