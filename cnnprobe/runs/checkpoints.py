"""The `weights/` folder of a training run: checkpoints, and the one state a resume needs."""

import json
from pathlib import Path
from typing import Any

from cnnprobe.errors import UserError
from cnnprobe.machine import files
from cnnprobe.store.tables import Checkpoint

STATE = "resume"


def save(folder: Path, checkpoint: Checkpoint, about: dict[str, Any]) -> None:
    """Save one checkpoint; a state to go on from goes into `resume.safetensors` beside it."""
    from cnnprobe.preparation import weights

    folder.mkdir(exist_ok=True)
    weights.save(files.named(folder, checkpoint.name, ".safetensors"), checkpoint.weights, about)
    if checkpoint.resume is not None:
        tensors: dict[str, Any] = {}
        plain = _separate(checkpoint.resume, "", tensors)
        weights.save(folder / f"{STATE}.safetensors", tensors, about | {"state": plain})


def kept(folder: Path) -> str:
    """Say from where a stopped training would go on, behind the number of its rows: its last row may be ahead."""
    from cnnprobe.preparation import weights

    path = folder / f"{STATE}.safetensors"
    if not path.exists():
        return ", but no state of the training: it begins anew"
    try:
        return f", and the training up to update {weights.about(path)['update']}"
    except (UserError, LookupError):  # damaged (the resume reports it), or of an older version
        return ""


def read(folder: Path) -> dict[str, Any] | None:
    """Read the state a training goes on from, or None where there is none."""
    from cnnprobe.preparation import weights

    path = folder / f"{STATE}.safetensors"
    if not path.exists():
        return None
    try:
        found = _join(weights.about(path)["state"], weights.read(path))
    except (LookupError, TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: it holds no state of a training; --rerun does it once more")
    return found


def _separate(value: Any, place: str, tensors: dict[str, Any]) -> Any:
    """Move tensors out of a nested value; each leaves {"tensor": its name}."""
    import torch

    if isinstance(value, torch.Tensor):
        tensors[place] = value
        return {"tensor": place}
    if isinstance(value, dict):
        return {"map": [[key, _separate(item, f"{place}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_separate(item, f"{place}/{i}", tensors) for i, item in enumerate(value)]}
    json.dumps(value)
    return value


def _join(value: Any, tensors: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        if "map" in value:
            return {key: _join(item, tensors) for key, item in value["map"]}
        return [_join(item, tensors) for item in value["list"]]
    return value
