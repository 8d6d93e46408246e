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
    await fleet.builds('1')
    await fleet.builds('2')
    await fleet.builds('bad', "throw new Error('no database')")

    await fleet.does('ansible-playbook deploy.yml -e version=1')
    assert.deepEqual(await serves(fleet), all('1'))
    const port = await fleet.balances()
    const where = { host: '127.0.0.1', port }
    await using keepAlive = keepAliveClients(where, { count: 10, pause: [0, 400] })
    await using single = connectionClients(where, { count: 5, pause: [0, 400], asksForEnd: true })
    await Promise.all([keepAlive.ready, single.ready])
    const told = (what: string) => {
      const results = [keepAlive.result(), single.result()]
      for (const { failures, faults } of results) assert.deepEqual(failures, {}, `${what}: ${JSON.stringify(faults)}`)
      context.diagnostic(`${what}: ${results.map(({ answers }) => answers).join(' + ')} answers by now, 0 lost`)
    }

    const check = await fleet.does('ansible-playbook deploy.yml -e version=2 --check --limit web1')
    assert.ok(
      changes(check).some((line) => /^web1 [1-9]/.test(line)),
      check,
    )
    assert.deepEqual(await serves(fleet), all('1'))
    for (const { releases } of fleet.hosts) assert.deepEqual(releases, ['1'])

    const interrupted = fleet.types('ansible-playbook deploy.yml -e version=2')
    await eventually('the switch on web2', () => second.current === 'releases/2' || undefined, longestPlay)
    second.cut('ssh')
    const { code, output } = await interrupted
    assert.equal(code, 4, output)
    assert.match(output, /web1 serves 2\s+- web2 serves 1\s+- web3 serves 1(?!.* serves ).*\[web2\]: UNREACHABLE!/s)
    const [one, two, three] = await serves(fleet)
    assert.deepEqual([one, three], [serving('2'), serving('1')])
    assert.match(two ?? '', /^\/srv\/web\/releases\/[12] releases\/2$/)
    told('a host that goes away in the middle')
    // One that is away from the start stops the run before anything is changed.
    const away = await fleet.types('ansible-playbook deploy.yml -e version=2')
    assert.notEqual(away.code, 0)
    assert.match(away.output, /\[web2\]: UNREACHABLE!/)
    assert.deepEqual(changes(away.output), ['web1 0', 'web2 0', 'web3 0'])
    const asked = await fleet.types('ansible-playbook status.yml')
    assert.match(asked.output, /web1 serves 2\s+- web2 serves \?.*\s+- web3 serves 1/)

    second.heal('ssh')
    const finished = await fleet.does('ansible-playbook deploy.yml -e version=2')
    assert.deepEqual(await serves(fleet), all('2'))
    assert.equal(changes(finished)[0], 'web1 0')
    told('a good version, on all hosts now')

    const { generation } = await first.status()
    const bad = await fleet.types('ansible-playbook deploy.yml -e version=bad')
    assert.equal(bad.code, 2, bad.output)
    assert.match(bad.output, /bad failed on web1, which serves 2\. No host after it was touched\..*no database/s)
    assert.deepEqual(changes(bad.output).slice(1), ['web2 0', 'web3 0'])
    assert.deepEqual(await serves(fleet), all('2'))
    assert.equal((await first.status()).generation, generation)
    for (const { releases } of fleet.hosts) assert.deepEqual(releases, ['1', '2'])
    told('a bad version, tried on one host')

    await fleet.builds('ill')
    const health = '-e cook_daemon_health_url=http://127.0.0.1:8080/health -e cook_daemon_health_seconds=2'
    const ill = await fleet.types(`ansible-playbook deploy.yml -e version=ill ${health}`)
    assert.equal(ill.code, 2, ill.output)
    assert.match(ill.output, /ill failed on web1, which serves 2\. No host after it was touched\..*500/s)
    assert.deepEqual(await serves(fleet), all('2'))
    assert.equal((await first.status()).generation, generation + 2)
    told('a version that starts and is not healthy')

    // Back, which is a deploy as well; the archive is not needed for it. An old release goes.
    await fleet.does('rm releases/web-1.tar.gz')
    for (const host of fleet.hosts) host.addRelease('0')
    await fleet.does('ansible-playbook deploy.yml -e version=1 -e cook_daemon_keep=2')
    assert.deepEqual(await serves(fleet), all('1'))
    for (const { releases } of fleet.hosts) assert.deepEqual(releases, ['1', '2'])
    for (const load of [keepAlive, single]) {
      const { generations } = await load.stop()
      const who = ['1', '2'].flatMap((version) => fleet.hosts.map(({ name }) => `${version} ${name}`))
      assert.deepEqual(
        Object.keys(generations)
          .filter((one) => one !== 'ill web1')
          .sort(),
        who,
      )
    }
    told('back to the version before')

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
