/** The kernel's table of Unix sockets. */

const { closeSync, openSync, readSync } = process.getBuiltinModule('node:fs')

/** So much of the kernel's table of Unix sockets is read at most, about 4,000 of them: its length must not slow an upgrade down. */
const mostOfTable = 256 * 1024

/** A Unix socket by its inode, as /proc/net/unix tells it (proc_net(5)); undefined if it is not there, or there is no such table. */
export function unixSocketOf(inode: number): { readonly isListening: boolean; readonly path: string } | undefined {
  if (process.platform !== 'linux') return undefined
  let fd: number
  try {
    fd = openSync('/proc/net/unix', 'r')
  } catch {
    // A system without it: nothing is known.
    return undefined
  }
  try {
    const line = new RegExp(`^\\S+ \\S+ \\S+ (\\S+) \\S+ \\S+ +${inode}(?: (.*))?\\n`, 'm')
    const bytes = Buffer.alloc(mostOfTable)
    for (let end = 0; ; ) {
      const count = readSync(fd, bytes, end, bytes.length - end, null)
      const [isThere, flags = '', path = ''] =
        line.exec(bytes.toString('utf8', end === 0 ? 0 : Math.max(0, end - 512), end + count)) ?? []
      // __SO_ACCEPTCON of the kernel.
      if (isThere !== undefined) return { isListening: (Number.parseInt(flags, 16) & 0x10000) !== 0, path }
      end += count
      if (count === 0 || end === bytes.length) return undefined
    }
  } finally {
    closeSync(fd)
  }
}
