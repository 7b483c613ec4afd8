"""The preparation and its stimuli: from the checked configuration to a network with weights and a dataset."""

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cnnprobe import catalogue
from cnnprobe.errors import UserError
from cnnprobe.named_weights import TRAINING, Weights, from_run, from_scratch, moment_names, random, weights_of


@dataclass
class Preparation:
    """A network with its weights and the images to show it.

    Args:
        model: in eval mode, on the device.
        dataset: at the network's size.
        held_out: the images a training is judged on; None for probing.
        weights: where they come from.
        sha256: of the weights as loaded.
        moments: `engine.moments.Moment`, in order of learning, the network carrying the last; [] for one network.
        sums: sha256 of the weights of each moment, by its label.
        classes: names of the network's own classes, () where unknown.
        options: the `model` block it was built from.
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


def module(group: str, name: str) -> Any:
    """Import the Python file behind a choice."""
    return importlib.import_module(f"cnnprobe.{group}s.{name.replace('-', '_')}")


def load_torch() -> None:
    """Import torch as runs want it."""
    # Threads that wait for each other spin; where another process needs the core, that costs far more than it
    # gains (4000 against 80 images/s in a small network). So they spin shortly. Read as torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    import torch  # noqa: F401


def device_of(block: dict[str, Any]) -> tuple[str, int, int]:
    """Return device, threads and loader workers; UserError for one that is not there."""
    load_torch()
    import torch

    from cnnprobe.engine.devices import chosen, cores

    device = chosen(block["name"])
    threads = block["threads"] or cores()
    torch.set_num_threads(threads)
    workers = block["workers"] if block["workers"] is not None else min(8, cores() - 1)
    return device, threads, workers


def prepare(config: dict[str, Any], command: str, explicit_model: bool) -> Preparation:
    """Build network and dataset.

    Args:
        config: checked, see `schema.checked`.
        command: train takes the number of classes from the dataset, others from the weights; transfer puts its new
            readout in itself, and builds anew what it teaches from scratch.
        explicit_model: whether the model was asked for by name; then weights of another one are refused.

    Raises:
        UserError: something asked for does not exist or does not fit together.
    """
    training = command in TRAINING
    weights = weights_of(config, command)
    options = model_options(config["model"], weights, explicit_model)
    kind = module("model", options["name"])
    given = {key: value for key, value in options.items() if key not in ("name", "num_classes")}
    needs = kind.needs(**given)
    dataset, held_out = datasets_of(config, needs, training)
    scratch = from_scratch(config, command)
    if scratch:  # a network like the one those weights belong to, without them
        weights = random(config)
    about = weights.about or {}
    own = command == "train" or scratch
    wanted = options.get("num_classes") or (len(dataset.classes) if own else about.get("num_classes"))
    model = network(kind, options, given, wanted, weights, config["seed"])
    moments, sums = learned(model, options["name"], weights)
    from cnnprobe.engine.memory import is_short
    from cnnprobe.models import inputs
    from cnnprobe.models import weights as weight_files

    inputs.check_fits(model, options["name"], dataset.size, is_short)
    classes = tuple(dataset.classes if training else about.get("classes") or getattr(model, "classes", ()))
    sha256 = weight_files.sha256(model.state_dict())
    return Preparation(model, dataset, held_out, weights, sha256, moments, sums, classes, options)


def learned(model: Any, name: str, weights: Weights) -> tuple[list[Any], dict[str, str]]:
    """Try every moment's weights in the network, one after the other; it is left with those of the last.

    Returns:
        the moments, which read their weights when they are asked to; and the sha256 of each, by label.

    Raises:
        UserError: a file is damaged or belongs to another network.
    """
    from cnnprobe.engine.moments import Moment
    from cnnprobe.models import weights as weight_files

    own = model.state_dict()
    own |= {key: value.clone() for key, value in weight_files.counters(own).items()}

    def reader(path: Path) -> Callable[[], dict[str, Any]]:
        return lambda: weight_files.whole(weight_files.read(path), own)

    moments, sums = [], {}
    for one, label in zip(weights.moments, moment_names(weights)):
        moment = Moment(label, one.epoch, reader(one.path))
        weight_files.fit(model, moment.load(), one.label, name)
        moments.append(moment)
        sums[label] = weight_files.sha256(model.state_dict())
    return moments, sums


def network(
    kind: Any, options: dict[str, Any], given: dict[str, Any], wanted: int | None, weights: Weights, seed: int
) -> Any:
    """Build the network and put its weights in; the readout has as many classes as the weights say."""
    import torch

    from cnnprobe.models import weights as weight_files

    torch.manual_seed(seed)
    if weights.kind == "published":
        return weight_files.published(options["name"], kind, given, wanted)
    model = kind.build(num_classes=wanted, **given)
    if weights.kind == "file":
        state = weight_files.read(weights.path)
        count = weight_files.classes_in(state, model)
        if count is not None and options.get("num_classes") in (None, count):
            torch.manual_seed(seed)
            model = kind.build(num_classes=count, **given)
        weight_files.fit(model, state, weights.label, options["name"])
    return model


def model_options(block: dict[str, Any], weights: Weights, explicit: bool) -> dict[str, Any]:
    """Return the model's options with those the weights were trained with.

    Raises:
        UserError: the weights belong to another model than the one asked for.
    """
    trained = (weights.about or {}).get("model")
    if not trained:
        return block
    if trained["name"] != block["name"] and explicit:
        raise UserError(f"{weights.label} holds weights of {trained['name']}, asked for model={block['name']}")
    if trained["name"] == "custom" and not (explicit and block["name"] == "custom"):
        # a file of weights must not decide which Python file is run
        raise UserError(f"{weights.label} belongs to a network of your own; say model=custom model.file=…")
    if trained["name"] == "custom":
        return block | {"num_classes": None}
    return trained | {"num_classes": None}


def datasets_of(config: dict[str, Any], needs: Any, training: bool) -> tuple[Any, Any]:
    """Build the dataset at the network's size, and for training the held-out one beside it."""
    block = dict(config["dataset"])
    if training and "split" not in block:
        raise UserError(f"{block['name']} has no images to hold out; train on another dataset")
    if training and block["split"] is not None:
        raise UserError("training learns the train split and holds the test split out; leave out dataset.split")
    if training:
        return (
            _dataset(block | {"split": "train"}, needs, config["limit"]),
            _dataset(block | {"split": "test"}, needs, None),
        )
    return _dataset(block, needs, config["limit"]), None


def _dataset(block: dict[str, Any], needs: Any, limit: int | None) -> Any:
    from cnnprobe.datasets.imageset import limited

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
    return limited(module("dataset", block["name"]).build(**options), limit)


def brain(config: dict[str, Any], device: str) -> Any:
    """Build the second network that `brain=RUN` names, with its weights.

    Returns:
        `model`, in eval mode on the device; `size`, (channel, y, x) of its inputs; `label` of its weights.

    Raises:
        UserError: there is no such run, or it does not say which network it trained.
    """
    weights = from_run(config["method"]["brain"], config)
    about = weights.about or {}
    options = about.get("model")
    if not options or options["name"] == "custom":  # a file of weights must not decide which Python file is run
        raise UserError(f"brain={config['method']['brain']} must be a run of train of a network of this package")
    kind = module("model", options["name"])
    given = {key: value for key, value in options.items() if key not in ("name", "num_classes")}
    needs = kind.needs(**given)
    model = network(kind, options | {"num_classes": None}, given, about.get("num_classes"), weights, config["seed"])
    return SimpleNamespace(model=model.to(device), size=(needs.channels, needs.size, needs.size), label=weights.label)
