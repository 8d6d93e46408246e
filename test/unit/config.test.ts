/** What a configuration file says, in our own form and in PM2's: pure reading and mapping. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { serviceFields } from '../../src/config/fields.ts'
import { commandOf } from '../../src/config/package-script.ts'
import { pm2Fields } from '../../src/config/pm2-fields.ts'
import { readConfiguration } from '../../src/config/read.ts'
import { configSchema } from '../../src/config/schema.ts'
import { ConfigFault, type RefusedService, type ServiceConfig } from '../../src/config/service.ts'
import { wordsOf } from '../../src/config/words.ts'

const root = new URL('../../../', import.meta.url)
const scripts = {
  start: 'node --enable-source-maps dist/main.js --port 80',
  prod: 'cross-env NODE_ENV=production node server.js',
  serve: 'npm run prod',
  next: 'next start',
  shell: 'node a.js && node b.js',
  round: 'npm run round',
}
const around = { folder: '/srv/app', home: '/home/me', cores: 4, packageIn: () => ({ scripts }) }

function read(value: unknown) {
  return readConfiguration(value, around)
}

/** The only app of a file of PM2's. */
function app(fields: object): Partial<ServiceConfig & RefusedService> & { readonly notes: readonly string[] } {
  const { services, notes } = read({ apps: [{ name: 'web', script: 'app.js', ...fields }] })
  return { ...services[0], notes }
}

const everyField = {
  ...{ name: 'web', script: 'app.js', args: ['--port', '80'], cwd: 'current', node: '/usr/bin/node' },
  ...{ nodeArgs: ['--import=tsx'], workers: 'max', env: { PORT: 80 }, environments: { production: { DEBUG: false } } },
  ...{ log: 'web.log', logMaxSize: '50M', logKeep: 14, pidFile: 'web.pid', waitReady: true, noListen: false },
  ...{
    keep: true,
    moveConnections: false,
    moveTls: true,
    moveTlsFor: 8,
    readyTimeout: 1,
    drainTimeout: 2,
    lameDuck: 7,
    admin: '0.0.0.0:9464',
    overlap: 3,
    hangTimeout: 4,
    maxMemory: '1G',
    uid: 'www-data',
    gid: 33,
  },
}

test('a service may have every field, and is read as what the command line takes', () => {
  assert.deepEqual(Object.keys(everyField), Object.keys(serviceFields))
  const { services, notes } = read({ $schema: 'x', services: [everyField] })
  const { env, environments, logMaxSize, maxMemory, ...others } = everyField
  const sizes = { logMaxSize: 50 * 2 ** 20, maxMemory: 2 ** 30 }
  const texts = { env: { PORT: '80' }, environments: { production: { DEBUG: 'false' } } }
  assert.deepEqual(services, [{ ...others, ...texts, ...sizes }])
  assert.deepEqual(notes, [])
})

test('a service without a name has that of its script', () => {
  assert.deepEqual(read({ services: [{ script: 'dist/jobs.mjs' }] }).services, [
    { name: 'jobs', script: 'dist/jobs.mjs' },
  ])
})

test('what is wrong in a file is said with its service and its field', () => {
  const wrong: readonly (readonly [value: unknown, why: RegExp])[] = [
    [5, /is not an object with a list of services/],
    [{}, /neither services nor apps/],
    [{ services: {} }, /services must be an array/],
    [{ services: [] }, /it has no service/],
    [{ services: [], servces: [] }, /servces is not a field/],
    [{ services: ['app.js'] }, /service 1: must be an object/],
    [{ services: [{ name: 'web' }] }, /service web: script is missing/],
    [{ services: [{ script: 'a.js', prot: 1 }] }, /service 1: prot is not a field; the fields are name, script, /],
    [{ services: [{ name: 'all', script: 'a.js' }] }, /service all: name must be a name .* is not all/],
    [{ services: [{ name: '../x', script: 'a.js' }] }, /service \.\.\/x: name must be a name/],
    [{ services: [{ name: 'web', script: 'a.js', constructor: 1 }] }, /service web: constructor is not a field/],
    [
      {
        services: [
          { name: 'w', script: 'a.js' },
          { name: 'w', script: 'b.js' },
        ],
      },
      /two services have the name w/,
    ],
    [{ services: [{ name: 'w', script: 'a.js', env: { COOK_DAEMON_LINK: '' } }] }, /env cannot set COOK_DAEMON_LINK/],
    [{ apps: [{ name: 'web' }] }, /web: script is missing/],
    [{ apps: [{ name: 'web', script: 'a.js', kill_timeout: 'soon' }] }, /web: kill_timeout must be a number of milli/],
    [
      { apps: [{ name: 'web', script: 'a.js', instances: 'many' }] },
      /web: instances must be a whole number up to 1024, or "max"/,
    ],
    [{ apps: [{ name: 'web', script: 'a.js', exec_mode: 'swarm' }] }, /web: exec_mode must be fork or cluster/],
    [
      {
        apps: [
          { name: 'a', script: 'a.js' },
          { name: 'a', script: 'b.js' },
        ],
      },
      /two services have the name a/,
    ],
  ]
  for (const [value, why] of wrong) {
    assert.throws(
      () => read(value),
      (error) => error instanceof ConfigFault && why.test(error.message),
      String(why),
    )
  }
  for (const [field, values] of Object.entries(wrongValues())) {
    for (const value of values) {
      const file = { services: [{ name: 'web', script: 'a.js', [field]: value }] }
      assert.throws(() => read(file), { message: new RegExp(`^service .+: ${field} must be `) }, `${field}: ${value}`)
    }
  }
})

function wrongValues(): Readonly<Record<keyof typeof serviceFields, readonly unknown[]>> {
  const [text, texts, flag, ms] = [
    ['', 5, null, 'a\0'],
    ['x', [1]],
    ['true', 1],
    [-1, '5s', 2 ** 31, Number.NaN],
  ]
  const size = ['big', -1, 0, '5 M', null]
  return {
    ...{ name: [5, 'a b', ''], script: text, args: texts, cwd: text, node: text, nodeArgs: texts, log: text },
    ...{ workers: [0, 1.5, 'all', -1, 5_000], env: ['A=1', [], { A: null }, { 'A=': '1' }, { '': '1' }] },
    ...{ environments: ['x', { production: 'x' }, { production: { A: {} } }], logMaxSize: size, logKeep: [-1, '5'] },
    ...{ pidFile: text, waitReady: flag, noListen: flag, keep: flag, moveConnections: flag, readyTimeout: ms },
    ...{ moveTls: flag, moveTlsFor: ms },
    ...{
      drainTimeout: ms,
      lameDuck: ms,
      admin: ['web', -1, 70_000, null, ':1'],
      overlap: ms,
      hangTimeout: ms,
      maxMemory: size,
    },
    ...{ uid: ['', -1, 1.5, null], gid: ['', -1, 2 ** 32, true] },
  }
}

test('the schema for editors that is shipped has every field of the reader, and no other', () => {
  const shipped = JSON.parse(readFileSync(new URL('schema/cook.config.json', root), 'utf8'))
  assert.equal(JSON.stringify(shipped), JSON.stringify(configSchema()))
  const { properties, additionalProperties, required } = shipped.definitions.service
  assert.deepEqual(Object.keys(properties), Object.keys(serviceFields))
  assert.deepEqual([additionalProperties, required], [false, ['script']])
  for (const [field, { description }] of Object.entries<{ description: string }>(properties)) {
    assert.match(description, /^[A-Z].*\.$/, field)
  }
})

test('the pages name every field of our own form and of PM2', () => {
  const own = readFileSync(new URL('docs/config.md', root), 'utf8')
  for (const field of Object.keys(serviceFields)) assert.ok(own.includes(`| \`${field}\``), field)
  const pm2 = readFileSync(new URL('docs/from-pm2.md', root), 'utf8')
  for (const field of Object.keys(pm2Fields)) assert.match(pm2, new RegExp(`\`${field}(\`|: )`))
})

test('an ecosystem file as PM2 documents it is read as it is', () => {
  const { services, notes } = read({
    apps: [
      {
        name: 'api',
        script: './api.js',
        cwd: '~/api/current',
        args: "--port 80 --title 'my api'",
        node_args: '--harmony --import=tsx',
        instances: 'max',
        exec_mode: 'cluster',
        max_memory_restart: '500M',
        env: { NODE_ENV: 'development', PORT: 3000, OPTIONS: { a: 1 } },
        env_production: { NODE_ENV: 'production' },
        out_file: './logs/api.log',
        error_file: './logs/api.log',
        pid_file: '~/api.pid',
        merge_logs: true,
        wait_ready: true,
        listen_timeout: 3000,
        kill_timeout: '5000',
        autorestart: true,
        watch: false,
        time: false,
        instance_var: 'NODE_APP_INSTANCE',
      },
    ],
  })
  assert.deepEqual(notes, [])
  assert.deepEqual(services, [
    {
      ...{ name: 'api', script: './api.js', args: ['--port', '80', '--title', 'my api'], cwd: '/home/me/api/current' },
      ...{ nodeArgs: ['--harmony', '--import=tsx'], workers: 'max', maxMemory: 500 * 2 ** 20 },
      ...{ env: { NODE_ENV: 'development', PORT: '3000', OPTIONS: '{"a":1}' } },
      ...{ environments: { production: { NODE_ENV: 'production' } }, log: './logs/api.log' },
      ...{ pidFile: '/home/me/api.pid', waitReady: true, readyTimeout: 3000, drainTimeout: 5000 },
    },
  ])
})

test('every form that PM2 takes for its list of apps is known', () => {
  const one = { name: 'web', script: 'app.js', instances: 1 }
  for (const value of [{ apps: [one] }, { apps: one }, { pm2: [one] }, [one], one]) {
    assert.deepEqual(read(value).services, [{ name: 'web', script: 'app.js' }])
  }
})

test('instances are workers: a number, max, 0 for all, -1 for all but one', () => {
  for (const [instances, workers] of [
    [2, 2],
    ['3', 3],
    ['max', 'max'],
    [0, 'max'],
    [-1, 3],
    [-9, undefined],
    [1, undefined],
  ]) {
    assert.equal(app({ instances }).workers, workers, String(instances))
  }
})

test('an app in fork mode may listen nowhere, one in cluster mode must listen, and one that says when it is ready is asked', () => {
  assert.equal(app({}).mayListen, true)
  assert.equal(app({}).noListen, true)
  assert.equal(app({ exec_mode: 'fork_mode', instances: 2 }).mayListen, true)
  // Of PM2 any number of instances makes a cluster.
  for (const fields of [{ instances: 1 }, { exec_mode: 'cluster' }, { wait_ready: true }]) {
    assert.equal(app(fields).noListen, undefined, JSON.stringify(fields))
    assert.equal(app(fields).mayListen, undefined, JSON.stringify(fields))
  }
  // PM2 does not wait in fork mode, and neither must what was set for that end the program here.
  assert.equal(app({ listen_timeout: 10 }).readyTimeout, undefined)
  assert.equal(app({ listen_timeout: 10, instances: 2 }).readyTimeout, 10)
})

test('what PM2 offers and this does not is named once for all apps, with what to do instead', () => {
  const asks = {
    script: 'a.js',
    instances: 1,
    watch: true,
    cron_restart: '0 3 * * *',
    ignore_watch: ['x'],
    vizion: false,
  }
  const { notes } = read({
    apps: [
      { name: 'a', ...asks },
      { name: 'b', ...asks, treekill: false },
    ],
    deploy: {},
  })
  assert.equal(notes.length, 5)
  assert.match(notes[0] ?? '', /^deploy is not supported: /)
  assert.match(notes[1] ?? '', /^a, b: watch is not supported: .*cook-daemon upgrade/)
  assert.match(notes[2] ?? '', /^a, b: cron_restart is not supported: .*crontab/)
  assert.match(notes[3] ?? '', /^a, b: ignore_watch is not supported/)
  assert.match(notes[4] ?? '', /^b: treekill is not supported: .*detached/)
  assert.deepEqual(app({ instances: 1, max_restart: 3, x_y: 1 }).notes, [
    'web: max_restart is an unknown field, and is ignored',
    'web: x_y is an unknown field, and is ignored',
  ])
  assert.match(app({ out_file: 'a.log', error_file: 'b.log' }).notes[0] ?? '', /^web: error_file .* one file, a\.log$/)
})

test('the other spellings of a field of PM2 are the same field', () => {
  const { log, drainTimeout, nodeArgs, notes } = app({
    output: 'a.log',
    killTimeout: 5,
    interpreter_args: '--x',
    exec: 'b.js',
  })
  assert.deepEqual([log, drainTimeout, nodeArgs, notes], ['a.log', 5, ['--x'], []])
})

test('every field of PM2 is mapped, or has a reason', () => {
  for (const [field, { instead }] of Object.entries(pm2Fields)) assert.equal(typeof (instead ?? ''), 'string', field)
})

test('a name that is none here becomes one', () => {
  assert.equal(app({ name: '@scope/my app' }).name, 'scope-my-app')
  assert.equal(app({ name: undefined, script: 'dist/jobs.js' }).name, 'jobs')
})

test('an app for another interpreter is refused by name, and the others are read', () => {
  const refused = (fields: object) => {
    const { services } = read({
      apps: [
        { name: 'web', script: 'a.js', instances: 1 },
        { name: 'other', ...fields },
      ],
    })
    assert.deepEqual(services[0], { name: 'web', script: 'a.js' })
    return (services[1] as { readonly refused?: string }).refused ?? ''
  }
  assert.match(refused({ script: 'a.py' }), /the interpreter python is not Node/)
  assert.match(refused({ script: 'a.js', interpreter: 'bun' }), /the interpreter bun is not Node/)
  assert.match(refused({ script: 'a.js', interpreter: 'node@20' }), /name the path of that Node/)
  assert.match(refused({ script: './run.sh' }), /the interpreter bash is not Node/)
  assert.match(refused({ script: 'cd x && node a.js' }), /is a line for a shell|It is a line for a shell/)
  assert.equal(app({ interpreter: '/opt/node/bin/node' }).node, '/opt/node/bin/node')
  assert.equal(app({ interpreter: 'node' }).node, undefined)
  assert.deepEqual([app({ user: 'www' }).uid, app({ uid: 33, gid: 'www' }).gid], ['www', 'www'])
})

test('npm start is the node command that package.json names, or is refused with that command', () => {
  const main = { script: 'dist/main.js', args: ['--port', '80'], nodeArgs: ['--enable-source-maps'] }
  for (const fields of [
    { script: 'npm', args: 'start' },
    { script: 'npm', args: ['run', 'start'], interpreter: 'none' },
    { script: 'yarn start' },
    { script: 'pnpm run start' },
  ]) {
    const { script, args, nodeArgs } = app(fields)
    assert.deepEqual({ script, args, nodeArgs }, main, JSON.stringify(fields))
  }
  assert.deepEqual(app({ script: 'npm run start -- -v' }).args, ['--port', '80', '-v'])
  assert.deepEqual(app({ script: 'npm', args: 'run serve', env: { A: '1' } }).env, { NODE_ENV: 'production', A: '1' })
  const refused = (line: string) => String(app({ script: line }).refused)
  assert.match(refused('npm run next'), /npm run next runs: next start\n.*script: 'node_modules\/\.bin\/next'/)
  assert.match(refused('npm run shell'), /npm run shell runs: node a\.js && node b\.js\n/)
  assert.match(refused('npm run none'), /runs the script "none", which package\.json does not have/)
  assert.match(refused('npm run round'), /npm run round runs: npm run round/)
  assert.match(refused('npm --prefix x start'), /starts a program in a child process/)
  assert.match(refused('npx next start'), /name the file that Node runs/)
})

test('options of Node before the file of a command are for Node, with their values', () => {
  const command = commandOf(wordsOf('A=1 node -r ./x.js --import tsx "my app.js" b'), undefined)
  assert.deepEqual(command, {
    ...{ script: 'my app.js', args: ['b'], nodeArgs: ['-r', './x.js', '--import', 'tsx'], env: { A: '1' } },
  })
  assert.equal(typeof commandOf(['node', '-e'], undefined), 'string')
})
