"""The preparation and its stimuli: from the checked configuration to a network with weights and a dataset."""

import importlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cnnprobe.config import catalogue, schema, typed
from cnnprobe.errors import UserError, no_folder, path_of
from cnnprobe.instruments.network import about as protocol
from cnnprobe.preparation.named_weights import (
    FILES,
    TRAINING,
    Weights,
    from_scratch,
    moment_names,
    random,
    weights_of,
)

LOG = logging.getLogger("cnnprobe")
MANY_CLASSES = 10_000
"""Classes from which on a file of weights has to have a weight for each, before a readout for them is made."""
LARGEST_SIDE = 1024
"""Side of images, px, above which a file of weights alone does not say that a network takes them."""
SMALL_NETWORK = 20_000_000
"""Weights of a network that is built whatever their file holds."""
AS_TRAINED = ("input_size", "channels", "mean", "std")
"""Options of a network of one's own that are those of its training where the command line does not say them."""


@dataclass
class Preparation:
    """A network with its weights and the images to show it.

    Args:
        model: in eval mode, on the device.
        dataset: at the network's size.
        held_out: the images a training is judged on; None for probing.
        weights: where they come from.
        sha256: of the weights as loaded.
        moments: `network.snapshots.Moment`, in order of learning, the network carrying the last; [] for one network.
        sums: sha256 of the weights of each moment, by its label.
        classes: names of the network's own classes, () where unknown.
        options: the `model` block it was built from.
        buffers: sha256 of the buffers of a network of the user's own that are not in its state dict, by name.
        beside: image sets that an experiment reads beside the dataset, by option.
    """

    model: Any
    dataset: Any
    held_out: Any
    weights: Weights
    sha256: str
    moments: list[Any]
    sums: dict[str, str]
    classes: tuple[str, ...]
    options: dict[str, Any]
    buffers: dict[str, str] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)


def module(group: str, name: str) -> Any:
    """Import the Python file behind a choice."""
    return importlib.import_module(catalogue.module_of(group, name))


FOLDERS = ("folder", "coco", "openimages", "tiny-imagenet")
"""Datasets whose `root` is a folder that has to be there."""


def look(config: dict[str, Any]) -> None:
    """Refuse files and folders that are not there, before torch is loaded, which takes seconds.

    Raises:
        UserError: the weights, the folder of images or the Python file of a network that are named.
    """
    weights, dataset, file = config["weights"], config["dataset"], config["model"].get("file")
    if isinstance(weights, str) and path_of(weights).suffix in FILES and not path_of(weights).exists():
        raise UserError(f"there is no file {weights}")
    if file and not path_of(file).exists():
        raise UserError(f"model.file: there is no file {file}")
    root = dataset.get("root") if dataset["name"] in FOLDERS else None
    if root and not path_of(root).exists():
        raise no_folder(path_of(root), dataset["name"])


def load_torch() -> None:
    """Import torch as runs want it, whose products keep all their bits."""
    # Threads that wait for each other spin; where another process needs the core, that costs far more than it
    # gains (4000 against 80 images/s in a small network). So they spin shortly. Read as torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    from cnnprobe.machine import precision

    precision.take_out_of_environment()


def device_of(block: dict[str, Any]) -> tuple[str, int, int]:
    """Return device, threads and loader workers; UserError for one that is not there."""
    load_torch()
    import torch

    from cnnprobe.machine.devices import chosen, cores

    device = chosen(block["name"])
    threads = block["threads"] or cores()
    torch.set_num_threads(threads)
    workers = block["workers"] if block["workers"] is not None else min(8, cores() - 1)
    return device, threads, workers


def prepare(config: dict[str, Any], command: str, words: Sequence[str] = ()) -> Preparation:
    """Build network and dataset.

    Args:
        config: checked, see `config.schema.checked`.
        command: train takes the number of classes from the dataset, others from the weights; transfer puts its new
            readout in itself, and builds anew what it teaches from scratch.
        words: as typed; weights of a training that was of another model, or of other options of it, are refused.

    Raises:
        UserError: something requested does not exist or does not fit together.
    """
    training = command in TRAINING
    weights = weights_of(config, command)
    options = model_options(config, weights, words)
    kind = module("model", options["name"])
    given = {key: value for key, value in options.items() if key not in ("name", "num_classes")}
    needs = kind.needs(**given)
    dataset, held_out = datasets_of(config, needs, training)
    _check_side(dataset.size, options, weights, typed.values(words, config))
    scratch = from_scratch(config, command)
    if scratch:  # a network like the one those weights belong to, without them
        weights = random(config)
    about = weights.about or {}
    own = command == "train" or scratch or (weights.kind == "random" and dataset.target.kind in ("map", "course"))
    wanted = options.get("num_classes") or (len(dataset.target.names) if own else about.get("num_classes"))
    model = network(kind, options, given, wanted, weights, config["seed"], dataset.size)
    if "output" in about and not training:
        model.cnnprobe = replace(protocol.about(model), output=about["output"])
    moments, sums = learned(model, options["name"], weights)
    from cnnprobe.instruments.network import snapshots
    from cnnprobe.machine.memory import is_short
    from cnnprobe.models.foreign import network as foreign
    from cnnprobe.models.parts import inputs
    from cnnprobe.preparation import weights as weight_files

    said, fixed = options.get("channels"), "channels" not in config["dataset"]
    inputs.check_fits(model, options["name"], dataset.size, is_short, said, fixed)
    if options["name"] == "custom":
        _check_foreign(model, dataset, weights, command, {key: given[key] for key in ("mean", "std")})
    classes = tuple(dataset.target.names if training else about.get("classes") or protocol.about(model).classes)
    sha256 = weight_files.sha256(snapshots.whole(model))
    buffers = foreign.unsaved(model) if options["name"] == "custom" else {}
    built = snapshots.as_built(model)  # by its code; what was learned in their place is part of the weights
    asked = ((name, built.get(name, value)) for name, value in buffers.items())
    unsaved = {name: weight_files.sha256({name: value}) for name, value in asked if value is not None}
    return Preparation(model, dataset, held_out, weights, sha256, moments, sums, classes, options, unsaved)


def _check_foreign(model: Any, dataset: Any, weights: Weights, command: str, given: dict[str, Any]) -> None:
    """Check a network of one's own, and warn where images of 0 to 1 are not what it has learned from.

    Raises:
        UserError: what it answers depends on chance or on other images, or its normalisation is on another scale.
    """
    from cnnprobe.instruments.outputs import input_statistics
    from cnnprobe.models.foreign import network as foreign
    from cnnprobe.preparation import likeness

    images = len(dataset.size) == 3
    for name, values in given.items():
        largest = max(map(abs, values if isinstance(values, list) else [values or 0]), default=0)
        if images and largest > 2:  # 0.5 and 0.5 make -1 to 1; 1/255 makes 0 to 255
            raise UserError(f"model.{name} is on the scale of images from 0 to 1, got {largest:g}; divide by 255")
    foreign.check(model, dataset.size, command)
    if not images and input_statistics.reads_images(model, dataset.size):
        raise UserError(
            f"the network takes images, the dataset gives signals of {'x'.join(map(str, dataset.size))} (channel x "
            "time); if they are grey images, say dataset.axes=[recording,y,x]"
        )
    told = input_statistics.remark(model, dataset)
    strange = weights.kind == "file" and not weights.of_a_run
    if images and told is None and strange and input_statistics.is_unknown(model, dataset.size):
        like = likeness.of_torchvision(model.state_dict())
        told = f"this is {like}; its published weights want normalised images, {input_statistics.WAY}" if like else None
    if told:
        LOG.warning(told)


def learned(model: Any, name: str, weights: Weights) -> tuple[list[Any], dict[str, str]]:
    """Try every moment's weights in the network, one after the other; it is left with those of the last.

    Returns:
        the moments, which read their weights when they are asked to; and the sha256 of each, by label.

    Raises:
        UserError: a file is damaged or belongs to another network.
    """
    from cnnprobe.instruments.network import snapshots
    from cnnprobe.preparation import weights as weight_files

    def reader(one: Weights) -> Callable[[], dict[str, Any]]:
        learned = (one.about or {}).get("buffers", ())
        return lambda: weight_files.matched(
            model, weight_files.read(one.file), one.label, name, one.part, tell=False, buffers=learned
        )

    moments, sums = [], {}
    for one, label in zip(weights.moments, moment_names(weights)):
        moment = snapshots.Moment(label, one.epoch, reader(one))
        snapshots.put(model, moment.load())
        moments.append(moment)
        sums[label] = weight_files.sha256(snapshots.whole(model))
    return moments, sums


def network(
    kind: Any,
    options: dict[str, Any],
    given: dict[str, Any],
    wanted: int | None,
    weights: Weights,
    seed: int,
    size: tuple[int, ...],
) -> Any:
    """Build the network for images of a size and put its weights in; the readout has as many classes as they say."""
    from cnnprobe.machine import chance  # with torch
    from cnnprobe.models.foreign import network as foreign
    from cnnprobe.preparation import weights as weight_files

    def built(classes: int | None) -> Any:
        chance.seed(seed, None)
        model = kind.build(num_classes=classes, **given)
        foreign.materialise(model, size, options["name"], options.get("channels"))
        return model

    chance.seed(seed, None)
    if weights.kind == "published":
        return weight_files.published(options["name"], kind, given, wanted)
    state = weight_files.read(weights.file) if weights.kind == "file" else {}
    if weights.kind == "file" and wanted == (weights.about or {}).get("num_classes"):
        _check_classes(wanted, state, weights.label)
    if (weights.about or {}).get("model") and options["name"] != "custom":
        _check_extent(kind, given, wanted, state, weights.label)
    model = built(wanted)
    if weights.kind == "file":
        learned = (weights.about or {}).get("buffers", ())
        count = weight_files.classes_in({key: value for key, value in state.items() if key not in learned}, model)
        if count is not None and options.get("num_classes") in (None, count):
            model = built(count)
        weight_files.fit(model, state, weights.label, options["name"], weights.part, learned)
    return model


def _check_classes(said: int | None, state: dict[str, Any], label: str) -> None:
    """Refuse a number of classes beside weights that none of them has, before a readout of that size is made."""
    if said is not None and said > MANY_CLASSES and not any(said in one.shape for one in state.values()):
        raise UserError(
            f"{label} is damaged: {said} classes are said beside its weights, and no weight has as many rows"
        )


def _check_side(size: tuple[int, ...], options: dict[str, Any], weights: Weights, said: dict[str, Any]) -> None:
    """Refuse large images that only a file of weights says a network takes: it may be a stranger's."""
    if not weights.about or len(size) != 3:
        return
    for key, side in (("input_size", max(size[1:])), ("upsample_to", options.get("upsample_to") or 0)):
        if side > LARGEST_SIDE and options.get(key) == side and f"model.{key}" not in said:
            raise UserError(
                f"{weights.label} says {key}={side}, which is large; if that is meant, say model.{key}={side}"
            )


def _check_extent(kind: Any, given: dict[str, Any], classes: int | None, state: dict[str, Any], label: str) -> None:
    """Refuse options beside weights by which the network would be far larger than they are, before it is built."""
    import torch

    with torch.device("meta"):  # shapes alone
        own = sum(value.numel() for value in kind.build(num_classes=classes, **given).state_dict().values())
    there = sum(value.numel() for value in state.values())
    if own > 2 * there + SMALL_NETWORK:
        raise UserError(
            f"{label} is damaged: the network that is said beside its weights has {own} of them, the file {there}"
        )


def trained_options(weights: Weights) -> dict[str, Any] | None:
    """Return the options of the model that weights were trained with, as its schema has them; None where none are said.

    Raises:
        UserError: there is no such model, or no such option.
    """
    trained = (weights.about or {}).get("model")
    try:
        return schema.block("model", trained, stored=True) if trained else None
    except UserError as error:
        raise UserError(f"{weights.label} is damaged: what was written beside its weights: {error}") from None


def model_options(config: dict[str, Any], weights: Weights, words: Sequence[str]) -> dict[str, Any]:
    """Return the model's options with those the weights were trained with.

    Raises:
        UserError: the weights belong to another model, or to other options of it, than were typed.
    """
    block, about = config["model"], weights.about or {}
    trained = trained_options(weights)
    if not trained:
        return block
    classes = {"num_classes": about.get("num_classes")}
    if trained["name"] == block["name"] == "custom":
        typed.must_agree(typed.values(words, config), {"model": block | classes}, weights.label)
        for key in ("mean", "std", "function"):
            if key in trained and block.get(key) not in (None, trained[key]):
                LOG.warning(f"model.{key}={block[key]} is not that of its training, {trained[key] or 'none'}")
        said = {key: trained.get(key) for key in AS_TRAINED if block.get(key) is None}
        return block | said | {"num_classes": None}
    typed.must_agree(typed.values(words, config), {"model": trained | classes}, weights.label)
    if trained["name"] == "custom":  # a file of weights must not decide which Python file is run
        raise UserError(f"{weights.label} belongs to a network of your own; say model=custom model.file=…")
    return trained | {"num_classes": None}


def datasets_of(config: dict[str, Any], needs: Any, training: bool) -> tuple[Any, Any]:
    """Build the dataset at the network's size, and for training the held-out one beside it: the split val.

    What a test split is kept for is not chosen by; where there is no val, the dataset gives test instead.
    """
    block = dict(config["dataset"])
    if training and "split" not in block:
        raise UserError(f"{block['name']} has no images to hold out; train on another dataset")
    if training and block["split"] is not None:
        raise UserError("training learns the split train and is judged on val, or on test where there is no val; "
                        "leave out dataset.split")  # fmt: skip
    if training:
        options = catalogue.options("dataset", block.get("of") or block["name"])
        if "split" not in options:
            raise UserError(f"{block['of']} has no images to hold out; train on another dataset")
        splits = options["split"].choices
        return (
            _dataset(block | {"split": "train"}, needs, config["limit"], config["seed"]),
            _dataset(block | {"split": "val" if "val" in splits else "test"}, needs, None),
        )
    return _dataset(block, needs, config["limit"], config["seed"]), None


def _dataset(block: dict[str, Any], needs: Any, limit: int | str | None, seed: int = 0) -> Any:
    from cnnprobe.datasets.base.imageset import limited

    options = {key: value for key, value in block.items() if key != "name"}
    for key, value in (("size", needs.size), ("resize", needs.resize), ("channels", needs.channels)):
        if key in options and options[key] is None:
            options[key] = value if key != "resize" or block.get("size") is None else None
    if options.get("of") == block["name"]:
        raise UserError(f"dataset.of names the dataset that is cut into tiles, not {block['name']} itself")
    if "of" in options:
        page = catalogue.page(catalogue.yaml_path("dataset", options["of"]))
        inner = {key: entry.default for key, entry in page.entries.items()}
        inner |= {key: options[key] for key in ("root", "split") if key in inner and options.get(key) is not None}
        options["source"] = module("dataset", options["of"]).build(**inner)
    return limited(module("dataset", block["name"]).build(**options), limit, seed)
