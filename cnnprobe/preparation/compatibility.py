"""Compatibility of what a run is built from: nothing is mixed with weights or images that are not its own."""

import logging
import shlex
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnprobe.config import catalogue, schema, typed, untrusted_yaml
from cnnprobe.errors import UserError, listing
from cnnprobe.preparation import identity, named_weights
from cnnprobe.store import folders, run_json
from cnnprobe.store.reader import Recording, TableView

if TYPE_CHECKING:
    from cnnprobe.instruments.images.stimuli_table import StimulusColumn

LOG = logging.getLogger("cnnprobe")
AGAIN = "; put it back, or begin a new run"
ELSEWHERE = ("name", "file", "num_classes", "input_size", "channels")
"""Options of a network that are compared by what they lead to: its code, weights, size of the images."""
OTHER = " changed since the run (checksum)"
"""What is said of an image that is another one under the same name."""
PIXELS = ("resize", "scale", "channels", "axes", "data")
"""Options of a dataset that its fingerprint and size leave open."""


def open_source(
    config: dict[str, Any], resumed: Path | None, places: Sequence[str], words: Sequence[str] = ()
) -> tuple[Recording | None, dict]:
    """Open the run that `source=` names.

    Args:
        config: checked.
        resumed: folder of a stopped run that was begun with it; then the same run is meant, wherever it lies now.
        places: folders of runs in which it is looked for as well.
        words: as typed.

    Returns:
        the run, None where none is named; and the configuration, with that run's network where no
        weights were requested.

    Raises:
        UserError: there is no such run, it is not complete, or its network is another one than was typed.
    """
    name = config["method"].get("source")
    if not name:
        return None, config
    accepted = catalogue.fact(config["method"]["name"], "BUILT_FROM", ("topk", "record"))
    folder = _source_folder(config, name, accepted, resumed, places)
    recording = Recording(folder / "store.h5")
    command = recording.attributes["command"]
    if command not in accepted:
        raise UserError(f"source={name} is a run of {command}, not of {' or '.join(accepted)}")
    if not recording.complete:
        raise UserError(f"{name} is not complete; resume it first: {folders.command_for(folder, command)}")
    if config["weights"] == "auto":
        stored = _configuration(recording, name, config["out"])
        file = stored["model"].get("file")
        if file and config["model"].get("file") != file:  # the store may come from anybody
            option = shlex.quote(f"model.file={file}")
            raise UserError(f"{name} would run the Python file {file}; if it is yours, add model=custom {option}")
        if stored["weights"] == "published" and not named_weights.published_is_here(stored):
            raise UserError(f"{name} would fetch published weights; if you want that, add weights=published")
        asked = typed.values(words, config)
        drawn = stored["weights"] == "random" or isinstance(config["limit"], int)  # by its seed
        own = {key: stored[key] for key in ("model", *(("seed",) if drawn or "seed" not in asked else ()))}
        typed.must_agree(asked, own, f"source={name}")
        config = config | own | {"weights": stored["weights"]}
    return recording, config


def _source_folder(
    config: dict[str, Any], name: str, accepted: Sequence[str], resumed: Path | None, places: Sequence[str]
) -> Path:
    default = f"{config['model']['name']}-{config['dataset']['name']}"
    words = name, config["out"], "" if "/" in name else accepted[0], default
    if resumed is None:
        return folders.find(*words)
    wanted = run_json.read(resumed).get("identity", {}).get(f"{identity.RUN} source")
    named: Path | UserError
    try:
        named = folders.find(*words)
        if wanted is None or identity.run_digest(named) == wanted:
            return named
    except UserError as error:
        named = error
    found = identity.found_again(wanted, [config["out"], *places], accepted) if wanted else None
    if found is not None:
        LOG.warning(f"source={name} is another run now; {found} is the one that {resumed.name} was begun with")
        return found
    if isinstance(named, UserError):
        raise named
    raise UserError(
        f"{resumed.name} cannot go on: source={name} is another run than when it was begun; begin a new run"
    )


def _configuration(recording: Recording, name: str, out: str) -> dict[str, Any]:
    """Return the configuration that a store holds, which anyone may have written."""
    stored = untrusted_yaml.values(str(recording.attributes.get("config", "")), f"{name}, configuration")
    if not isinstance(stored, dict):
        raise UserError(f"{name} holds no configuration")
    try:
        return schema.checked(stored | {"out": out}, recording.attributes["command"], stored=True)
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def built_from(config: dict[str, Any], made: Any, read: dict[str, Path]) -> list[str]:
    """Name the weights and the runs that a run is built from.

    Args:
        config: of the run, see `config.schema.checked`.
        made: its `Preparation`.
        read: what it reads beside its weights, by option: runs, and files.
    """
    found = [one.label for one in made.weights.moments or (made.weights,) if one.kind == "file"]
    return found + [folders.short(path, config["out"]) for path in read.values() if path.is_dir()]


def same_origin(source: Recording, name: str, made: Any, now: dict[str, str], config: dict[str, Any]) -> None:
    """Refuse a run that was made with other weights, images, or another network: its code, or options that count.

    Args:
        source: the run.
        name: as typed, for the message.
        made: the `Preparation` it would be mixed with.
        now: the identity of what would be, see `identity`.
        config: of what would be, checked.
    """
    there, here = len(source["stimuli"]["index"]), len(made.dataset)
    if there != here:
        raise UserError(
            f"{name} has {there} images, dataset={made.dataset.name} gives {here}; use the same dataset, limit"
        )
    pairs = (
        ("weights", source.attributes["weights_sha256"], made.sha256),
        ("dataset", source.attributes["dataset_fingerprint"], made.dataset.fingerprint),
        ("image size", list(source.attributes["size"]), list(made.dataset.size)),
    )
    differ = [f"{what} ({str(own)[:12]} there, {str(here)[:12]} here)" for what, own, here in pairs if own != here]
    if differ:
        images = changed(source, made.dataset)
        first = f" ({listing(images, 3)})" if images else ""
        apart = " and ".join(differ)
        raise UserError(f"{name} was made with other {apart}{first}; use those of that run, or rank again")
    if other := _options_apart(source, name, config | {"model": config["model"] | made.options}):
        raise UserError(
            f"{name} was made with other options ({listing(other, 3)}); use those of that run, or rank again"
        )
    before = identity.of_store(source)
    if code := identity.differences(before, now, identity.is_of_the_network):
        raise UserError(f"{name} was made with other code of the network: {listing(code, 3)} since then; rank again")
    if labels := identity.differences(before, now, lambda part: part == identity.LABELS):
        LOG.warning(f"{name} was made with other labels of the images ({labels[0]}); the current ones are shown")


def _options_apart(source: Recording, name: str, config: dict[str, Any]) -> list[str]:
    """Name options of a run that make the same weights, or the same images, give other responses."""
    try:
        stored = _configuration(source, name, config["out"])
    except UserError:  # of a version that had other ones
        return []
    told = []
    for group in ("model", "dataset"):
        there, here = stored[group], config[group]
        keys = PIXELS if group == "dataset" else [key for key in there if key not in ELSEWHERE]
        told += [f"{group}.{key} {_plain(there[key])} there, {_plain(here[key])} here"
                 for key in keys if key in there and key in here and there[key] != here[key]]  # fmt: skip
    return told


def _plain(value: Any) -> str:
    return "not given" if value is None else str(value)


def remark_trained(made: Any, now: dict[str, str]) -> None:
    """Say of weights of a run that the code of the network is another one than when they were learned.

    Args:
        made: the `Preparation`.
        now: the identity of what is measured.
    """
    moments = [one for one in made.weights.moments or (made.weights,) if one.kind == "file" and one.of_a_run]
    for run, one in {one.path.parent.parent.resolve(): one for one in moments}.items():
        if code := identity.differences(_identity_of(run), now, identity.is_of_the_network):
            since = f"learned in another network: {listing(code, 3)} since then"
            LOG.warning(f"{one.label} {since}; what is measured is the network as it is now")


def same_images(folder: Path, made: Any) -> None:
    """Refuse to go on with a run whose images are not those it was begun with.

    Args:
        folder: of the stopped run.
        made: the `Preparation` to go on with.

    Raises:
        UserError: how many images there are and were, and the first that are new, gone or changed.
    """
    about = run_json.read(folder)

    def which() -> list[str]:
        if not (folder / "store.h5").exists():
            return []
        recording = Recording(folder / "store.h5")
        return changed(recording, made.dataset) if "stimuli" in recording else []

    try:
        folders.same_images(made.dataset, about.get("dataset"), folder.name, which)
        if made.held_out is not None:
            folders.same_images(made.held_out, about.get("held_out"), folder.name)
    except UserError as error:
        raise UserError(f"{error}{AGAIN}") from None


def changed(recording: Recording, dataset: Any) -> list[str]:
    """Name the images that are new, gone, or other than they were in a run, at most all of them.

    Args:
        recording: a store with the table "stimuli".
        dataset: an image set.
    """
    table: TableView[StimulusColumn] = recording["stimuli"]
    before, now = table["name"].tolist(), list(dataset.names)
    old, new = set(before), set(now)
    found = [f"{name} is gone" for name in before if name not in new]
    found += [f"{name} is new" for name in now if name not in old]
    sums = dataset.checksums_of(range(len(now))) if "checksum" in table else None
    if sums is not None:
        known = dict(zip(_told_apart(before), table["checksum"].tolist()))
        values = zip(_told_apart(now), sums.tolist())
        found += [f"{one[0]}{OTHER}" for one, value in values if known.get(one, value) != value]
    return found


def _told_apart(names: Sequence[str]) -> list[tuple[str, int]]:
    """Return each name with how many before it are the same: two files of broken names may be shown alike."""
    counts: defaultdict[str, int] = defaultdict(int)
    found = []
    for name in names:
        found.append((name, counts[name]))
        counts[name] += 1
    return found


def same_identity(folder: Path, now: dict[str, str], so_far: bool = False) -> dict[str, str]:
    """Refuse to go on with a run when something it depends on is another thing.

    Args:
        folder: of the run.
        now: the identity of what would go on with it.
        so_far: code of the user's own that is not in `now` may still be imported.

    Returns:
        The parts of the identity that the run was begun with; a version before this one may have known fewer.

    Raises:
        UserError: what it is.
    """
    stored = identity.of_store(Recording(folder / "store.h5")) if (folder / "store.h5").exists() else None
    before = _identity_of(folder) | (stored or {})
    if found := identity.differences(before, now, lambda part: part in now or not (so_far and identity.is_code(part))):
        raise UserError(f"{folder.name} cannot go on: {listing(found, 3)} since it was begun; begin a new run")
    return now if stored is None else stored


def _identity_of(folder: Path) -> dict[str, str]:
    """Return what a run says of its identity; {} where it was begun before there was such a thing."""
    return run_json.read(folder).get("identity", {})


def remark_home(folder: Path | None, home: Path | None) -> None:
    """Say of a run that is gone on with, or done once more, where its relative paths are taken from.

    Args:
        folder: of that run; None: a new run.
        home: its working directory, see `store.run_json.home`.
    """
    if folder is None:
        return
    said = run_json.working_directory_of(folder)
    if home:
        LOG.warning(f"{folder.name} was made in another working directory: its relative paths are taken from {home}")
    elif said is not None and not said.is_dir():
        LOG.warning(
            f"{folder.name} was made in another working directory, {said}, which is not there: its relative paths are "
            "taken from here"
        )


def remark_repeated(folder: Path, made: Any, now: dict[str, Any]) -> None:
    """Say in what a run that is done once more is not the same run: other images, weights, files or versions.

    Args:
        folder: of the run that is repeated.
        made: the `Preparation`.
        now: the `run.json` of the new one.
    """
    before, found = run_json.read(folder), []
    try:
        same_images(folder, made)
    except UserError as error:
        found.append(str(error).removesuffix(AGAIN))
    old, new = (part if isinstance(part, dict) else {} for part in (before.get("weights"), now.get("weights")))
    label = old.get("label")  # a copy of a run may call the same weights by another path
    if old.get("sha256") and old["sha256"] != new["sha256"]:
        found.append(f"weights changed ({label}, was {old['sha256'][:12]}, now {new['sha256'][:12]})")
    elif _moments(old) and _moments(old) != _moments(new):
        found.append(f"weights of the moments of {label} changed")
    found += identity.differences(_identity_of(folder), now["identity"])
    if differ := _circumstances(before, now):
        found.append(f"circumstances: {listing(differ)}")
    if found:
        LOG.warning(f"this is not the same run as {folder.name}: {'; '.join(found)}")


def _moments(weights: dict[str, Any]) -> list[Any]:
    """Return the sums of weights at the moments of a training, in their order."""
    moments = weights.get("moments")
    return list(moments.values()) if isinstance(moments, dict) else []


def remark_resumed(name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Say of a run that is gone on with that it was killed, and what may give its new rows other bits.

    Args:
        name: of the run.
        before: its `run.json` as it was left.
        now: and as it will be.
    """
    if before.get("status") == "running":
        LOG.warning(f"{name} was killed, and goes on from its last saved rows")
    what = "its new rows" if before.get("code", now["code"]) != now["code"] else "bits of its new rows"
    if differ := _circumstances(before, now):
        LOG.warning(f"{name} goes on with other circumstances ({listing(differ)}); {what} may differ")


def _circumstances(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what a run is computed with now that it was not before: threads, device, processor, versions, code."""
    old, new = (
        {"threads": about.get("threads"), "device": about.get("device")}
        | {"processor": about.get("machine", {}).get("processor")}
        | about.get("environment", {})
        | about.get("versions", {})
        | {"code of cnnprobe": about.get("code", "")[:12] or None}
        for about in (before, now)
    )
    return [
        f"{key} {new.get(key) or 'not set'}, was {value or 'not set'}"
        for key, value in old.items()
        if value is not None and new.get(key) != value
    ]


def warn_if_random(command: str, made: Any, asked: Any) -> None:
    """Warn of random weights that nobody asked for.

    Args:
        command: its own YAML says `weights` where random ones are what it expects.
        made: the `Preparation`.
        asked: what `weights=` says.
    """
    root = catalogue.page(catalogue.yaml_path("method", command)).root
    if made.weights.kind != "random" or "weights" in root or asked == "random":
        return
    name = made.options["name"]
    ways = f"train it (cnnprobe train model={name}) or give weights="
    if name == "custom":
        file = made.options["file"]
        ways = (
            f"they are as {file} makes them, random unless it loads some; train it (cnnprobe train), or give weights="
        )
    LOG.warning(f"RANDOM WEIGHTS: no training of {name} with these options was found; {ways}")
