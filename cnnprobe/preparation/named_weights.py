"""Weights that `weights=` names: random or published, of a run or a file, or of several moments of a training."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cnnprobe.config import catalogue, untrusted_yaml
from cnnprobe.errors import UserError, listing, path_of
from cnnprobe.store import folders, newest, run_json

LOG = logging.getLogger("cnnprobe")
TRAINING = ("train", "transfer")
FILES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".tar")
"""As weights are called; its content decides what is in one."""
KINDS = ("epoch", "update", "best", "last")
"""Of the checkpoints of a training; of two of the same moment the first is the one to name."""


@dataclass(frozen=True)
class Weights:
    """Where the weights of a network come from.

    Args:
        kind: "random", "published" or "file".
        label: as shown and stored, e.g. "train/convnet-avatar/v001@best".
        path: of the file, for kind "file"; of the last one where several moments are requested.
        about: what is written beside the weights: model, num_classes, classes, input_size.
        moments: where several are requested: each of them, in order of learning.
        part: what stands before the names of those that are meant, where a file has several sets ("state_dict_ema").
    """

    kind: str
    label: str
    path: Path | None = None
    about: dict[str, Any] | None = None
    moments: tuple["Weights", ...] = ()
    part: str = ""

    @property
    def file(self) -> Path:
        """The path, of weights that have one: of kind "file"."""
        assert self.path is not None
        return self.path

    @property
    def again(self) -> str | list[str]:
        """What `weights=` has to be for the same ones once more, whatever else is trained meanwhile."""
        if self.moments:
            return [str(moment.again) for moment in self.moments]  # a moment has none itself
        if self.packaged:
            return self.label
        return f"{self.path}@{self.part}" if self.part else str(self.path) if self.path else self.kind

    @property
    def packaged(self) -> bool:
        """Whether they came with this package."""
        return self.path is not None and _is_packaged(self.path.parent.parent)

    @property
    def of_a_run(self) -> bool:
        """Whether they lie in a run folder."""
        return self.path is not None and (self.path.parent.parent / "run.json").is_file()

    @property
    def epoch(self) -> float:
        """How many times the network had seen the training images; NaN where that is not known."""
        about = self.about or {}
        update = about.get("update")
        if not self.of_a_run or not isinstance(update, int):
            return float("nan")
        if update == 0:
            return 0.0
        length = _updates_of_an_epoch(self.file.parent)
        return update / length if length else float("nan")


def weights_of(config: dict[str, Any], command: str) -> Weights:
    """Find out which weights are meant by `weights=`.

    For transfer, `auto` looks among runs of train alone, and random weights are those of `mode=scratch`.

    Raises:
        UserError: there is no such run, checkpoint or file; or several where the command takes one network; or a
            transfer would start from random weights.
    """
    given = config["weights"]
    if isinstance(given, str) and not given.endswith("@*"):
        return _one(given, config, command)
    return _several([given] if isinstance(given, str) else given, config, command)


def _one(given: str, config: dict[str, Any], command: str) -> Weights:
    transfer = command == "transfer"
    if given == "random" or (given == "auto" and (command == "train" or from_scratch(config, command))):
        if transfer and not from_scratch(config, command):
            raise _nothing_learned(config, "weights=random: ")
        return random(config)
    if given == "published":
        folder = _packaged(config)
        return _in_file(folder / "weights" / "best.safetensors", config["out"]) if folder else published()
    if given == "auto":
        found = _newest(config, TRAINING[:1] if transfer else TRAINING) or _published_or_random(config)
        if transfer and found.kind == "random":
            raise _nothing_learned(config, "")
        return found
    path, part = path_of(given), ""
    if path.suffix not in FILES:
        file, _, part = given.rpartition("@")
        path = path_of(file)
    if path.suffix in FILES:
        if not path.exists():
            raise UserError(f"there is no file {path}")
        found = _in_file(path, config["out"])
        return replace(found, part=part, label=f"{found.label}@{part}") if part else found
    return from_run(given, config)


def from_scratch(config: dict[str, Any], command: str) -> bool:
    """Tell whether a transfer is the control that starts from random weights, whatever weights are named."""
    return command == "transfer" and config["method"]["mode"] == "scratch"


def published() -> Weights:
    """Return the weights that torchvision publishes."""
    return Weights("published", "published")


def published_is_here(config: dict[str, Any]) -> bool:
    """Say whether the published weights of a configuration's model are on disk, so that nothing is fetched."""
    from cnnprobe.preparation import weights as weight_files

    given = {key: value for key, value in config["model"].items() if key not in ("name", "num_classes")}
    try:
        return bool(_packaged(config) or weight_files.published_on_disk(config["model"]["name"], given))
    except UserError:
        return False


def _packaged(config: dict[str, Any]) -> Path | None:
    """Return the folder of the requested model's training that comes with this package."""
    from cnnprobe.preparation import weights as weight_files

    return weight_files.packaged(config["model"]["name"], config["model"])


def _is_packaged(folder: Path) -> bool:
    from cnnprobe.preparation import weights as weight_files

    return folder.parent == weight_files.PACKAGED


def random(config: dict[str, Any]) -> Weights:
    """Return the random weights of a configuration's seed."""
    return Weights("random", f"random (seed {config['seed']})")


def _nothing_learned(config: dict[str, Any], given: str) -> UserError:
    name = config["model"]["name"]
    if not given:
        given = f"no training of {name} with these options in {config['out']}, no published weights on disk; "
    ways = f"train it (cnnprobe train model={name}), give weights=RUN, FILE or published, or learn by mode=scratch"
    return UserError(f"{given}transfer starts from what was learned: {ways}")


def _several(names: list[str], config: dict[str, Any], command: str) -> Weights:
    """Find several moments of learning; the network carries the last of them."""
    found: list[Weights] = []
    for name in names:
        every = name.endswith("@*")
        found += learned(name.removesuffix("@*"), config) if every else [_one(name, config, command)]
        if found[-1].kind != "file":
            raise UserError(f"a list of weights names runs and files, got {name!r}")
    if not catalogue.fact(command, "MOMENTS", False):
        shown, each = listing(names), ",".join(names)
        raise UserError(f"{command} takes one network, got weights={shown}; a run for each: -m weights={each}")
    found = _in_order(found)
    _are_of_one_network(found)
    first, last = found[0], found[-1]
    label, count = last.label, f"{len(found)} moments"
    if len(found) > 1:
        end = last.file.stem if _of_one_run(found) else last.label
        label = f"{first.label} to {end}, {count}"
    return replace(last, label=label, moments=tuple(found))


def moment_names(weights: Weights) -> list[str]:
    """Return what to call each moment: "epoch=003" where all are of one run, else its label, else its file."""
    if _of_one_run(weights.moments):
        return [moment.file.stem for moment in weights.moments]
    labels = [moment.label for moment in weights.moments]
    return labels if len(set(labels)) == len(labels) else [str(moment.path) for moment in weights.moments]


def learned(run: str, config: dict[str, Any]) -> list[Weights]:
    """Return every moment of a training that is kept, in order; best and last only where there are no others."""
    _, there = checkpoints(run, config)
    names = [name for name in there if "=" in name] or list(there)
    return _in_order([_in_file(there[name], config["out"]) for name in names])


def _in_order(found: list[Weights]) -> list[Weights]:
    """Sort moments of one training by their updates, each once; other weights stay in the order given."""
    found = list({weights.file.resolve(): weights for weights in found}.values())
    if not _of_one_run(found) or any("update" not in (weights.about or {}) for weights in found):
        return found
    by_kind = sorted(found, key=lambda weights: KINDS.index(weights.file.stem.partition("=")[0]))
    by_update: dict[int, Weights] = {}
    for weights in by_kind:
        by_update.setdefault((weights.about or {})["update"], weights)
    return [by_update[update] for update in sorted(by_update)]


def _of_one_run(found: list[Weights] | tuple[Weights, ...]) -> bool:
    return all(weights.of_a_run for weights in found) and len({weights.file.parent.resolve() for weights in found}) == 1


def _are_of_one_network(found: list[Weights]) -> None:
    """Refuse moments of networks that differ, as far as is written beside their weights."""
    known = [(one.label, one.about) for one in found if one.about and one.about.get("model")]
    for label, about in known[1:]:
        first, other = (_told(one) for one in (known[0][1], about))
        differ = [key for key in [*first, *other] if first.get(key) != other.get(key)]
        if differ:
            there, here = (f"{differ[0]}={one.get(differ[0])}" for one in (first, other))
            raise UserError(f"moments must be of one network: {known[0][0]} has {there}, {label} has {here}")


def _told(about: dict[str, Any]) -> dict[str, Any]:
    """Return what is written about a network: its name first, its options, its number of classes."""
    options = {key: value for key, value in about["model"].items() if key not in ("name", "num_classes")}
    return {"model": about["model"]["name"]} | options | {"num_classes": about.get("num_classes")}


def _updates_of_an_epoch(folder: Path) -> int | None:
    """Return of how many updates an epoch of a training is made; None before its first one has ended."""
    from cnnprobe.preparation import weights as weight_files

    for path in sorted(folder.glob("epoch=*.safetensors")):
        about = weight_files.about(path)
        if about.get("epoch") and about.get("update"):
            return about["update"] // about["epoch"]
    return None


def from_run(given: str, config: dict[str, Any]) -> Weights:
    """Find weights inside a training run: RUN (best), RUN@last, RUN@epoch=3, RUN@update=64."""
    run, _, moment = given.partition("@")
    folder, there = checkpoints(run, config)
    name = _moment(moment or "best", there)
    if name is None:
        where = "the published ones" if _is_packaged(folder) else folders.short(folder, config["out"])
        raise UserError(f"no weights {moment!r} in {where}; there are: {listing(there, 20)}")
    return _in_file(there[name], config["out"])


def checkpoints(run: str, config: dict[str, Any]) -> tuple[Path, dict[str, Path]]:
    """Return the folder of a training run and its weights by moment, in the order in which they were learned."""
    out = config["out"]
    folder = _packaged(config) if run == "published" else None
    for command in TRAINING if folder is None and "/" not in run else ():
        try:
            folder = folders.find(run, out, command, f"{config['model']['name']}-{config['dataset']['name']}")
            break
        except folders.NoRunError:
            continue
    if folder is None:
        folder = folders.find(run, out)
    files = [path for path in (folder / "weights").glob("*.safetensors") if path.stem.partition("=")[0] in KINDS]
    if not files:
        raise UserError(f"{folders.short(folder, out)} holds no weights; name a run of train")
    return folder, {path.stem: path for path in sorted(files, key=_place)}


def _place(path: Path) -> tuple[int, str]:
    """Return where a checkpoint stands among those of its training, by its name."""
    kind, _, number = path.stem.partition("=")
    untrained = number.isdecimal() and int(number) == 0
    # all updates that are kept lie within the first epoch
    return (0 if untrained else 1 + ("update", "epoch", "best", "last").index(kind), path.stem)


def _moment(moment: str, there: dict[str, Path]) -> str | None:
    """Match "epoch=3" with "epoch=003"."""
    key, _, number = moment.partition("=")
    for name in there:
        own, _, digits = name.partition("=")
        if name == moment or (own == key and number.isdecimal() and digits.isdecimal() and int(digits) == int(number)):
            return name
    return None


def _in_file(path: Path, out: str) -> Weights:
    """Return the weights of a file, called RUN@moment where they are those of a run, else as the file."""
    from cnnprobe.preparation import weights as weight_files

    weights = Weights("file", path.name, path, weight_files.about(path))
    if not weights.of_a_run:
        return weights
    if weights.packaged:
        return replace(weights, label="published" if path.stem == "best" else f"published@{path.stem}")
    return replace(weights, label=f"{folders.short(path.parent.parent, out)}@{path.stem}")


def _newest(config: dict[str, Any], commands: tuple[str, ...]) -> Weights | None:
    """Return the best weights of the newest complete run of these commands of this model in `out`."""
    out = config["out"]
    lost: list[Path] = []

    def why_not(run: Path) -> str | None:
        why = newest.unfit(run)
        other = _of_another_model(run, config["model"]) if why != "" else ""
        if why is not None or other is not None:
            return "" if other == "" else why or other
        if strange := run_json.strange(run):
            place = folders.short(run, out)
            LOG.warning(f"{place}: {listing(strange)} in its run.json is none of ours, and counts as absent")
        if (run / "weights/best.safetensors").is_file():
            return None
        lost.append(run)
        return "has lost its best weights"

    there = [path for command in commands for path in Path(out).glob(f"{command}/*/v*")]
    taken = folders.newest_of(there, out, why_not) or next(iter(lost), None)  # the loss of all of them is an error
    return from_run(str(taken), config) if taken else None


def _of_another_model(run: Path, wanted: dict[str, Any]) -> str | None:
    """Say why a run is not of a model: "" where it is of another one; None where it is of this one."""
    try:
        model = untrusted_yaml.read(run / "config.yaml")["model"]
    except (UserError, KeyError, TypeError):
        return "has no config.yaml that can be read"
    return None if _is_same(model, wanted) else ""


def _is_same(model: Any, wanted: dict[str, Any]) -> bool:
    """Say whether a run's model is the one requested; of one's own network, what is not said is as it was trained."""
    if not isinstance(model, dict):
        return False
    if wanted["name"] == "custom" and model.get("name") == "custom":
        said = {key: value for key, value in wanted.items() if value is not None and key != "file"}
        there, here = (path_of(str(one.get("file"))).resolve() for one in (model, wanted))
        return here == there and all(model.get(key) == value for key, value in said.items() if key != "num_classes")
    one, other = ({key: value for key, value in each.items() if key != "num_classes"} for each in (model, wanted))
    return one == other


def _published_or_random(config: dict[str, Any]) -> Weights:
    from cnnprobe.preparation import weights as weight_files

    try:
        folder = _packaged(config)
    except UserError:  # trained with other options
        return random(config)
    if folder:
        return _in_file(folder / "weights" / "best.safetensors", config["out"])
    given = {key: value for key, value in config["model"].items() if key not in ("name", "num_classes")}
    if weight_files.published_on_disk(config["model"]["name"], given):
        return published()
    return random(config)
