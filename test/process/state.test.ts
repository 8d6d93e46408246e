/**
 * State that goes from the old version to the new one: asked for before ready(), and what onRelease
 * returns.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { beginReplace, drained, type Program, replace } from '../support/daemons.ts'
import { HttpConnection } from '../support/http-connection.ts'
import { Lab, type Puppet } from '../support/lab.ts'

test('values of every kind that can be cloned arrive as they were', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ start }) => {
    const loop: Record<string, unknown> = { name: 'loop' }
    loop.self = loop
    const all = {
      simple: [1, -0, Number.NaN, 2n ** 70n, 'ünïcode 🙂', true, null, undefined],
      date: new Date(1_700_000_000_000),
      map: new Map<unknown, unknown>([[{ a: 1 }, new Set([1, 'two'])]]),
      bytes: Buffer.from([0, 255, 128]),
      floats: new Float64Array([1.5, Number.POSITIVE_INFINITY]),
      pattern: /a+b/giu,
      error: new RangeError('out of it'),
      loop,
    }
    return start({ saveState: { all: { save: () => all } } })
  })
  const young = await replace(lab, old, async ({ open, kept }) => {
    const daemon = await open()
    kept.all = await daemon.inherited('all')
    await daemon.ready()
  })
  const same = await young.run(({ kept }) => {
    const { isDeepStrictEqual } = process.getBuiltinModule('node:util')
    const all = kept.all as Record<string, unknown> & { bytes: Uint8Array; loop: { self: unknown } }
    return {
      simple: isDeepStrictEqual(all.simple, [1, -0, Number.NaN, 2n ** 70n, 'ünïcode 🙂', true, null, undefined]),
      date: isDeepStrictEqual(all.date, new Date(1_700_000_000_000)),
      map: isDeepStrictEqual(all.map, new Map<unknown, unknown>([[{ a: 1 }, new Set([1, 'two'])]])),
      bytes: isDeepStrictEqual([...all.bytes], [0, 255, 128]),
      floats: isDeepStrictEqual(all.floats, new Float64Array([1.5, Number.POSITIVE_INFINITY])),
      pattern: isDeepStrictEqual(all.pattern, /a+b/giu),
      error: String(all.error) === 'RangeError: out of it',
      loop: all.loop.self === all.loop,
    }
  })
  for (const [kind, isSame] of Object.entries(same)) assert.equal(isSame, true, kind)
})

test('state of 1 byte to 64 MiB arrives whole, while the old version serves', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const sizes = [1, 262_143, 262_144, 1_000_000, 64 * 1024 * 1024 - 64]
  const port = await old.run(({ start }, all) => {
    const bytes = (size: number) => Buffer.alloc(size, 'cook-daemon')
    return start({ saveState: Object.fromEntries(all.map((size) => [`s${size}`, { save: () => bytes(size) }])) })
  }, sizes)
  const { young, upgrading } = await beginReplace(lab, old)
  const reading = young.run(async ({ open, listen }, all) => {
    const daemon = await open()
    const arrived: boolean[] = []
    for (const size of all) {
      const value = (await daemon.inherited(`s${size}`)) as Uint8Array
      arrived.push(Buffer.alloc(size, 'cook-daemon').equals(value))
    }
    await listen()
    await daemon.ready()
    return arrived
  }, sizes)
  const client = await HttpConnection.open(port)
  assert.equal((await client.ask()).body, String(old.pid))
  assert.deepEqual(
    await reading,
    sizes.map(() => true),
  )
  await upgrading
})

test('two questions for one name at once get one answer each', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ start }) => start({ saveState: { big: { save: () => 'x'.repeat(2_000_000) } } }))
  const { young, upgrading } = await beginReplace(lab, old)
  const lengths = await young.run(async ({ open, kept }) => {
    const daemon = await open()
    const values = await Promise.all([daemon.inherited('big'), daemon.inherited('big')])
    kept.values = values
    await daemon.ready()
    return values.map((value) => String(value).length)
  })
  assert.deepEqual(lengths, [2_000_000, 2_000_000])
  await upgrading
})

test('state has the version that the program gave it, and a new version that cannot read it fails alone', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => start({ saveState: { sessions: { version: 3, save: () => ['ann'] } } }))
  const { young, upgrading } = await beginReplace(lab, old)
  await assert.rejects(
    young.run(async ({ open }) => (await open()).inherited('sessions', { versions: [1, 2] })),
    { code: 'ERR_COOK_STATE_VERSION', message: /the state sessions has version 3, but this program reads 1, 2/ },
  )
  young.run(() => process.exit(1)).catch(() => {})
  await assert.rejects(upgrading, { code: 'ERR_COOK_SUCCESSOR_EXITED' })
  assert.equal(await answerOf(port), String(old.pid))
  const next = await beginReplace(lab, old)
  const value = await next.young.run(async ({ open }) => (await open()).inherited('sessions', { versions: [2, 3] }))
  assert.deepEqual(value, ['ann'])
  await next.young.run(({ kept }) => kept.daemon?.ready())
  await next.upgrading
})

test('state that cannot be handed over is told with its reason, and the new version can go on without it', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start }) => {
    const saveState = {
      good: { save: () => 'good' },
      uncloneable: { save: () => () => {} },
      large: { save: () => Buffer.alloc(64 * 1024 * 1024) },
      broken: {
        save() {
          throw new Error('the database is gone')
        },
      },
      rejected: { save: () => Promise.reject(new Error('no answer')) },
      slow: { save: () => new Promise(() => {}) },
    }
    return start({ stateTimeout: 200, saveState })
  })
  const { young, upgrading } = await beginReplace(lab, old)
  await young.run(({ open }) => open().then(() => {}))
  const faults: Readonly<Record<string, RegExp>> = {
    uncloneable:
      /^the state uncloneable cannot be handed over: it cannot be cloned: \(\) => \{\s*\} could not be cloned/,
    large: /^the state large cannot be handed over: it has 671\d+ bytes; at most 67108864 are allowed/,
    broken: /^the state broken cannot be handed over: the database is gone$/,
    rejected: /^the state rejected cannot be handed over: no answer$/,
    slow: /^the state slow cannot be handed over: its save\(\) took longer than 200 ms$/,
  }
  for (const [name, message] of Object.entries(faults)) {
    await assert.rejects(inherited(young, name), { code: 'ERR_COOK_STATE', message })
  }
  await assert.rejects(inherited(young, 'toString'), {
    code: 'ERR_COOK_STATE_NAME',
    message: /no state named toString; it has: good, uncloneable, large, broken, rejected, slow$/,
  })
  assert.equal(await inherited(young, 'good'), 'good')
  await young.run(async ({ listen, kept }) => {
    await listen()
    await kept.daemon?.ready()
  })
  await upgrading
  await assert.rejects(inherited(young, 'good'), { code: 'ERR_COOK_STATE_LATE' })
  assert.equal(await answerOf(port), String(young.pid))
})

test('without a predecessor, or with one that saves nothing, there is no state', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const seen = await old.run(async ({ open, kept }) => {
    const daemon = await open()
    const value = await daemon.inherited('sessions')
    await daemon.ready()
    kept.value = value
    return value === undefined
  })
  assert.equal(seen, true)
  const { young, upgrading } = await beginReplace(lab, old)
  assert.equal(await young.run(async ({ open }) => (await (await open()).inherited('sessions')) === undefined), true)
  await young.run(({ kept }) => kept.daemon?.ready())
  await upgrading
})

test('a predecessor that is killed while it is asked leaves no state, and the new version serves', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  const port = await old.run(({ start, tell }) =>
    start({
      saveState: {
        slow: {
          save() {
            tell('asked')
            return new Promise(() => {})
          },
        },
      },
    }),
  )
  const { young } = await beginReplace(lab, old)
  const starting = young.run(async ({ open, listen }) => {
    const daemon = await open()
    const value = await daemon.inherited('slow')
    await listen()
    await daemon.ready()
    return value === undefined
  })
  await old.event('asked')
  old.kill('SIGKILL')
  assert.equal(await starting, true)
  assert.equal(await answerOf(port), String(young.pid))
})

// ---------------------------------------------------------------------------------------------- onRelease, onTakeover

test('onTakeover gets undefined in the first generation, and then what onRelease of the old one returned', async () => {
  await using lab = await Lab.open()
  let puppet = await lab.start()
  await puppet.run(singleton)
  assert.equal(await puppet.event('takes over'), 'undefined')
  for (let generation = 2; generation <= 3; generation++) {
    const old = puppet
    puppet = await replace(lab, old, singleton)
    assert.equal(await puppet.event('takes over'), `{"last":${generation - 1}}`)
    await drained(old)
  }
})

const singleton: Program = ({ start, tell, kept }) =>
  start({
    onRelease: async () => {
      await new Promise((done) => setTimeout(done, 50))
      tell('releases')
      return { last: kept.daemon?.generation }
    },
    onTakeover: (value) => tell('takes over', JSON.stringify(value) ?? 'undefined'),
  })

test('what runs once runs never twice: the old version has released before the new one takes over', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ start, fs }) =>
    start({
      onRelease: async () => {
        await new Promise((done) => setTimeout(done, 300))
        fs.appendFileSync('order', 'released\n')
      },
    }),
  )
  const young = await replace(lab, old, ({ start, fs, tell }) =>
    start({
      onTakeover: () => {
        fs.appendFileSync('order', 'taken over\n')
        tell('takes over')
      },
    }),
  )
  await young.event('takes over')
  assert.equal(lab.read('order'), 'released\ntaken over\n')
})

test('what onRelease returns and cannot be cloned is told, and onTakeover gets undefined', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ start }) => start({ onRelease: () => () => {} }))
  const young = await replace(lab, old, ({ start, tell }) =>
    start({ onTakeover: (value) => tell('takes over', String(value)) }),
  )
  const { hook, error } = (await old.event('hook-failed')) as { hook: string; error: string }
  assert.equal(hook, 'onRelease')
  assert.match(error, /cannot be cloned/)
  assert.equal(await young.event('takes over'), 'undefined')
})

test('when the old version is killed before it has released, onTakeover is called all the same', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ start, tell }) =>
    start({
      onRelease() {
        tell('releases')
        return new Promise(() => {})
      },
    }),
  )
  const young = await replace(lab, old, ({ start, tell }) =>
    start({ onTakeover: (value) => tell('takes over', String(value)) }),
  )
  await old.event('releases')
  assert.equal(
    young.events.some(({ event }) => event === 'takes over'),
    false,
  )
  old.kill('SIGKILL')
  assert.equal(await young.event('takes over'), 'undefined')
})

test('an onRelease that never returns holds the old version no longer than drainTimeout', async () => {
  await using lab = await Lab.open()
  const old = await lab.start()
  await old.run(({ serve }) => serve({ drainTimeout: 500, onRelease: () => new Promise(() => {}) }))
  const young = await replace(lab, old, ({ serve, tell }) =>
    serve({ onTakeover: (value) => tell('takes over', String(value)) }),
  )
  assert.equal(await young.event('takes over'), 'undefined')
  await old.gone
})

function inherited(puppet: Puppet, name: string): Promise<unknown> {
  return puppet.run(({ kept }, asked) => kept.daemon?.inherited(asked), name)
}

async function answerOf(port: number): Promise<string> {
  const connection = await HttpConnection.open(port)
  const { body } = await connection.ask()
  connection.socket.destroy()
  return body
}
