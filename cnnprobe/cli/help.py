"""The pages `cnnprobe --help` and `cnnprobe COMMAND --help`, made from the YAML files and the annotations."""

import shutil
import textwrap
from collections.abc import Iterable
from typing import Any

from cnnprobe.config import catalogue, untrusted_yaml
from cnnprobe.config.catalogue import Entry
from cnnprobe.config.options import Option
from cnnprobe.config.words import Request

DAILY = """\
  cnnprobe train model=convnet dataset=avatar     teach a network a task
  cnnprobe layers model=convnet                   what is in it, and how large each unit's field is
  cnnprobe topk model=convnet layer=conv1         the images each unit responds to most
  cnnprobe topk -m model=convnet layer=conv1,conv3  the same for two layers, one run each
  cnnprobe topk --resume v001                     resume a run that was stopped"""

FLAGS = (
    ("--help, -h", "this page; behind a command, and with model=… or dataset=…, their options too"),
    ("--multirun, -m", "a sweep: every combination of values separated by commas, one run each"),
    ("--cfg job", "print the composed configuration and stop"),
    ("--config-dir, -cd DIR", "a folder of your own YAML files: DIR/model/mine.yaml, DIR/experiment/…"),
    ("--resume RUN", "resume a run that was stopped"),
    ("--rerun RUN", "do a finished run once more, as a new version"),
    ("--redraw RUN", "draw the figures of a run again, from its store alone"),
)


def width() -> int:
    """Return the columns to write in: the terminal's, from 60 to 110."""
    return max(60, min(110, shutil.get_terminal_size((100, 40)).columns))


def rows(pairs: Iterable[tuple[str, str]], indent: int = 2, gap: int = 24) -> str:
    """Set pairs in two columns, the second wrapped."""
    lines = []
    for left, right in pairs:
        head = " " * indent + left
        wrapped = textwrap.wrap(right, width() - gap, break_on_hyphens=False) or [""]
        first = head.ljust(gap) + wrapped.pop(0) if len(head) < gap else head
        lines.append(first.rstrip())
        lines += [" " * gap + line for line in wrapped]
    return "\n".join(lines)


def overview() -> str:
    """Write the page of `cnnprobe --help`."""
    groups = ((group, ", ".join(catalogue.choices(group))) for group in ("model", "dataset", "device"))
    experiments = catalogue.choices("experiment")
    return "\n".join(
        [
            "cnnprobe: probe a convolutional network the way a physiologist probes a brain.",
            "",
            "  cnnprobe COMMAND [key=value …]      cnnprobe COMMAND --help explains one command",
            "",
            "Commands",
            rows((name, sentence) for name, sentence in catalogue.commands().items()),
            "",
            "Upkeep",
            rows((name, sentence) for name, sentence in catalogue.upkeep().items()),
            "",
            "Every day",
            DAILY,
            "",
            "Choices",
            rows((f"{group}=", names) for group, names in groups),
            *([rows([("experiment=", ", ".join(experiments))])] if experiments else []),
            "",
            "Flags",
            rows(FLAGS, gap=26),
            "",
            'Tab completion: eval "$(cnnprobe --completion bash)" (or zsh). Every run leaves a folder in outputs/.',
        ]
    )


def command(request: Request) -> str:
    """Write the page of `cnnprobe COMMAND --help`; words like model=alexnet before it choose whose options it shows."""
    extra = request.config_dirs
    for folder in extra:
        untrusted_yaml.check_folder(folder)
    page = catalogue.page(catalogue.yaml_path("method", request.command, extra))
    root = catalogue.page(catalogue.configs_dir() / "config.yaml").entries
    own = {key: entry for key, entry in page.root.items() if key not in root}
    sentence = f"{catalogue.sentence(request.command)}."
    parts = [
        *textwrap.wrap(f"cnnprobe {request.command}: {sentence}", width()),
        *textwrap.wrap(page.summary.removeprefix(sentence).strip(), width()),
        *experiment(request),
        *(["", "Examples"] if page.examples else []),
        *(f"  {example}" for example in page.examples),
        "",
        f"Options of {request.command} (key=default; method.{next(iter(page.entries))}= is the same)",
        entries(page.entries, catalogue.options("method", request.command)),
        "",
        "Options of every run",
        entries(own | root | {k: v for k, v in page.root.items() if k in root}, catalogue.ROOT),
    ]
    chosen = chosen_groups(request)
    for group in ("model", "dataset", "device"):
        about = catalogue.page(catalogue.yaml_path(group, chosen[group], extra))
        names = ", ".join(catalogue.choices(group, extra))
        parts += ["", *textwrap.wrap(f"{group}={chosen[group]}: {about.summary}", width())]
        parts += textwrap.wrap(f"one of {names}", width() - 2, initial_indent="  ", subsequent_indent="  ")
        parts += [entries(about.entries, catalogue.options(group, chosen[group]), prefix=f"{group}.")]
    return "\n".join(parts)


def upkeep(name: str) -> str:
    """Write the page of `cnnprobe doctor --help` and its like, from the file's docstring."""
    paragraphs = catalogue.description("upkeep", name).split("\n\n")
    examples = [part for part in paragraphs if part.startswith("    cnnprobe ")]
    texts = [part.replace("\n", " ") for part in paragraphs if part not in examples]
    root = catalogue.page(catalogue.configs_dir() / "config.yaml").entries
    parts = textwrap.wrap(f"cnnprobe {name}: {texts[0]}", width())
    for text in texts[1:]:
        parts += ["", *textwrap.wrap(text, width())]
    commands = [line[2:] for example in examples for line in example.splitlines()]
    own = {key: root[key] for key in catalogue.UPKEEP_OPTIONS}
    return "\n".join([*parts, "", "Examples", *commands, "", "Options", entries(own, catalogue.ROOT)])


def experiment(request: Request) -> list[str]:
    """Write what an experiment is that the command line names, and what it chooses."""
    name = named_experiment(request)
    if not name:
        return []
    page = catalogue.page(catalogue.yaml_path("experiment", name, request.config_dirs))
    return ["", *textwrap.wrap(f"experiment={name}: {page.summary}", width()), *(f"  {one}" for one in page.examples)]


def named_experiment(request: Request) -> str:
    """Return the experiment that the command line names; "" for none."""
    words = [word.lstrip("+").removeprefix("experiment=") for word in request.overrides
             if word.lstrip("+").startswith("experiment=")]  # fmt: skip
    return words[-1].split(",")[0] if words else ""


def chosen_groups(request: Request) -> dict[str, str]:
    """Return the choice of every group: typed on the command line, else of an experiment, else the default."""
    chosen = catalogue.defaults(request.command, request.config_dirs, named_experiment(request))
    for word in request.overrides:
        key, _, value = word.partition("=")
        if key in chosen and key != "method":
            chosen[key] = value.split(",")[0]
    return chosen


def entries(block: dict[str, Entry], options: dict[str, Option], prefix: str = "") -> str:
    """Set one block of options: key=default, what it means, and in brackets what it may be unless that says so."""
    pairs = []
    for key, entry in block.items():
        if key in ("defaults", "method", *catalogue.GROUPS):
            continue
        option = options.get(key)
        said = option is None or all(str(choice) in entry.help for choice in option.choices)
        kind = "" if option is None or (option.choices and said) else option.short
        pairs.append((f"{prefix}{key}={_default(entry.default)}", f"{entry.help} [{kind}]" if kind else entry.help))
    return rows(pairs, gap=30)


def _default(value: Any) -> str:
    if value == "???":
        return "…"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return f"[{','.join(map(str, value))}]" if isinstance(value, list) else str(value)
