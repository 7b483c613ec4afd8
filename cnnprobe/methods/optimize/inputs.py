"""The second network of an ascent, which `brain=RUN` names: the one whose population is controlled."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from cnnprobe.errors import UserError
from cnnprobe.preparation import build, named_weights


@dataclass(frozen=True)
class SecondNetwork:
    """A network that takes the part of the brain.

    Args:
        model: in eval mode, on the device.
        size: (channel, y, x) of its inputs.
        label: of its weights.
    """

    model: nn.Module
    size: tuple[int, ...]
    label: str


def inputs(config: dict[str, Any], prepared: build.Preparation, device: str) -> dict[str, Any]:
    """Open the second network, see `contract.Method.inputs`."""
    return {"brain": second_network(config, device)} if config["method"]["brain"] else {}


def reads(config: dict[str, Any]) -> dict[str, Path]:
    """Return the run of the second network and the file of its weights, see `contract.Method.reads`."""
    word = config["method"]["brain"]
    if not word:
        return {}
    found: dict[str, Path] = {}
    with suppress(UserError):  # told where it is opened
        found["brain"] = named_weights.checkpoints(word.partition("@")[0], config)[0]
    with suppress(UserError):
        file = named_weights.from_run(word, config).path
        assert file is not None, "weights of a run lie in a file"
        found["brain weights"] = file
    return found


def second_network(config: dict[str, Any], device: str) -> SecondNetwork:
    """Build the second network with its weights.

    Raises:
        UserError: there is no such run, or it does not say which network it trained.
    """
    weights = named_weights.from_run(config["method"]["brain"], config)
    options = build.trained_options(weights)
    if not options or options["name"] == "custom":  # a file of weights must not decide which Python file is run
        raise UserError(f"brain={config['method']['brain']} must be a run of train of a network of this package")
    kind = build.module("model", options["name"])
    given = {key: value for key, value in options.items() if key not in ("name", "num_classes")}
    needs = kind.needs(**given)
    size = (needs.channels, needs.size, needs.size)
    classes = (weights.about or {}).get("num_classes")
    model = build.network(kind, options | {"num_classes": None}, given, classes, weights, config["seed"], size)
    return SecondNetwork(model.to(device), size, weights.label)
