/** `completion`: what a shell runs at the tab key, and what this command answers it. */
import type { Command } from 'commander'
import { everyService } from '../check.ts'
import { exitCodes, print } from './output.ts'
import { places } from './places.ts'

export type Shell = 'bash' | 'zsh' | 'fish'

/**
 * Each hands on the words up to the cursor, and takes a line for each candidate: the word, a tab,
 * and what it means. Where there is no candidate, it offers files.
 */
const scripts: Readonly<Record<Shell, string>> = {
  bash: `# Add to ~/.bashrc:  source <(cook-daemon completion bash)
_cook_daemon() {
  local candidate
  COMPREPLY=()
  while IFS=$'\\t' read -r candidate _; do
    COMPREPLY+=("$candidate")
  done < <(cook-daemon complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -o default -F _cook_daemon cook-daemon`,
  zsh: `#compdef cook-daemon
# Add to ~/.zshrc, after compinit:  source <(cook-daemon completion zsh)
_cook_daemon() {
  local -a candidates
  local line
  for line in "\${(@f)$(cook-daemon complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -n $line ]] && candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done
  if (( $#candidates )); then _describe -V cook-daemon candidates; else _files; fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _cook_daemon "$@"; else compdef _cook_daemon cook-daemon; fi`,
  fish: `# Add to ~/.config/fish/config.fish:  cook-daemon completion fish | source
complete -c cook-daemon -f -a '(begin
  set -l words (commandline -opc)
  set -l found (cook-daemon complete -- $words[2..-1] (commandline -ct) 2>/dev/null)
  if set -q found[1]
    printf "%s\\n" $found
  else
    __fish_complete_path (commandline -ct)
  end
end)'`,
}

export async function printCompletion(shell: Shell): Promise<number> {
  print(scripts[shell])
  return exitCodes.done
}

export async function complete(program: Command, words: readonly string[]): Promise<number> {
  const found = candidatesOf(program, words)
  if (found.length > 0) print(found.map(([word, what]) => `${word}\t${what}`).join('\n'))
  return exitCodes.done
}

type Candidate = readonly [word: string, what: string]

/** What may stand in the place of the last word. */
function candidatesOf(program: Command, words: readonly string[]): readonly Candidate[] {
  const typed = words.at(-1) ?? ''
  return allFor(program, words.slice(0, -1), typed).filter(([word]) => word.startsWith(typed))
}

function allFor(program: Command, before: readonly string[], typed: string): readonly Candidate[] {
  const [name, ...rest] = before
  const help = program.createHelp()
  const commands = help.visibleCommands(program)
  if (name === undefined) {
    const own = help.visibleOptions(program).flatMap(({ long = '', description }) => [[long, description] as const])
    return typed.startsWith('-') ? own : commands.map((command) => [command.name(), command.description()])
  }
  if (name === 'help') return commands.map((command) => [command.name(), command.description()])
  const command = commands.find((one) => one.name() === name)
  // What stands behind -- is the program's, and the program's own.
  if (command === undefined || rest.includes('--')) return []
  const options = help.visibleOptions(command)
  const last = rest.at(-1)
  const awaits = options.find((option) => option.long === last || option.short === last)
  if (awaits?.required === true) return []
  if (typed.startsWith('-')) {
    return options.flatMap(({ long, description }) => (long == null ? [] : [[long, description] as const]))
  }
  const [first] = command.registeredArguments
  if (first?.argChoices !== undefined) return first.argChoices.map((choice) => [choice, ''])
  return first === undefined || !/^names?$/.test(first.name()) ? [] : services(first.variadic)
}

/** No service is asked: a tab key is not to wait for one that hangs. */
function services(areSeveral: boolean): readonly Candidate[] {
  const names = places().flatMap((place) => place.names)
  const found = [...new Set(names)].sort().map((name): Candidate => [name, 'a service'])
  return areSeveral && found.length > 1 ? [...found, [everyService, 'every service']] : found
}
