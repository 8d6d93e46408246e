/** Words that a shell completes, by real shells. */
import assert from 'node:assert/strict'
import { execFile, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, symlinkSync } from 'node:fs'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { bin, Operator, writeProgram } from '../support/command.ts'
import { Lab } from '../support/lab.ts'
import { eventually, within } from '../support/waiting.ts'

const without = (shell: string) => spawnSync(shell, ['--version']).error !== undefined && `there is no ${shell}`

const typed = [
  ['up', ['upgrade']],
  ['upgrade w', ['web', 'worker']],
  ['status web al', ['all']],
  ['scale web --js', ['--json']],
  ['completion ', ['bash', 'zsh', 'fish']],
  ['help sca', ['scale']],
  ['upgrade --ready-timeout ', []],
  ['start app.mjs -- --po', []],
] as const

test('the tab key completes commands, options and names of services', async (context) => {
  await using lab = await Lab.open()
  await using operator = new Operator(lab)
  const env = await withServices(lab, operator)
  const options = { env, cwd: lab.folder }

  await context.test('in bash', { skip: without('bash') }, async () => {
    for (const [line, expected] of typed) {
      const words = ['cook-daemon', ...line.split(' ')].map((word) => `'${word}'`)
      const script = `source <(cook-daemon completion bash)
COMP_WORDS=(${words.join(' ')}); COMP_CWORD=${words.length - 1}; _cook_daemon; printf '%s\\n' "\${COMPREPLY[@]}"`
      const { stdout } = await promisify(execFile)('bash', ['-c', script], options)
      assert.deepEqual(stdout.split('\n').filter(Boolean), expected, line)
    }
  })

  await context.test('in fish, with what each means', { skip: without('fish') }, async () => {
    for (const [line, expected] of typed.filter(([, { length }]) => length > 0)) {
      const script = `cook-daemon completion fish | source; complete -C 'cook-daemon ${line}'`
      const { stdout } = await promisify(execFile)('fish', ['--no-config', '-c', script], options)
      const found = stdout.split('\n').filter(Boolean)
      assert.deepEqual(found.map((one) => one.split('\t')[0]).sort(), [...expected].sort(), line)
      if (line === 'up') assert.match(found[0] ?? '', /\treplace a service with its new version/)
    }
  })

  await context.test('in zsh', { skip: without('zsh') || without('script') }, async () => {
    const zsh = { ...env, TERM: 'dumb', ZDOTDIR: lab.folder, PS1: '> ' }
    const shell = spawn('script', ['-qec', 'zsh -f -i', '/dev/null'], { ...options, env: zsh })
    let output = ''
    shell.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
    const ended = once(shell, 'exit')
    shell.stdin.write('autoload -U compinit; compinit -u; source <(cook-daemon completion zsh); echo rea""dy\n')
    await eventually('the prompt', () => /\nready/.test(output) || undefined)
    shell.stdin.write('cook-daemon forget wo\t; exit\n')
    await within('the end of zsh', ended)
    assert.match(output, /\n✓ worker is forgotten/)
  })
})

/** One runs, and another one is down. */
async function withServices(lab: Lab, operator: Operator): Promise<NodeJS.ProcessEnv> {
  writeProgram(lab, 'app.mjs', 'one')
  await operator.does(['start', 'app.mjs', '--name', 'web'])
  await operator.does(['start', 'app.mjs', '--name', 'worker'])
  await operator.does(['stop', 'worker'])
  mkdirSync(lab.path('bin'))
  symlinkSync(bin, lab.path('bin/cook-daemon'))
  return { ...process.env, ...lab.environment(), PATH: `${lab.path('bin')}:${process.env.PATH}` }
}
