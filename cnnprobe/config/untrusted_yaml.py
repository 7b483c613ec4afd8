"""YAML that anyone may have written: data, never code. It is inspected before Hydra or a run sees it.

Hydra runs what `_target_` names, its callbacks and its logging; OmegaConf reads the environment and unfolds aliases
without bound. So a file says which choices and values to take, and nothing else.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from cnnprobe.errors import UserError, listing

LARGEST = 2**18  # bytes; the longest page of our own has 4000
DEEPEST = 40
MOST = 10_000  # values, aliases unfolded
LONGEST = 1000  # bits of an integer
FOLDERS = ("model", "dataset", "method", "device", "experiment", "launch")
"""Folders of a user's own YAML that a command line can choose from."""
LAUNCHER = (
    "account", "array_parallelism", "cpus_per_task", "gpus_per_node", "mem_gb", "n_jobs", "nodes", "partition", "qos",
    "tasks_per_node", "timeout_min",
)  # fmt: skip
"""What a file may say of a launcher: how much of a cluster a job gets; others become lines of a shell script."""
VARIABLES = r"CNNPROBE_\w+|HOME|USER|SLURM_\w+|CUDA_VISIBLE_DEVICES"
VARIABLE = rf"oc\.env:\s*(?:{VARIABLES})\s*(?:,[^${{}}]*)?"
ALLOWED = re.compile(rf"\$\{{\s*(?:[\w.\[\]-]+\s*|{VARIABLE})\}}")
"""Interpolations: the value of another key, or a variable of the environment that is no secret.

No two parts of it that repeat can share a text: each way to share it would be tried where the end is missing.
"""
SWEPT = re.compile(rf"(?:[^\\${{}}]|\$\{{\s*{VARIABLE}\}})*")
"""Values to sweep over: neither a block nor what becomes an interpolation in Hydra's grammar, `$\\{`."""
LONGEST_SWEPT = 4000
"""Letters of a value to sweep over: Hydra takes more than the square of their number to read a list."""
PUBLISHED = re.compile(r"(?<![\w/@-])published(?![\w/@-])|\$\{")
"""In `weights`: the word that lets them be fetched, or what may become it."""


def check_folder(folder: Path) -> None:
    """Look through every YAML file of a `--config-dir` that a command line can choose.

    Raises:
        UserError: no such folder; the first file that is not YAML, has no end, or holds more than choices and values.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder} is not a folder (--config-dir)"
            if folder.exists()
            else f"there is no folder {folder} (--config-dir)"
        )
    if (folder / "hydra").exists():
        raise UserError(f"{folder / 'hydra'} is not allowed: settings of Hydra stand on the command line")
    for name in FOLDERS:
        for path in sorted((folder / name).glob("*.y*ml")):
            _Page(path).check(read(path))


def read(path: Path) -> Any:
    """Return the plain values of a YAML file, None if it is empty.

    Raises:
        UserError: it cannot be read, is not YAML, or is too large, too deep or without end; with its line.
    """
    try:
        if not path.is_file():
            raise UserError(f"{path} is not a file" if path.exists() else f"there is no file {path}")
        with path.open("rb") as source:
            data = source.read(LARGEST + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > LARGEST:
        raise UserError(f"{path} is too large for a configuration (limit {LARGEST >> 10} kB)")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}:{data[: error.start].count(10) + 1}: not YAML: not a text in UTF-8") from None
    if text.startswith("\ufeff"):
        raise UserError(f"{path}:1: begins with a byte-order mark; save it as plain UTF-8")
    return values(text, str(path))


def values(text: str, name: str) -> Any:
    """Return the plain values of a YAML text, None if it is empty.

    Args:
        text: of one document.
        name: where it stands, for the message.

    Raises:
        UserError: it is not YAML, or is too deep or without end; with its line.
    """
    try:
        _measure(name, text)
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # a date of month 99 is a ValueError
        mark = getattr(error, "problem_mark", None)
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise UserError(f"{name}{f':{mark.line + 1}' if mark else ''}: not YAML: {' '.join(reason.split())}") from None


class _Loader(yaml.SafeLoader):
    """Reads plain values; an integer in hexadecimal may have more digits than Python writes in decimal."""


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    value = loader.construct_yaml_int(node)
    if value.bit_length() > LONGEST:
        words = f"an integer of {value.bit_length()} bits, at most {LONGEST} may be"
        raise yaml.constructor.ConstructorError(problem=words, problem_mark=node.start_mark)
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def _measure(name: str, text: str) -> None:
    """Refuse what has no end or is no plain value, event by event, before anything is built from it."""
    open_: list[list[Any]] = []  # of each collection that is not closed: name of its anchor, values in it, its depth
    known: dict[str, list[Any]] = {}
    documents = total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        assert event.start_mark is not None  # the parser says of each where it stands
        where = f"{name}:{event.start_mark.line + 1}"
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise UserError(f"{where}: a second document begins; one file holds one configuration")
        if (tag := getattr(event, "tag", None)) is not None:
            raise UserError(f"{where}: tag {tag!r} is not allowed in a configuration file")
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append([event.anchor, 0, 1])
            if len(open_) > DEEPEST:
                raise UserError(f"{where}: nested more than {DEEPEST} deep")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            done = open_.pop()
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _, _ in open_):
                raise UserError(f"{where}: *{event.anchor} contains itself")
            done = [None, *known.get(event.anchor or "", [0, 1])]
            total += done[1]
        elif isinstance(event, yaml.ScalarEvent):
            done = [event.anchor, 0, 0]
        else:
            continue
        total += 1
        if done[0]:
            known[done[0]] = done[1:]
        if open_:
            open_[-1][1:] = [open_[-1][1] + done[1] + 1, max(open_[-1][2], done[2] + 1)]
            if len(open_) + done[2] > DEEPEST:
                raise UserError(f"{where}: nested more than {DEEPEST} deep")
        if total > MOST:
            raise UserError(f"{where}: expands to more than {MOST} values")


class _Page:
    """One file, and what may stand in it."""

    def __init__(self, path: Path):
        self.path = path

    def check(self, values: Any) -> None:
        """Refuse whatever is more than a choice or a value."""
        self._package(self.path.read_text(encoding="utf-8"))
        if not isinstance(values, dict | None):
            raise UserError(f"{self.path}: expected keys with values, got {type(values).__name__}")
        for key, value in (values or {}).items():
            if key == "defaults":
                self._defaults(value)
            elif key == "hydra":
                self._hydra(value)
            else:
                self._key(key, value)

    def _package(self, text: str) -> None:
        """Only the root may be filled from elsewhere: "@package hydra.job_logging" would reach Hydra's own settings."""
        for line in text.splitlines():
            if line.strip() and not line.strip().startswith("#"):
                return
            if re.match(r"\s*#\s*@", line) and line.split("@", 1)[1].split() != ["package", "_global_"]:
                raise UserError(f"{self.path}: {line.strip()!r} is not allowed; only '# @package _global_' is")

    def _defaults(self, listed: Any) -> None:
        for item in listed if isinstance(listed, list) else [listed]:
            pairs = item.items() if isinstance(item, dict) else [("", item)]
            for group, name in pairs:
                place = str(group).removeprefix("override ").removeprefix("optional ").strip()
                names = name if isinstance(name, list) else [name]
                plain = all(re.fullmatch(r"[\w.-]+|None", str(one)) for one in names)
                if (place and place not in ("/hydra/launcher", *(f"/{one}" for one in FOLDERS))) or not plain:
                    raise UserError(
                        f"{self.path}: {item!r} is not allowed in defaults; write a name, or /group: name, "
                        f"with a group of {listing(FOLDERS)}, hydra/launcher"
                    )

    def _hydra(self, settings: Any) -> None:
        for key, value in settings.items() if isinstance(settings, dict) else [(settings, None)]:
            inner = value if isinstance(value, dict) else {}
            if key == "mode":
                self._value("hydra.mode", value)
            elif key == "sweeper" and set(inner) == {"params"}:
                self._swept(inner["params"])
            elif key != "launcher" or not inner or not all(map(_is_launcher, inner, inner.values())):
                raise UserError(
                    f"{self.path}: key 'hydra.{key}' is not allowed in a configuration file; mode, sweeper.params and "
                    f"launcher with {listing(LAUNCHER)} are"
                )

    def _swept(self, params: Any) -> None:
        """Look through what is swept over: Hydra reads each KEY=VALUE as an override, in a grammar with functions."""
        for key, value in params.items() if isinstance(params, dict) else [(params, None)]:
            self._key(key, value)
            if len(str(value)) > LONGEST_SWEPT:
                told = f"{self.path}: {str(key)[:80]} of hydra.sweeper.params has {len(str(value))} letters"
                raise UserError(f"{told}; at most {LONGEST_SWEPT} are swept over")
            elsewhere = key in FOLDERS and re.search(r"[/$]", str(value))  # a file that nobody has looked through
            plain = re.fullmatch(r"[A-Za-z_][\w-]*(\.[\w-]+)*", str(key)) and SWEPT.fullmatch(str(value))
            if elsewhere or not plain:
                raise UserError(
                    f"{self.path}: {f'{key}={value}'[:80]!r} is not allowed in hydra.sweeper.params; names of options "
                    "are, choices in their own folders, and values without backslashes, braces and keys of others"
                )

    def _key(self, key: Any, value: Any) -> None:
        last = str(key).rpartition(".")[2]
        if re.fullmatch(r"_\w+_", last) or str(key).lstrip("+~").startswith("hydra"):
            raise UserError(f"{self.path}: key {str(key)[:80]!r} is not allowed in a configuration file")
        if last == "file" and value not in (None, "???"):
            raise UserError(f"{self.path}: {key}: a Python file is run only if the command line names it: model.file=…")
        told = f"{self.path}: {key}: {{}} fetched only if the command line says so: {{}}"
        if last == "download" and value not in (False, None):
            raise UserError(told.format("images are", "dataset.download=true"))
        if last == "weights" and PUBLISHED.search(str(value)):
            raise UserError(told.format("weights are", "weights=published (no interpolation may stand here)"))
        self._value(key, value)

    def _value(self, key: Any, value: Any) -> None:
        if isinstance(value, dict):
            for inner, item in value.items():
                self._key(inner, item)
        elif isinstance(value, list):
            for item in value:
                self._value(key, item)
        elif isinstance(value, str) and "${" in (rest := ALLOWED.sub(" ", value)):
            variable = re.search(r"\$\{\s*oc\.env:\s*([^\s,}]*)", rest)
            what = f"environment variable {variable[1]}" if variable else f"{rest[rest.index('${') :][:60]!r}"
            raise UserError(f"{self.path}: {key}: {what} may not be used in a configuration file")


def _is_launcher(key: Any, value: Any) -> bool:
    return key in LAUNCHER and (isinstance(value, int | float) or bool(re.fullmatch(r"[\w.,:@-]+", str(value))))
