"""The task a network had learned before a transfer: the run that records it, its images and its classes."""

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnprobe.config import catalogue, schema, untrusted_yaml
from cnnprobe.datasets.base.imageset import ImageSet, tell_once
from cnnprobe.errors import UserError, path_of
from cnnprobe.instruments.network.about import about
from cnnprobe.preparation import build as preparation
from cnnprobe.preparation import identity
from cnnprobe.preparation.named_weights import TRAINING
from cnnprobe.store import folders, run_json

LOG = logging.getLogger("cnnprobe")
PATHS = {"folder": ("root", "classes", "labels", "masks")}
"""Options that name files and folders, by dataset; of any other it is `root` alone."""


def image_sets(config: dict[str, Any], prepared: preparation.Preparation) -> dict[str, ImageSet]:
    """Open the images of the old task, see `contract.Method.image_sets`.

    Raises:
        UserError: there is no such run, its images cannot be opened, have changed, or have other classes than the
            network.
    """
    folder = _folder(config, prepared)
    if folder is None:
        return {}
    try:
        dataset = _images(folder, prepared)
        _has_the_classes(dataset, prepared)
    except UserError as error:
        run = folders.short(folder, config["out"])
        raise UserError(f"old_task={run}: {error}; old_task=none goes without") from None
    tell_once((dataset, prepared.dataset, prepared.held_out))
    return {"old_task": dataset}


def inputs(config: dict[str, Any], prepared: preparation.Preparation, device: str) -> dict[str, Any]:
    """Name the old task, see `contract.Method.inputs`."""
    folder, dataset = _folder(config, prepared), prepared.beside.get("old_task")
    return {"old_task": Old(dataset, folders.short(folder, config["out"])) if folder and dataset else None}


def reads(config: dict[str, Any]) -> dict[str, Path]:
    """Return the run that tells of the old task, see `contract.Method.reads`."""
    word = config["method"]["old_task"]
    if not word or word in ("auto", "none"):
        return {}
    with suppress(UserError):  # told where it is opened
        return {"old_task": folders.find(word, config["out"])}
    return {}


@dataclass(frozen=True)
class Old:
    """What an old readout is asked about.

    Args:
        dataset: an image set; of a training run the images that were held out.
        run: the run it is the dataset of, as shown.
    """

    dataset: ImageSet
    run: str


def _folder(config: dict[str, Any], made: preparation.Preparation) -> Path | None:
    """Return the run that `old_task=` names; "auto" is the one that the weights come from.

    None where there is no old task: none is requested, the weights are random, or "auto" and they are of no run.
    """
    asked, path = config["method"]["old_task"], made.weights.path
    if asked in (None, "none") or made.weights.kind == "random":
        return None
    if asked != "auto":
        return folders.find(asked, config["out"])
    return None if path is None or made.weights.packaged or not made.weights.of_a_run else path.parent.parent


def _images(folder: Path, made: preparation.Preparation) -> Any:
    """Build the dataset of a run at the size of the network that is taught now; they are those it was made with."""
    config, about = untrusted_yaml.read(folder / "config.yaml"), run_json.read(folder)
    if not isinstance(config, dict):
        raise UserError("its config.yaml holds no configuration")
    block = _from_home(schema.block("dataset", config.get("dataset"), stored=True), folder)
    limit, seed = (catalogue.ROOT[key].check(config.get(key), key) for key in ("limit", "seed"))
    schema.limit_is_known(limit)
    if block.get("download"):  # the run may come from anybody
        block |= {"download": False}
    training = about.get("command") in TRAINING
    before = about.get("held_out" if training else "dataset")

    def built(model: dict[str, Any]) -> Any:
        options = {key: value for key, value in model.items() if key not in ("name", "num_classes")}
        needs = preparation.module("model", model["name"]).needs(**options)
        shown, held_out = preparation.datasets_of({"dataset": block, "limit": limit, "seed": seed}, needs, training)
        return held_out if training else shown

    dataset = built(made.options)
    then = dataset
    if not dataset.at_any_size and isinstance(before, dict) and before.get("fingerprint") != dataset.fingerprint:
        then = built(schema.block("model", config.get("model"), stored=True))  # of the size that is spoken of
    folders.same_images(then, before, folder.name)
    _has_the_labels(dataset, about.get("identity", {}), training, folder)
    return dataset


def _from_home(block: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the options of a run's dataset with the paths that they meant in its own working directory."""
    paths = PATHS.get(block["name"], ("root",))
    named = {key: path_of(block[key]) for key in paths if isinstance(block.get(key), str)}
    home = run_json.home(folder) if not all(path.is_absolute() for path in named.values()) else None
    if home is None:
        return block
    LOG.warning(f"old_task: {folder.name} was made in another working directory: its images are taken from {home}")
    return block | {key: str(home / path) for key, path in named.items()}


def _has_the_labels(dataset: ImageSet, before: dict[str, str], held_out: bool, folder: Path) -> None:
    labels = f"held-out {identity.LABELS}" if held_out else identity.LABELS
    if before.get(labels, identity.labels_of(dataset)) != identity.labels_of(dataset):
        raise UserError(f"the labels of its images are others than when {folder.name} was made")


def _has_the_classes(dataset: ImageSet, made: preparation.Preparation) -> None:
    """Compare the names of the classes; a file of weights may know none, then their number is compared later."""
    own = tuple((made.weights.about or {}).get("classes") or about(made.model).classes)
    names = dataset.target.names
    if not names or (dataset.target.kind == "class" and not (dataset.labels >= 0).any()):
        raise UserError(f"the images of {dataset.name} have no classes")
    if own and own != tuple(names):
        there, here = (f"{names[0]} … {names[-1]} ({len(names)})" for names in (names, own))
        raise UserError(f"its classes are {there}, those of the weights {here}")
