"""A configuration: which keys it has, and what their values may be.

What a command line composes is checked here, and so is what is recorded in a run that anyone may have handed over.
"""

import re
from typing import Any

from cnnprobe.config import catalogue
from cnnprobe.errors import UserError, listing, unknown

NEEDED = ("weights", "seed", "batch_size", "limit", "name", "out")
"""Keys at the root of every configuration."""

ROOT_PARAMETERS = ("seed", "batch_size", "layer", "units", "device", "workers", "start", "num_classes")
"""Parameters of `compute` and `build` that the runner fills in."""


def checked(config: dict[str, Any], command: str, stored: bool = False, whole: bool = True) -> dict[str, Any]:
    """Return the configuration with every value in its type; `layer: ???` stays, for the runner
    knows the layers there are.

    Args:
        config: composed, or that of a run.
        command: whose options the block method has.
        stored: it is that of a run, maybe of before there were some of the options: these have their defaults.
        whole: whether every option needs a value; else `???` stays where there is none.

    Raises:
        UserError: the first value that is not what its option may be.
    """
    result: dict[str, Any] = {}
    missing = [key for key in (*catalogue.GROUPS, *NEEDED) if key not in config]
    if missing:
        raise UserError(f"the configuration has no {missing[0]!r}; it needs {listing([*catalogue.GROUPS, *NEEDED])}")
    for key, value in config.items():
        if key in catalogue.GROUPS:
            result[key] = block(key, value, command, stored, whole)
        elif key in catalogue.ROOT:
            result[key] = value if value == "???" else _value(catalogue.ROOT[key], value, key)
        else:
            raise UserError(f"no option {key!r} in the configuration; keys: {listing(catalogue.ROOT)}")
    for key in (one for one in ("layer", "units") if one in catalogue.options_of(command) and one not in result):
        known = catalogue.page(catalogue.yaml_path("method", command)).root if stored else {}
        if key not in known or known[key].default == "???":
            raise UserError(f"the configuration has no {key!r}, which {command} needs")
        result[key] = known[key].default  # a run of before there was such an option
    _name_is_safe(result["name"])
    limit_is_known(result["limit"])
    return result


def limit_is_known(limit: int | str | None) -> None:
    """Refuse a limit that is neither a number nor first:n."""
    if isinstance(limit, str) and not re.fullmatch(r"first:[1-9]\d*", limit):
        raise UserError(f"limit must be a number of images, 1 or more, or first:n, such as first:100, got {limit!r}")


def block(group: str, given: Any, command: str = "", stored: bool = False, whole: bool = True) -> dict[str, Any]:
    """Return one block of a configuration with every value in its type.

    Args:
        group: model, dataset, method or device.
        given: the block; its name is a choice of the group.
        command: whose options the method's block has.
        stored, whole: see `checked`.

    Raises:
        UserError: the first value that is not what its option may be.
    """
    if not isinstance(given, dict) or "name" not in given:
        raise UserError(f"{group} must be one of {listing(catalogue.choices(group))}")
    name = given["name"] if group != "method" else command
    is_none = group in ("model", "dataset") and name not in catalogue.choices(group)
    if is_none or not isinstance(name, str):
        raise unknown(group, str(name), catalogue.choices(group))
    options = catalogue.options(group, name)
    shown = "" if group == "method" else f"{group}."
    result = {"name": name}
    for key, value in given.items():
        if key == "name":
            continue
        if key not in options and key not in ROOT_PARAMETERS:
            raise unknown("option", f"{shown}{key}", [f"{shown}{one}" for one in options], of=f"{group}={name}")
        open_ = key not in options or (value == "???" and not whole)
        result[key] = value if open_ else _value(options[key], value, f"{shown}{key}")
    known = _defaults(group, name) if stored else {}
    for key in options:
        if key in result or key in ROOT_PARAMETERS:
            continue
        if key not in known:
            raise UserError(f"{shown}{key} needs a value")
        result[key] = options[key].check(known[key], f"{shown}{key}")  # a run of before there was such an option
    return result


def _defaults(group: str, name: str) -> dict[str, Any]:
    """Return the values that the YAML of a choice gives its options."""
    try:
        page = catalogue.page(catalogue.yaml_path(group, name))
    except UserError:
        return {}
    return {key: entry.default for key, entry in page.entries.items() if entry.default != "???"}


def _value(option: Any, value: Any, name: str) -> Any:
    if value == "???":
        raise UserError(f"needs {name}=…: {option}")
    if "str" in option.kinds and isinstance(value, int | float) and not isinstance(value, bool):
        value = value if option.kinds & {"int", "float"} else str(value)
    return option.check(value, name)


def _name_is_safe(name: str | None) -> None:
    if name is None:
        return
    if "/" in name or "\\" in name or name in ("", ".", "..") or "\0" in name:
        raise UserError(f"name may not contain '/' or be '..', got {name!r}")
    if len(name.encode()) > 200:
        raise UserError(f"name is too long ({len(name.encode())} bytes; at most 200)")
