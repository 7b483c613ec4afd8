"""From overrides to one checked configuration: plain Python values in which every key is known and has its type.

Hydra composes; what a person may have meant is worked out before, so that a mistake is reported in our
words with the names there are, and never by way of a half-built configuration.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from cnnprobe.config import catalogue, own_experiment, schema, untrusted_yaml
from cnnprobe.config.words import Request
from cnnprobe.errors import UserError, listing, path_of, unknown

ADDED = ("experiment", "launch")
"""Groups without a default: `experiment=x` is written `+experiment=x` for Hydra."""
NUMBERED = re.compile(r"cuda:\d+(,cuda:\d+)*")
"""`device=cuda:1`: the choice cuda, and which GPU."""


def overrides(request: Request) -> list[str]:
    """Return the words of the command line as Hydra takes them.

    Short options get their `method.`, values that Hydra's grammar refuses are quoted, `~/` is expanded,
    and the command is put in as `method=`.

    Raises:
        UserError: a word is no `key=value`, or names a key or choice that does not exist; a file of
            `--config-dir` is more than choices and values.
    """
    for folder in request.config_dirs:
        untrusted_yaml.check_folder(folder)
    method = catalogue.page(catalogue.yaml_path("method", request.command, request.config_dirs))
    if request.command in catalogue.OWN:
        own = own_experiment.node(request.command)
        ConfigStore.instance().store(request.command.replace("-", "_"), own, "method", "_global_")
    root = catalogue.page(catalogue.configs_dir() / "config.yaml").entries
    plain = {*method.root, *(key for key in root if key != "defaults")}
    found = [f"method={request.command.replace('-', '_')}"]
    for word in request.overrides:
        sign, key, value = _taken_apart(word)
        if key.startswith("hydra"):
            found.append(_quoted(sign, key, value))
            continue
        if key == "device" and NUMBERED.fullmatch(value or ""):
            found += ["device=cuda", f"device.name={value}"]
            continue
        if key in ADDED or key in catalogue.GROUPS:
            _choice_exists(request, key, value)
            sign = "+" if key in ADDED else ""
        elif "." not in key and key not in plain:
            if key not in method.entries:
                keys = [*method.entries, *plain, *catalogue.GROUPS[:2], "device", "experiment"]
                raise unknown("option", key, sorted(set(keys)), of=request.command)
            key = f"method.{key}"
        sign = "" if sign == "+" and key not in ADDED else sign
        found.append(_quoted(sign, key, value))
    return found


def _taken_apart(word: str) -> tuple[str, str, str | None]:
    match = re.fullmatch(r"(\+\+|\+|~)?([^=]+)(?:=(.*))?", word, flags=re.DOTALL)
    if not match or (match[3] is None and match[1] != "~"):
        raise UserError(f"{word!r} is no key=value, such as layer=conv1 or model=convnet")
    return match[1] or "", match[2], match[3]


def _choice_exists(request: Request, group: str, value: str | None) -> None:
    names = catalogue.choices(group, request.config_dirs)
    if group == "method":
        raise UserError(f"the method is the command itself; write cnnprobe {value} …")
    for name in (value or "").split(","):
        if name not in names and not re.search(r"[(\[{]", name):
            raise unknown(group, name, names)


def _quoted(sign: str, key: str, value: str | None) -> str:
    """Return the override as Hydra can read it, its value byte for byte as typed."""
    parser = OverridesParser.create()
    if value is None:
        try:
            parser.parse_override(f"{sign}{key}")
        except HydraException:
            raise UserError(f"cannot read {sign + key!r}; write key=value") from None
        return f"{sign}{key}"
    if value == "~" or value.startswith("~/"):
        value = str(path_of(value))
    moments = re.sub(r"""(?<![^,[\]'"])[^,[\]'"]+@(epoch|update)=\d+""", lambda found: f"'{found[0]}'", value)
    for text in (f"{sign}{key}={value}", f"{sign}{key}={moments}", f"{sign}{key}={_in_quotes(value)}"):
        try:
            parser.parse_override(text)
        except HydraException:
            continue
        return text
    raise UserError(f"cannot read {key}={value!r}; put the value in quotes: \"{key}='…'\"")


def _escaped(value: str) -> str:
    # Hydra reads a backslash as an escape only in front of a quote or the end
    return re.sub(r"(?<!\\)(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)


def _in_quotes(text: str) -> str:
    return f"'{_escaped(text)}'"


def searchpath(folders: tuple[Path, ...]) -> list[str]:
    """Tell Hydra where else configurations are: in these folders, whatever signs their paths have, and no others."""
    paths = ",".join(_in_quotes(f"file://{path.resolve()}") for path in folders)
    return [f"hydra.searchpath=[{paths}]"] if folders else []


def literal(text: str) -> str:
    """Write a text as a value in which neither Hydra's grammar nor an interpolation finds anything."""
    return _in_quotes(re.sub(r"(?<!\\)(\\*)\$\{", r"\1\1\\${", text))


def swept_by_files(request: Request, words: list[str]) -> list[str]:
    """Return what the files of `--config-dir` say to sweep over, as overrides.

    Args:
        request: the command line.
        words: its overrides, as `overrides` has written them.

    Raises:
        UserError: the files choose what is not there.
    """
    if not request.config_dirs:
        return []
    choosing = [word for word in words if word.lstrip("+").partition("=")[0] in (*ADDED, *catalogue.GROUPS)]
    single = [word for word in choosing if not parsed([word])[0].is_sweep_override()]
    with _words_of_hydra(words), initialize_config_dir(str(catalogue.configs_dir()), version_base="1.3"):
        config = hydra_compose("config", [*searchpath(request.config_dirs), *single], return_hydra_config=True)
        params = OmegaConf.to_container(config.hydra.sweeper.params or OmegaConf.create({}), resolve=False)
    return [f"{key}={value}" for key, value in dict(params).items()]


def jobs(words: list[str]) -> int:
    """Return how many jobs a sweep has; values that only its sweeper knows count as one.

    Raises:
        UserError: a range has steps of 0, or no end.
    """
    found = 1
    for override in parsed(words):
        values = override.value()
        if isinstance(values, RangeSweep):
            if not values.step:
                raise UserError(f"{override.input_line}: a range needs a step other than 0")
            try:
                found *= max(0, math.ceil((values.stop - values.start) / values.step))
            except (OverflowError, ValueError):
                raise UserError(f"{override.input_line}: a range without end") from None
        elif isinstance(values, ChoiceSweep):
            found *= len(values.list)
    return found


def parsed(words: list[str]) -> list[Override]:
    """Parse overrides that `overrides` has written."""
    return OverridesParser.create().parse_overrides(words)


def no_sweep(words: list[str], command: str) -> None:
    """Refuse several values for one key outside a sweep."""
    for override in parsed(words):
        key = str(override.key_or_group).removeprefix("method.")
        if not override.is_sweep_override() or key.startswith("hydra"):
            continue
        values = (override.input_line or "").partition("=")[2]
        several = {2: "two", 3: "three"}.get(len(values.split(",")), "several")
        option = (catalogue.ROOT | catalogue.options("method", command)).get(key)
        hint = f", for a list write {key}=[{values}]" if option and "list" in option.kinds else ""
        raise UserError(f"{key} got {several} values; for a sweep add -m{hint}")


def compose(request: Request, whole: bool = True) -> dict[str, Any]:
    """Compose and check the configuration of one command line.

    Args:
        request: the command line.
        whole: whether a run is made of it; else what has no default need not be typed, see `schema.checked`.

    Returns:
        keys of the root, and the blocks model, dataset, device and method.
    """
    words = overrides(request)
    no_sweep(words, request.command)
    config = _composed(words, request.config_dirs)
    if request.command == "layers" and _needs_other_channels(config, words):
        config = _composed([*words, "dataset=manufactured"], request.config_dirs)
    return schema.checked(config, request.command, whole=whole)


def _needs_other_channels(config: dict[str, Any], words: list[str]) -> bool:
    """Say whether no images were requested, and a network of one's own is said to take others than RGB."""
    asked = any(re.match(r"[+~]*(dataset|experiment)\b", word) for word in words)
    return not asked and config["model"]["name"] == "custom" and config["model"].get("channels") not in (None, 3)


def first_job(request: Request) -> dict[str, Any]:
    """Compose and check the first job of a sweep: a mistake that all jobs share is reported before any is begun."""
    words = [word for word in map(_first, overrides(request)) if word]
    return schema.checked(_composed(words, request.config_dirs), request.command)


def _first(word: str) -> str:
    """Return an override with the first of its values; "" where there is none, or it is about Hydra itself."""
    (override,) = parsed([word])
    if word.lstrip("+").startswith("hydra"):
        return ""
    if not override.is_sweep_override():
        return word
    try:
        value = next(override.sweep_string_iterator(), None)
    except (HydraException, AssertionError, ValueError):
        return ""
    return "" if value is None else f"{word.partition('=')[0]}={value}"


@contextmanager
def _words_of_hydra(words: list[str]) -> Iterator[None]:
    """Turn errors of Hydra's inside the block into ours."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, YAMLError) as error:
        raise UserError(one_line(error)) from None
    except ValueError as error:  # a group of Hydra's own chosen by null
        raise UserError(f"cannot read {listing(words)}: {one_line(error)}") from None


def _composed(words: list[str], extra: tuple[Path, ...]) -> dict[str, Any]:
    choosing = [word for word in words if word.lstrip("+").partition("=")[0] in (*ADDED, *catalogue.GROUPS)]
    search = searchpath(extra)
    with _words_of_hydra(words):
        with initialize_config_dir(str(catalogue.configs_dir()), version_base="1.3"):
            try:
                config = hydra_compose("config", [*search, *words])
            except (HydraException, OmegaConfBaseException):
                _check_keys(words, choosing, search)
                raise
            changed = any(word[0] in "+~" for word in words)  # they make keys, or take them away
            _check_keys(words, choosing, search, None if changed else config)
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=False)


def _check_keys(words: list[str], choosing: list[str], search: list[str], config: Any = None) -> None:
    """Refuse overrides of keys that the choices made do not have; Hydra's own words for that are hard to read.

    Args:
        words: all overrides.
        choosing: those among them that choose from groups.
        search: overrides that say where else configurations are.
        config: as composed with those choices; None: composed here.
    """
    config = hydra_compose("config", [*search, *choosing]) if config is None else config
    for word in words:
        if word not in choosing:
            _key_exists(word, config)


def _key_exists(word: str, config: Any) -> None:
    key = word.lstrip("+~").partition("=")[0]
    group, _, name = key.rpartition(".")
    if name == "name" and group in catalogue.GROUPS and group != "device":  # cuda:1 is one of several
        raise UserError(f"choose with {group}=…, not {key}=…")
    block = OmegaConf.select(config, group) if group else config
    names = list(block.keys()) if OmegaConf.is_dict(block) else []
    if name not in names:
        of = f"{group}={block.name}" if group and names else "the configuration"
        raise unknown("option", key, [f"{group}.{n}" if group else str(n) for n in names if n != "name"], of=of)


def one_line(error: BaseException) -> str:
    """Return the innermost reason of an error of Hydra's, without its lines about types and links."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    kept = [
        line.strip() for line in lines if not re.match(r"\s*(full_key|object_type|reference_type|To append|See )", line)
    ]
    place = next((line.split(":", 1)[1].strip() for line in lines if line.strip().startswith("full_key")), "")
    return "; ".join(kept) + (f" (key {place})" if place else "")
