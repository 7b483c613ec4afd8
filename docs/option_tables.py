"""The tables of options, made from the YAML files and the annotations, as `cnnprobe COMMAND --help` is.

    python docs/option_tables.py

`conf.py` runs it before the pages are read. What it writes, a file for each command and one for each group of choices,
is included by them and not committed.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from cnnprobe.config import catalogue
from cnnprobe.config.catalogue import Entry, Page
from cnnprobe.config.options import Option

GROUPS = ("model", "dataset", "device")
HEAD = "| option | default | what it may be | meaning |\n|---|---|---|---|\n"


def write(folder: Path) -> list[Path]:
    """Write every table into a folder, whose former content is removed; return the files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pages = {command: method(command) for command in catalogue.commands()}
    pages |= {f"{group}s": choices(group) for group in GROUPS}
    pages |= {"every-run": every_run(), "experiments": experiments()}
    for name, text in pages.items():
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    return sorted(folder.glob("*.md"))


def method(command: str) -> str:
    """Return the options of one command: its own, and those of every run whose default or meaning it changes."""
    page = catalogue.page(catalogue.yaml_path("method", command))
    root = catalogue.page(catalogue.configs_dir() / "config.yaml").entries
    changed = {key: entry for key, entry in page.root.items() if entry != root.get(key)}
    return table(changed | page.entries, catalogue.options("method", command) | catalogue.ROOT)


def every_run() -> str:
    """Return the options that every command has."""
    entries = catalogue.page(catalogue.configs_dir() / "config.yaml").entries
    return table({key: entry for key, entry in entries.items() if key != "defaults"}, catalogue.ROOT)


def choices(group: str) -> str:
    """Return a section for each choice of a group: what it is, its commands and its options."""
    parts = []
    for name in catalogue.choices(group):
        page = catalogue.page(catalogue.yaml_path(group, name))
        parts += [f"### `{group}={name}`\n", *about(page)]
        parts += [table(page.entries, catalogue.options(group, name), prefix=f"{group}.")]
    return "\n".join(parts)


def experiments() -> str:
    """Return a section for each experiment: what it is and its commands."""
    parts = []
    for name in catalogue.choices("experiment"):
        parts += [f"### `experiment={name}`\n", *about(catalogue.page(catalogue.yaml_path("experiment", name)))]
    return "\n".join(parts)


def about(page: Page) -> list[str]:
    """Return the head comment of a YAML file as a paragraph and a block of commands."""
    commands = ["```console", *page.examples, "```\n"] if page.examples else []
    return [f"{escaped(page.summary)}\n", *commands]


def table(entries: dict[str, Entry], options: dict[str, Option], prefix: str = "") -> str:
    """Return a table of options."""
    rows = [
        f"| `{prefix}{key}` | {code(default(entry.default))} | {allowed(options.get(key))} | {escaped(entry.help)} |\n"
        for key, entry in entries.items()
    ]
    return HEAD + "".join(rows)


def allowed(option: Option | None) -> str:
    """Return what an option may be; values that are typed as they stand are set as code."""
    if option is None:
        return ""
    words = []
    for part in re.split(r"(, | or )", str(option)):
        words.append(code(part) if part == "null" or part in map(str, option.choices) else escaped(part))
    return "".join(words)


def default(value: Any) -> str:
    """Return a default as it is typed on the command line."""
    if value == "???":
        return "required"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)


def code(text: str) -> str:
    """Set a text as code in a cell of a table."""
    return "required" if text == "required" else f"`{text}`".replace("|", "\\|")


def escaped(text: str) -> str:
    """Return a comment as Markdown that shows it as it stands; what it sets as code stays code."""
    parts = re.split(r"(`[^`]*`)", text)
    plain = [part if part.startswith("`") else re.sub(r"([\\*_<>\[\]#$~])", r"\\\1", part) for part in parts]
    return "".join(plain).replace("|", "\\|")


if __name__ == "__main__":
    for made in write(Path(__file__).parent / "generated"):
        print(made)
