"""The preparation and its stimuli: from the checked configuration to a network with weights and a dataset."""

import importlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cnnprobe import catalogue, runs
from cnnprobe.errors import UserError, listing

LOG = logging.getLogger("cnnprobe")
TRAINING = ("train", "transfer")


@dataclass(frozen=True)
class Weights:
    """Where the weights of a network come from.

    Args:
        kind: "random", "published" or "file".
        label: as shown and stored, e.g. "train/convnet-avatar/v001@best".
        path: of the file, for kind "file".
        about: what is written beside the weights: model, num_classes, classes, input_size.
    """

    kind: str
    label: str
    path: Path | None = None
    about: dict[str, Any] | None = None


@dataclass
class Preparation:
    """A network with its weights and the images to show it.

    Args:
        model: in eval mode, on the device.
        dataset: at the network's size.
        held_out: the images a training is judged on; None for probing.
        weights: where they come from.
        sha256: of the weights as loaded.
        classes: names of the network's own classes, () where unknown.
        options: the `model` block it was built from.
    """

    model: Any
    dataset: Any
    held_out: Any
    weights: Weights
    sha256: str
    classes: tuple[str, ...]
    options: dict[str, Any]


def module(group: str, name: str) -> Any:
    """Import the Python file behind a choice."""
    return importlib.import_module(f"cnnprobe.{group}s.{name.replace('-', '_')}")


def device_of(block: dict[str, Any]) -> tuple[str, int, int]:
    """Return device, threads and loader workers; UserError for a GPU that is not there."""
    # Threads that wait for each other spin; where another process needs the core, that costs far more than it
    # gains (4000 against 80 images/s in a small network). So they spin shortly. Read as torch is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    import torch

    from cnnprobe.engine.devices import cores

    there = torch.cuda.is_available()
    if block["name"] == "cuda" and not there:
        raise UserError("no CUDA device here; device=cpu or device=auto")
    device = "cuda" if block["name"] == "cuda" or (block["name"] == "auto" and there) else "cpu"
    threads = block["threads"] or cores()
    torch.set_num_threads(threads)
    workers = block["workers"] if block["workers"] is not None else min(8, cores() - 1)
    return device, threads, workers


def prepare(config: dict[str, Any], command: str, explicit_model: bool) -> Preparation:
    """Build network and dataset.

    Args:
        config: checked, see `compose.checked`.
        command: training commands take the number of classes from the dataset, others from the weights.
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
    about = weights.about or {}
    wanted = options.get("num_classes") or (len(dataset.classes) if training else about.get("num_classes"))
    model = network(kind, options, given, wanted, weights, config["seed"])
    from cnnprobe.models import inputs
    from cnnprobe.models import weights as weight_files

    inputs.check_fits(model, options["name"], dataset.size)
    classes = tuple(dataset.classes if training else about.get("classes") or getattr(model, "classes", ()))
    return Preparation(model, dataset, held_out, weights, weight_files.sha256(model.state_dict()), classes, options)


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
    for key, value in (("size", needs.size), ("resize", needs.resize)):
        if key in options and options[key] is None:
            options[key] = value if key == "size" or block.get("size") is None else None
    if options.get("of") == block["name"]:
        raise UserError(f"dataset.of names the dataset that is cut into tiles, not {block['name']} itself")
    if "of" in options:
        page = catalogue.page(catalogue.yaml_path("dataset", options["of"]))
        inner = {key: entry.default for key, entry in page.entries.items()}
        inner |= {key: options[key] for key in ("root", "split") if key in inner and options.get(key) is not None}
        options["source"] = module("dataset", options["of"]).build(**inner)
    return limited(module("dataset", block["name"]).build(**options), limit)


def weights_of(config: dict[str, Any], command: str) -> Weights:
    """Find out which weights are meant by `weights=`.

    Raises:
        UserError: there is no such run, checkpoint or file.
    """
    given = config["weights"]
    if given == "random" or (given == "auto" and command in TRAINING):
        return Weights("random", f"random (seed {config['seed']})")
    if given == "published":
        return Weights("published", "published")
    if given == "auto":
        return _newest(config) or _published_or_random(config)
    path = Path(given).expanduser()
    if path.suffix in (".safetensors", ".pt", ".pth"):
        from cnnprobe.models import weights as weight_files

        if not path.exists():
            raise UserError(f"there is no file {given}")
        return Weights("file", _label(path, config["out"]), path, weight_files.about(path))
    return from_run(given, config)


def from_run(given: str, config: dict[str, Any]) -> Weights:
    """Find weights inside a training run: RUN (best), RUN@last, RUN@epoch=3, RUN@update=64."""
    from cnnprobe.models import weights as weight_files

    run, _, moment = given.partition("@")
    folder, there = checkpoints(run, config)
    name = _moment(moment or "best", there)
    if name is None:
        where = runs.short(folder, config["out"])
        raise UserError(f"no weights {moment!r} in {where}; there are: {listing(there, 20)}")
    return Weights("file", _label(there[name], config["out"]), there[name], weight_files.about(there[name]))


def checkpoints(run: str, config: dict[str, Any]) -> tuple[Path, dict[str, Path]]:
    """Return the folder of a training run and its weights by moment, in the order in which they were learned."""
    out = config["out"]
    folder = None
    for command in TRAINING:
        try:
            folder = runs.find(run, out, command, f"{config['model']['name']}-{config['dataset']['name']}")
            break
        except UserError:
            continue
    if folder is None:
        folder = runs.find(run, out)
    kinds = ("update", "epoch", "best", "last")  # all updates that are kept lie within the first epoch
    files = [path for path in (folder / "weights").glob("*.safetensors") if path.stem.partition("=")[0] in kinds]
    if not files:
        raise UserError(f"{runs.short(folder, out)} holds no weights; name a run of train")
    files.sort(key=lambda path: (kinds.index(path.stem.partition("=")[0]), path.stem))
    return folder, {path.stem: path for path in files}


def _moment(moment: str, there: dict[str, Path]) -> str | None:
    """Match "epoch=3" with "epoch=003"."""
    key, _, number = moment.partition("=")
    for name in there:
        own, _, digits = name.partition("=")
        if name == moment or (own == key and number.isdigit() and digits.isdigit() and int(digits) == int(number)):
            return name
    return None


def _label(path: Path, out: str) -> str:
    """Return how weights are called: RUN@moment for those of a run, else the name of the file."""
    folder = path.parent.parent
    return f"{runs.short(folder, out)}@{path.stem}" if (folder / "run.json").is_file() else path.name


def _newest(config: dict[str, Any]) -> Weights | None:
    """Return the best weights of the newest complete training run of this model in `out`."""
    wanted = _comparable(config["model"])
    found = []
    for command in TRAINING:
        for path in Path(config["out"]).glob(f"{command}/*/v*/config.yaml"):
            about = runs.info(path.parent)
            if about.get("status") != "complete":
                continue
            try:
                model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
            except (OSError, yaml.YAMLError, KeyError, TypeError):
                continue
            if _comparable(model) == wanted:
                found.append((about.get("ended") or "", str(path.parent)))
    return from_run(max(found)[1], config) if found else None


def _comparable(model: dict[str, Any]) -> str:
    return json.dumps({key: value for key, value in model.items() if key != "num_classes"}, sort_keys=True)


def _published_or_random(config: dict[str, Any]) -> Weights:
    from cnnprobe.models import weights as weight_files

    name = config["model"]["name"]
    given = {key: value for key, value in config["model"].items() if key not in ("name", "num_classes")}
    module("model", name).needs(**given)  # an option that makes no network is told before its weights are looked for
    if weight_files.published_on_disk(name, given):
        return Weights("published", "published")
    return Weights("random", f"random (seed {config['seed']})")
