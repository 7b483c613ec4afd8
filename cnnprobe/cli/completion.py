"""Tab completion: what may follow the words typed so far. Reads YAML files only, so that a key press costs little."""

import os
from pathlib import Path

from cnnprobe.config import catalogue
from cnnprobe.errors import UserError

BASH = r"""
_cnnprobe() {
  local line="${COMP_LINE:0:$COMP_POINT}" word="${COMP_WORDS[COMP_CWORD]}" home="" found
  COMPREPLY=()
  while IFS= read -r found; do
    [[ -n "$found" ]] && printf -v found %q "$found" && COMPREPLY+=("$found")
  done < <([[ "$word" == *[\"\'\\\$\`]* ]] || CNNPROBE_WORDS="$line" "${COMP_WORDS[0]}" --completion words 2>/dev/null)
  if [[ ${#COMPREPLY[@]} -eq 0 && "$line" == *=* ]]; then
    [[ "$word" == "=" ]] && word=""
    word="${word#[\"\']}"
    word="${word//\\/}"
    [[ "$word" == "~/"* ]] && home="$HOME" word="${word:1}"
    for found in "$home$word"*; do
      [[ -e "$found" || -L "$found" ]] && COMPREPLY+=("${home:+~}${found#"$home"}")
    done
    compopt -o filenames 2>/dev/null
  fi
  [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *= ]] && compopt -o nospace 2>/dev/null
  return 0
}
complete -F _cnnprobe cnnprobe"""
"""Names of files are a stranger's: they are never evaluated, and reach the command line quoted (by %q and readline).

What %q returns is right outside of quotes alone, and we take words apart at blanks: a word that has a quote, an escape
or something to expand gets none of our words, only files, which readline quotes as they have to be there.
"""
ZSH = r"""
autoload -U +X compinit && compinit
_cnnprobe() {
  local -a found
  found=("${(@f)$(CNNPROBE_WORDS="${(j: :)words[1,CURRENT-1]} $PREFIX" "${words[1]}" --completion words 2>/dev/null)}")
  compset -P '*='
  if [[ -z "$found[1]" ]]; then
    _files
  elif [[ "$found[1]" == *= ]]; then
    compadd -S '' -a found
  else
    compadd -a found
  fi
}
compdef _cnnprobe cnnprobe"""
"""`compadd` and `_files` quote what they put on the command line."""


def script(shell: str) -> str:
    """Return what `eval "$(cnnprobe --completion bash)"` runs, or the words that may come next."""
    if shell == "words":
        found = candidates(os.environ.get("CNNPROBE_WORDS", ""))
        return "\n".join(word for word in found if word.isprintable())
    scripts = {"bash": BASH, "zsh": ZSH}
    if shell not in scripts:
        raise UserError(f"--completion takes bash or zsh, got {shell!r}")
    return scripts[shell].strip()


def candidates(line: str) -> list[str]:
    """Return the words that complete the last word of a command line.

    Bash breaks words at "=", so that for `model=mo` the answer is `mousenet`, not `model=mousenet`.
    """
    words = line.split(" ")[1:]
    last = words[-1] if words else ""
    if len(words) <= 1:
        names = [*catalogue.commands(), *catalogue.upkeep(), "--help", "--version"]
        return [name for name in names if name.startswith(last)]
    command = words[0]
    if command in catalogue.upkeep():
        return [key for key in _upkeep_words(command) if key.startswith(last)]
    if command not in catalogue.commands():
        return []
    if "=" in last:
        key, _, start = last.partition("=")
        return [value for value in values(command, key, words) if value.startswith(start)]
    return [key for key in keys(command, words) if key.startswith(last)]


def _upkeep_words(command: str) -> list[str]:
    """Return what a command of upkeep takes: its keys, and for `check` the runs there are."""
    found = sorted(map(str, Path("outputs").glob("*/*/v*"))) if command == "check" else []
    return [*found, *(f"{key}=" for key in catalogue.UPKEEP_OPTIONS), "--help"]


def chosen(group: str, words: list[str]) -> str:
    """Return the choice of a group typed so far, else its default."""
    typed = [word.partition("=")[2] for word in words if word.startswith(f"{group}=")]
    return typed[-1] if typed else catalogue.defaults(words[0])[group]


def keys(command: str, words: list[str]) -> list[str]:
    """Return every key this command takes, with "=" behind it, and the flags."""
    page = catalogue.page(catalogue.yaml_path("method", command))
    root = catalogue.page(catalogue.configs_dir() / "config.yaml").entries
    found = [*page.root, *page.entries, *(key for key in root if key != "defaults"), "model", "dataset", "device"]
    for group in ("model", "dataset", "device"):
        name = chosen(group, words)
        if name in catalogue.choices(group):
            found += [f"{group}.{key}" for key in catalogue.page(catalogue.yaml_path(group, name)).entries]
    flags = ["--help", "-m", "--cfg", "--config-dir", "--resume", "--rerun", "--redraw"]
    return [f"{key}=" for key in [*found, "experiment"]] + flags


def values(command: str, key: str, words: list[str]) -> list[str]:
    """Return the values a key may have, where they form a list."""
    if key in ("model", "dataset", "device", "experiment"):
        return catalogue.choices(key)
    if key == "weights":
        return ["auto", "random", "published"]
    group, _, name = key.rpartition(".")
    group = group or "method"
    if group not in catalogue.GROUPS:
        return []
    choice = command if group == "method" else chosen(group, words)
    option = catalogue.options(group, choice).get(name)
    listed = [str(value) for value in option.choices] if option else []
    return listed + (["true", "false"] if option and "bool" in option.kinds else [])
