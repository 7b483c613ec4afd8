"""What a run is built from; nothing is mixed with weights or images that are not its own."""

import logging
from pathlib import Path
from typing import Any

from cnnprobe import catalogue, foreign_yaml, runs, schema
from cnnprobe.errors import UserError, listing
from cnnprobe.reading import Recording

LOG = logging.getLogger("cnnprobe")
SOURCES = {"topk": ("record",)}
"""Commands whose runs a command can be built from; the others take the runs of topk and record."""


def open_source(config: dict[str, Any]) -> tuple[Recording | None, dict[str, Any]]:
    """Open the run that `source=` names.

    Returns:
        the run, None where none is named; and the configuration, with that run's network where no
        weights were asked for.

    Raises:
        UserError: there is no such run, or it is not complete.
    """
    name = config["method"].get("source")
    if not name:
        return None, config
    default = f"{config['model']['name']}-{config['dataset']['name']}"
    accepted = SOURCES.get(config["method"]["name"], ("topk", "record"))
    folder = runs.find(name, config["out"], "" if "/" in name else accepted[0], default)
    recording = Recording(folder / "store.h5")
    command = recording.attributes["command"]
    if command not in accepted:
        raise UserError(f"source={name} is a run of {command}, not of {' or '.join(accepted)}")
    if not recording.complete:
        raise UserError(f"{name} is not complete; go on with it first: cnnprobe {command} --resume {folder}")
    if config["weights"] == "auto":
        stored = _configuration(recording, name, config["out"])
        file = stored["model"].get("file")
        if file and config["model"].get("file") != file:  # the store may come from anybody
            raise UserError(
                f"{name} would run the Python file {file}; if it is yours, add model=custom model.file={file}"
            )
        config = config | {key: stored[key] for key in ("weights", "model", "seed")}
    return recording, config


def _configuration(recording: Recording, name: str, out: str) -> dict[str, Any]:
    """Return the configuration that a store holds, which anyone may have written."""
    stored = foreign_yaml.values(str(recording.attributes.get("config", "")), f"{name}, configuration")
    if not isinstance(stored, dict):
        raise UserError(f"{name} holds no configuration")
    try:
        return schema.checked(stored | {"out": out}, recording.attributes["command"])
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


def built_from(config: dict[str, Any], made: Any) -> list[str]:
    """Name the weights and the runs that a run is built from.

    Args:
        config: of the run, see `schema.checked`.
        made: its `Preparation`.
    """
    method = config["method"]
    found = [one.label for one in made.weights.moments or (made.weights,) if one.kind == "file"]
    # a run of its own; one whose network, and one whose images, a method asks for beside its own
    asked = [method.get(key) for key in ("source", "brain", "old_task")]
    return found + [run for run in asked if run and run not in ("auto", "none")] + _references(config)


def _references(config: dict[str, Any]) -> list[str]:
    """Return the runs that references are taken from."""
    words = config["method"].get("reference") or []
    found = []
    for word in [words] if isinstance(words, str) else words:
        try:
            run = runs.find(word, config["out"], "" if "/" in word else "rsa")
        except UserError:  # a file, or pixels
            continue
        found.append(runs.short(run, config["out"]))
    return found


def same_origin(source: Recording, name: str, made: Any) -> None:
    """Refuse a run that was made with other weights, images or an other image size.

    Args:
        source: the run.
        name: as typed, for the message.
        made: the `Preparation` it would be mixed with.
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
        other = " and ".join(differ)
        raise UserError(f"{name} was made with other {other}{first}; use those of that run, or rank again")


def same_images(folder: Path, made: Any) -> None:
    """Refuse to go on with a run whose images are not those it was begun with.

    Args:
        folder: of the stopped run.
        made: the `Preparation` to go on with.

    Raises:
        UserError: how many images there are and were, and the first that are new, gone or changed.
    """
    about = runs.info(folder)

    def which() -> list[str]:
        if not (folder / "store.h5").exists():
            return []
        recording = Recording(folder / "store.h5")
        return changed(recording, made.dataset) if "stimuli" in recording else []

    try:
        runs.same_images(made.dataset, about.get("dataset"), folder.name, which)
        if made.held_out is not None:
            runs.same_images(made.held_out, about.get("held_out"), folder.name)
    except UserError as error:
        raise UserError(f"{error}; put it back, or begin a new run") from None


def changed(recording: Recording, dataset: Any) -> list[str]:
    """Name the images that are new, gone, or other than they were in a run, at most all of them.

    Args:
        recording: a store with the table "stimuli".
        dataset: an image set.
    """
    table = recording["stimuli"]
    before, now = table["name"].tolist(), list(dataset.names)
    old, new = set(before), set(now)
    found = [f"{name} is gone" for name in before if name not in new]
    found += [f"{name} is new" for name in now if name not in old]
    sums = dataset.checksums_of(range(len(now))) if "checksum" in table else None
    if sums is not None:
        known = dict(zip(before, table["checksum"].tolist()))
        other = (name for name, value in zip(now, sums.tolist()) if known.get(name, value) != value)
        found += [f"{name} changed since the run (checksum)" for name in other]
    return found


def remark_resumed(name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Say of a run that is gone on with that it was killed, and what may give its new rows other bits.

    Args:
        name: of the run.
        before: its `run.json` as it was left.
        now: and as it will be.
    """
    if before.get("status") == "running":
        LOG.warning(f"{name} was killed, and goes on from its last saved rows")
    old, new = (
        {"threads": about.get("threads"), "device": about.get("device")} | (about.get("versions") or {})
        for about in (before, now)
    )
    differ = [
        f"{key} {new.get(key)}, was {value}"
        for key, value in old.items()
        if value is not None and new.get(key) != value
    ]
    if differ:
        LOG.warning(f"{name} goes on with other circumstances ({listing(differ)}); bits of its new rows may differ")


def warn_if_random(command: str, made: Any) -> None:
    """Warn of random weights, unless the method's own YAML says `weights`: then they are what it expects."""
    root = catalogue.page(catalogue.yaml_path("method", command)).root
    if made.weights.kind == "random" and "weights" not in root:
        name = made.options["name"]
        LOG.warning(
            f"RANDOM WEIGHTS: no training of {name} with these options was found; "
            f"train it (cnnprobe train model={name}) or give weights="
        )
