/** Debian's Ansible deploys with the role of examples/fleet to three hosts behind HAProxy. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { copyExample, Fleet, longestPlay, withFleet, writeBuild } from '../support/fleet.ts'
import { connectionClients } from '../support/load/connection-clients.ts'
import { keepAliveClients } from '../support/load/keep-alive-clients.ts'
import { SystemdLab, underSystemd } from '../support/systemd-lab.ts'
import { eventually } from '../support/waiting.ts'

const page = fileURLToPath(new URL('../../../docs/fleet.md', import.meta.url))

/** What each host serves, and where its `current` leads. */
async function serves(fleet: Fleet): Promise<string[]> {
  return Promise.all(
    fleet.hosts.map(async (host) => {
      const { release, ready } = await host.status()
      assert.ok(ready, host.name)
      return `${release?.cwd} ${host.current}`
    }),
  )
}

function all(version: string): string[] {
  return [1, 2, 3].map(() => serving(version))
}

function serving(version: string): string {
  return `/srv/web/releases/${version} releases/${version}`
}

/** What Ansible has changed on each host, as its last lines say it. */
function changes(output: string): string[] {
  return [...output.matchAll(/^(web\d) +: .* changed=(\d+) /gm)].map(([, host, count]) => `${host} ${count}`)
}

test(
  'Ansible deploys to three hosts behind HAProxy under clients that never retry: a good version loses nothing, a bad one is tried on one host and changes none, and when a host goes away in the middle the run stops, says what serves where, and the next run finishes',
  withFleet,
  async (context) => {
    await using fleet = await Fleet.open()
    const [first, second] = fleet.hosts
    assert.ok(first && second)
    for (const version of ['1', '2', '3']) await fleet.builds(version)
    await fleet.builds('bad', "throw new Error('no database')")

    await fleet.does('ansible-playbook deploy.yml -e version=1')
    assert.deepEqual(await serves(fleet), all('1'))
    const port = await fleet.balances()
    const where = { host: '127.0.0.1', port }
    await using keepAlive = keepAliveClients(where, { count: 10, pause: [0, 400] })
    await using single = connectionClients(where, { count: 5, pause: [0, 400], asksForEnd: true })
    await Promise.all([keepAlive.ready, single.ready])
    const answers = () => keepAlive.result().answers + single.result().answers
    const lost = () =>
      [keepAlive, single]
        .map((load) => load.result())
        .flatMap(({ failures, faults }) => (Object.keys(failures).length > 0 ? [failures, ...faults] : []))

    // What a check says is done, and nothing else; done again, nothing is.
    const before = await serves(fleet)
    assert.match(await fleet.does('ansible-playbook deploy.yml -e version=2 --check'), /changed: \[web3\]/)
    assert.deepEqual(await serves(fleet), before)
    assert.deepEqual(lost(), [])
    await fleet.does('ansible-playbook deploy.yml -e version=2')
    assert.deepEqual(await serves(fleet), all('2'))
    assert.deepEqual(lost(), [])
    context.diagnostic(`a good version on three hosts: ${answers()} answers, 0 lost`)
    const again = await fleet.does('ansible-playbook deploy.yml -e version=2')
    assert.deepEqual(changes(again), ['web1 0', 'web2 0', 'web3 0'])

    const { generation } = await first.status()
    const bad = await fleet.types('ansible-playbook deploy.yml -e version=bad')
    assert.equal(bad.code, 2, bad.output)
    assert.match(bad.output, /bad failed on web1, which serves 2\. No host after it was touched\..*no database/s)
    assert.deepEqual(changes(bad.output).slice(1), ['web2 0', 'web3 0'])
    assert.deepEqual(await serves(fleet), all('2'))
    assert.equal((await first.status()).generation, generation)
    for (const { releases } of fleet.hosts) assert.deepEqual(releases, ['1', '2'])
    assert.deepEqual(lost(), [])
    context.diagnostic(`a bad version, tried on one: ${answers()} answers so far, 0 lost`)

    const interrupted = fleet.types('ansible-playbook deploy.yml -e version=3')
    await eventually('the switch on web2', () => second.current === 'releases/3' || undefined, longestPlay)
    second.cut('ssh')
    const { code, output } = await interrupted
    assert.equal(code, 4, output)
    assert.match(output, /web1 serves 3\s+- web2 serves 2\s+- web3 serves 2(?!.* serves ).*\[web2\]: UNREACHABLE!/s)
    const [one, two, three] = await serves(fleet)
    assert.deepEqual([one, three], [serving('3'), serving('2')])
    assert.equal(two, '/srv/web/releases/2 releases/3')
    assert.match((await fleet.types('ansible-playbook status.yml')).output, /web2 serves \?/)
    // One that is away from the start stops the run before anything is changed.
    const away = await fleet.types('ansible-playbook deploy.yml -e version=3')
    assert.equal(away.code, 4, away.output)
    assert.deepEqual(changes(away.output), ['web1 0', 'web2 0', 'web3 0'])
    second.heal('ssh')
    await fleet.does('ansible-playbook deploy.yml -e version=3')
    assert.deepEqual(await serves(fleet), all('3'))
    assert.deepEqual(lost(), [])
    assert.match(await fleet.does('ansible-playbook status.yml'), /web1 serves 3\s+- web2 serves 3\s+- web3 serves 3/)

    // Back, which is a deploy as well; the archive is not needed for it.
    await fleet.does('rm releases/web-2.tar.gz')
    await fleet.does('ansible-playbook deploy.yml -e version=2 -e cook_daemon_keep=2')
    assert.deepEqual(await serves(fleet), all('2'))
    for (const { releases } of fleet.hosts) assert.deepEqual(releases, ['2', '3'])
    for (const load of [keepAlive, single]) {
      const result = await load.stop()
      assert.deepEqual(result.failures, {}, JSON.stringify(result.faults))
      const who = Object.keys(result.generations).sort()
      assert.deepEqual(
        who,
        ['1', '2', '3'].flatMap((version) => fleet.hosts.map(({ name }) => `${version} ${name}`)),
      )
    }
    context.diagnostic(`a host that goes away, and the way back: ${answers()} answers in all, 0 lost`)

    const typed = [...readFileSync(page, 'utf8').matchAll(/^```sh\n(.*?)^```$/gms)]
      .flatMap(([, block = '']) => block.trim().split('\n'))
      .map((line) => line.replace(/ +#.*/, ''))
    assert.deepEqual(
      typed.filter((line) => !fleet.typed.includes(line)),
      [],
      'the page types what was not tried',
    )
  },
)

test('on a host with a systemd the first deploy installs a unit, the next is an upgrade of it, and a bad one leaves it as it is', {
  skip: withFleet.skip || underSystemd.skip,
}, async () => {
  await using lab = await SystemdLab.boot()
  const folder = join(lab.folder, 'fleet')
  copyExample(folder)
  const inventory = readFileSync(join(folder, 'inventory.ini'), 'utf8')
  writeFileSync(
    join(folder, 'inventory.ini'),
    inventory.replaceAll(/^web\d ansible_host=.*\n/gm, '').replace('[web]\n', '[web]\nweb1 ansible_connection=local\n'),
  )
  const deploys = async (version: string, before = '') => {
    writeBuild(
      folder,
      `import { createServer } from 'node:http'\n${before}\ncreateServer((_, response) => response.end('${version}')).listen(8080)\n`,
    )
    const commands = `cd /lab/fleet && tar -czf releases/web-${version}.tar.gz -C dist . && ansible-playbook deploy.yml -e version=${version}`
    return lab.runs(commands, { longest: longestPlay })
  }
  const answer = () => lab.does('curl --silent --fail 127.0.0.1:8080')

  const failed = await deploys('0', "throw new Error('no database')")
  assert.equal(failed.code, 2, failed.stdout)
  assert.match(failed.stdout, /0 failed on web1, which serves nothing.*no database/s)
  assert.equal(
    await lab.does('ls -A /srv/web /srv/web/releases; systemctl is-enabled web || true'),
    '/srv/web:\nreleases\n\n/srv/web/releases:\ndisabled\n',
  )
  const good = await deploys('1')
  assert.equal(good.code, 0, good.stdout + good.stderr)
  assert.equal(await answer(), '1')
  const pid = await lab.shows('web', 'MainPID')
  const next = await deploys('2')
  assert.equal(next.code, 0, next.stdout + next.stderr)
  assert.equal(await answer(), '2')
  const bad = await deploys('bad', "throw new Error('no database')")
  assert.equal(bad.code, 2, bad.stdout)
  assert.match(bad.stdout, /bad failed on web1, which serves 2.*no database/s)
  assert.equal(await answer(), '2')
  assert.equal(await lab.does('readlink /srv/web/current'), 'releases/2\n')
  assert.equal(await lab.shows('web', 'MainPID'), pid)
})
