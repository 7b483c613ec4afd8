"""Weights in files: save, read, fit to a network, and fetch those that torchvision publishes."""

import hashlib
import importlib
import json
import logging
import urllib.error
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from cnnprobe.config import catalogue
from cnnprobe.errors import UserError, listing
from cnnprobe.instruments.network import about as protocol
from cnnprobe.instruments.network import snapshots
from cnnprobe.machine import files
from cnnprobe.models.weights import checkpoints, matching
from cnnprobe.preparation import likeness
from cnnprobe.store import origin, run_json
from cnnprobe.store.kinds import fits

LOG = logging.getLogger("cnnprobe")
PACKAGED = Path(__file__).parents[1] / "models" / "weights" / "published"
"""Trainings that come with the package, each a folder MODEL-DATASET: `weights/`, `run.json` and README.md, the card."""
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")  # classifiers that only the training of Inception uses; not built here


def sha256(state: Mapping[str, Tensor]) -> str:
    """Return the sha256 (hex) of names, types, shapes and values, whatever the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        value = state[name].detach().cpu().contiguous()
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def save(path: Path, state: Mapping[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors as .safetensors, whole or not at all; the same bytes for the same content.

    Args:
        path: ends in .safetensors.
        state: by name; tensors on any device.
        about: plain values written beside them (model, num_classes, classes, ...), covered by the checksum.
    """
    plain = _apart(state)
    written = {"about": about, "sha256": _checksum(plain, about)}
    files.write(path, to_safetensors(plain, {"cnnprobe": json.dumps(written, sort_keys=True)}))


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors on the CPU, no two of which share memory (safetensors wants that)."""
    apart, storages = {}, set()
    for name, value in state.items():
        value = value.detach().cpu().contiguous()
        storage = value.untyped_storage().data_ptr()
        apart[name] = value.clone() if storage in storages else value
        storages.add(storage)
    return apart


def _checksum(state: Mapping[str, Tensor], about: dict[str, Any]) -> str:
    return hashlib.sha256((json.dumps(about, sort_keys=True) + sha256(state)).encode()).hexdigest()


BESIDE = {
    "model": {"name": str},
    "num_classes": int,
    "classes": [str],
    "input_size": [int],
    "epoch": int,
    "update": int,
    "val_accuracy": float,
    "output": str,
    "buffers": [str],
    "origin": str,
}
"""Kinds of what is written beside weights, see `store.kinds.fits`."""


def about(path: Path) -> dict[str, Any]:
    """Return what `save` wrote beside the weights; {} for a file of someone else."""
    found = checkpoints.metadata(path).get("about", {})
    if not isinstance(found, dict) or (strange := [key for key in BESIDE if key in found and not _is(found, key)]):
        of = f" ({', '.join(strange)})" if isinstance(found, dict) else ""
        raise UserError(f"{path.name} is damaged: what was written beside its weights cannot be read{of}")
    return found


def _is(found: dict[str, Any], key: str) -> bool:
    if key == "output":
        return found[key] in get_args(protocol.Output)
    return (key == "num_classes" and found[key] is None) or fits(found[key], BESIDE[key])


def read(path: Path) -> dict[str, Tensor]:
    """Read every tensor of a .safetensors, .pt or .pth file; code in it is never run.

    Args:
        path: of the file.

    Returns:
        Tensors by the names in the file, see `weights.checkpoints.tensors`.

    Raises:
        UserError: the file is no checkpoint, is damaged, holds code, or lies in a run in the place of another one.
    """
    state = checkpoints.tensors(path)
    run = path.parent.parent
    listed = run_json.read(run).get("files", {}).get(f"{path.parent.name}/{path.name}")
    if listed is not None and files.sha256(path) == listed:
        return state  # the very bytes that the run wrote; no other checksum is needed
    written = checkpoints.metadata(path)
    if "sha256" in written and written["sha256"] != _checksum(state, about(path)):
        raise UserError(f"{path.name} does not match its checksum: it was changed or damaged after it was written")
    if listed is not None:
        other = f"{path.name} of {run} was changed or replaced after the run (its sha256 is not that in run.json)"
        raise UserError(f"{other}; put it back, or name weights of another origin by a path outside of runs")
    own = origin.recorded(run / "store.h5") if path.parent.name == "weights" else None
    if own is not None and about(path).get(origin.ATTRIBUTE) != own:
        other = f"{path.name} of {run} was written by another training than its store"
        raise UserError(f"{other}; put it back, or name weights of another origin by a path outside of runs")
    return state


def classes_in(state: Mapping[str, Tensor], model: nn.Module) -> int | None:
    """Return how many classes a readout has where that is another number than the network was built with.

    Args:
        state: of a file with weights of the same network with any number of classes.
        model: built with some number of classes.

    Returns:
        The number; None where the weights fit as they are, or belong to another network.
    """
    own = model.state_dict()
    sets = matching.found(state, own, matching.optional(model))
    return next((count for one in sets if not one.beside and (count := _classes(one, own)) is not None), None)


def _classes(weights: matching.Found, own: Mapping[str, Tensor]) -> int | None:
    """Return how many classes a set of weights has, None where nothing or more than the readout differs."""
    if not weights.misfits or not weights.state.keys() >= set(weights.misfits):
        return None
    other = [(weights.state[name].shape, own[name].shape) for name in weights.misfits]
    heads = {(theirs[:1], ours[:1]) for theirs, ours in other}
    same = len(heads) == 1 and all(theirs[1:] == ours[1:] and theirs for theirs, ours in other)
    return next(iter(heads))[0][0] if same else None


def fit(
    model: nn.Module,
    state: Mapping[str, Tensor],
    label: str,
    name: str,
    part: str = "",
    buffers: Sequence[str] = (),
) -> None:
    """Put weights into a network, all of them or none; see `matched`."""
    snapshots.put(model, matched(model, state, label, name, part, buffers=buffers))


def matched(
    model: nn.Module,
    state: Mapping[str, Tensor],
    label: str,
    name: str,
    part: str = "",
    tell: bool = True,
    buffers: Sequence[str] = (),
) -> dict[str, Tensor]:
    """Find the weights of a network in a file, whatever stands before their names and beside them.

    Args:
        model: the network.
        state: of the file, as read.
        label: where they come from, for messages.
        name: of the network, for messages.
        part: the prefix of those that are meant, where the file has several sets.
        tell: whether to warn of what is not used, and of what is not there and stays as it was built.
        buffers: names of those that were learned, though the network's state dict leaves them out; as the file says.

    Returns:
        The whole state of the network, see `snapshots.put`.

    Raises:
        UserError: names or shapes differ (how many, the first of each, and the network that fits better), several sets
            fit, or values cannot be used.
    """
    own, may_lack = model.state_dict() | snapshots.expected(model, state, buffers), matching.optional(model)
    sets = [one for one in matching.found(state, own, may_lack) if one.exact]
    if not sets:
        raise _misfit(model, state, label, name)
    weights = matching.one_of(sets, part, label, name)
    _check_values(weights.state, own, label)
    kept = [key for key in own if key not in weights.state]
    told = [key for key in kept if may_lack[key]]
    if tell and weights.unused:
        LOG.warning(f"{label}: not used: {matching.summary(weights.unused)}")
    if tell and told:
        LOG.warning(f"{label} has no {listing(told)}; left as built")
    return {key: own[key].clone() for key in kept} | weights.state


def _misfit(model: nn.Module, state: Mapping[str, Tensor], label: str, name: str) -> UserError:
    """Say how the weights that are most like a network's differ from it."""
    own, may_lack = model.state_dict(), matching.optional(model)
    there = classes_in(state, model)
    near = next(iter(matching.found(state, own, may_lack)), None)
    if there is not None and near is not None:
        first = own[near.misfits[0]].shape[0]
        return UserError(f"{label} is for {there} classes, {name} was requested with {first}; leave out num_classes")
    nearby = near.state | {key: state[key] for key in near.beside} if near else matching.nearest(state, own)
    if not any(key in own for key in nearby):
        nearby = dict(state)  # under the names that stand in the file
    missing = [key for key in own if key not in nearby and key not in may_lack]
    extra = [key for key in nearby if key not in own]
    shapes = [key for key in own if key in nearby and own[key].shape != nearby[key].shape]
    parts = [f"{len(missing)} of {len(own)} missing (first {missing[0]})"] if missing else []
    parts += [f"{len(extra)} unknown (first {extra[0][:80]})"] if extra else []
    if shapes:
        theirs, ours = (list(tensors[shapes[0]].shape) for tensors in (nearby, own))
        parts.append(f"{len(shapes)} of another shape (first {shapes[0]}: {theirs}, {name} has {ours})")
    like = likeness.nearest(matching.nearest(state, {}) if not near else nearby, name)
    hint = f"; it looks like {like}" if like else ""
    return UserError(f"{label} does not fit {name}: {', '.join(parts)}{hint}")


def _check_values(state: Mapping[str, Tensor], own: Mapping[str, Tensor], label: str) -> None:
    """Refuse values that a network cannot take as they are: not finite, of another kind, two for one tensor."""
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            what = "NaN" if value.isnan().any() else "infinite values"
            raise UserError(f"{label}: weights hold {what} in {name}")
        floating = own[name].is_floating_point()
        if value.is_complex() or (floating != value.is_floating_point() and value.numel() > 1):
            kinds = [str(tensor.dtype).removeprefix("torch.") for tensor in (value, own[name])]
            raise UserError(f"{label}: {name} is of type {kinds[0]}, the network has {kinds[1]}")
    for names in matching.tied(own):
        if not all(torch.equal(state[names[0]], state[other]) for other in names[1:]):
            raise UserError(f"{label}: {listing(names)} differ, they are one tensor in the network")


def packaged(name: str, options: dict[str, Any]) -> Path | None:
    """Return the folder of the training of a model that comes with this package; None where none does.

    Args:
        name: of the model, as in `model=`.
        options: of that model. A null means: as the weights say.

    Raises:
        UserError: there is one, of other options; the first of them is named.
    """
    for folder in sorted(PACKAGED.glob(f"{name}-*")):
        trained = about(folder / "weights" / "best.safetensors")["model"]
        differ = [
            key for key, value in options.items() if value is not None and key in trained and value != trained[key]
        ]
        differ = [key for key in differ if key not in ("name", "num_classes")]
        if not differ:
            return folder
        other, asked = (f"{differ[0]}={given[differ[0]]}" for given in (trained, options))
        raise UserError(
            f"the published weights of {name} are of {other}, asked for {asked}; weights=random, or train it"
        )
    return None


def published_on_disk(name: str, options: dict[str, Any]) -> Path | None:
    """Return the file of a model's published weights where torchvision has left it; None where it has not.

    Args:
        name: of the model, as in `model=`.
        options: of that model, without name and num_classes.

    Raises:
        UserError: these options make no network; told before its weights are looked for.
    """
    kind = importlib.import_module(catalogue.module_of("model", name))
    kind.needs(**options)
    entry = _published(kind, options)
    path = _cached(entry.url) if entry is not None else None
    return path if path is not None and path.is_file() else None


def published(name: str, kind: ModuleType, options: dict[str, Any], num_classes: int | None) -> nn.Module:
    """Build a model with its published weights, fetched by torchvision's own address if they are not on disk.

    Args:
        name: of the model, as in `model=`.
        kind: its module.
        options: of the model, without name and num_classes.
        num_classes: as requested; the published readout is kept whatever it says, `transfer` replaces it.

    Returns:
        The model; its `About.classes` are the names of the published classes.

    Raises:
        UserError: nobody has published weights of this model, or they cannot be fetched.
    """
    entry = _published(kind, options)
    if entry is None:
        raise UserError(f"{name} has no published weights; weights=random, a run of train, or a file")
    path = _cached(entry.url)
    if not path.is_file():
        _fetch(name, entry.url, path)
    state = {key: value for key, value in read(path).items() if not key.startswith(AUXILIARY)}
    model = kind.build(num_classes=len(entry.meta["categories"]), **options)
    fit(model, _renamed(state, model), path.name, name)
    model.cnnprobe = replace(protocol.about(model), classes=tuple(entry.meta["categories"]))
    return model


def _renamed(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Give DenseNet's weights of 2017 the names of today ("norm.1" is "norm1"), as torchvision does."""
    own = model.state_dict()
    if state.keys() == own.keys() or not any(".norm.1." in key for key in state):
        return state
    return {key if key in own else _today(key): value for key, value in state.items()}


def _today(key: str) -> str:
    return key.replace("norm.", "norm").replace("conv.", "conv")


def _published(kind: ModuleType, options: dict[str, Any]) -> Any:
    """Return torchvision's entry of the weights: the first ones, which the usual 224 from 256 px belong to."""
    if not hasattr(kind, "architecture"):
        return None
    from torchvision import models

    entries = models.get_model_weights(kind.architecture(**options))
    named = {entry.name: entry for entry in entries}
    return named.get("IMAGENET1K_V1") or getattr(entries, "DEFAULT", None)


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]


def _fetch(name: str, url: str, path: Path) -> None:
    """Download with torch's own client; the file's name ends in the first digits of its sha256, which it checks."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = path.stem.rpartition("-")[2]
        torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        reason = " ".join(str(getattr(error, "reason", error)).split())[:120]
        raise UserError(
            f"cannot fetch the published weights of {name} ({reason}); put {path.name} into {path.parent}, "
            "or take weights=random or a file"
        ) from None
