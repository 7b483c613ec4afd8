"""The inputs that rsa compares with: the references, volumes and mask that its options name."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.brain import volumes
from cnnprobe.methods.rsa.references import named
from cnnprobe.methods.rsa.references.conditions import conditions_of
from cnnprobe.preparation.build import Preparation
from cnnprobe.store import folders


def inputs(config: dict[str, Any], prepared: Preparation, device: str) -> dict[str, Any]:
    """Open references, volumes and mask, see `contract.Method.inputs`."""
    own = config["method"]
    found: dict[str, Any] = {}
    if own["reference"]:
        found["reference"] = named.of_run(config, prepared.dataset)
    if own["searchlight"]:
        names = conditions_of(prepared.dataset, own["conditions"] == "class").names
        subjects = volumes.subjects(own["searchlight"], names, own["order"])
        found["searchlight"] = subjects
        found["mask"] = own["mask"] and volumes.mask(own["mask"], subjects[0])
    return found


def reads(config: dict[str, Any]) -> dict[str, Path]:
    """Return the runs that references are taken from, see `contract.Method.reads`."""
    found = {}
    for word in named.words_of(config["method"]["reference"]):
        with suppress(UserError):  # a file, or pixels
            found[f"reference {word}"] = folders.find(word, config["out"], "" if "/" in word else "rsa")
    return found
