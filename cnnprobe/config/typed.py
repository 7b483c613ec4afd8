"""Options typed on a command line, beside a run whose own options are followed: they are used, or refused by name."""

import json
from collections.abc import Iterable
from typing import Any

from cnnprobe.config import catalogue
from cnnprobe.errors import UserError

AS_THE_RUN = ("num_classes", "input_size", "channels", "mean", "std")
"""Options of a model whose null means: as the weights say."""


def values(words: Iterable[str], config: dict[str, Any]) -> dict[str, Any]:
    """Return what words of a command line give a value, by key ("model", "model.input_size", "seed").

    Args:
        words: as typed.
        config: that they compose, checked; of `model` and `dataset` the name of the choice is the value.
    """
    keys = dict.fromkeys(word.lstrip("+~").partition("=")[0] for word in words)
    return {key: _value(config, key) for key in keys if key.partition(".")[0] in config}


def must_agree(typed: dict[str, Any], own: dict[str, Any], whose: str) -> None:
    """Refuse an option that a run decides and somebody has typed otherwise; what was not typed follows the run.

    Args:
        typed: see `values`.
        own: what the run decides, laid out like a configuration: blocks, and keys of the root.
        whose: what the run is called.

    Raises:
        UserError: the first such option, with both values.
    """
    for key, value in typed.items():
        group, _, name = key.partition(".")
        if group not in own or (value is None and group == "model" and name in AS_THE_RUN):
            continue
        there = key if not name or name in own[group] else group  # another model has other options
        if there != key or value != _value(own, key):
            raise UserError(f"{whose} has {there}={_plain(_value(own, there))}, asked for {key}={_plain(value)}")


def _value(config: dict[str, Any], key: str) -> Any:
    group, _, name = key.partition(".")
    if group in catalogue.GROUPS:
        return config[group].get(name or "name")
    return config[group]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
