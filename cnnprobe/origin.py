"""What a run is built from; nothing is mixed with weights or images that are not its own."""

import logging
from pathlib import Path
from typing import Any

from cnnprobe import catalogue, files, foreign_yaml, run_json, runs, schema
from cnnprobe.errors import UserError, listing, path_of
from cnnprobe.reading import Recording

LOG = logging.getLogger("cnnprobe")
AGAIN = "; put it back, or begin a new run"
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
        return schema.checked(stored | {"out": out}, recording.attributes["command"], stored=True)
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
    about = run_json.read(folder)

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
        raise UserError(f"{error}{AGAIN}") from None


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


def named_files(config: dict[str, Any]) -> dict[str, str]:
    """Return what tells whether the files are the same that a configuration names, by key.

    Args:
        config: checked. Left out is what has a fingerprint of its own: weights, images, runs.
    """
    found = {}
    for group in ("model", "dataset", "method"):
        for key, value in config[group].items():
            for word in value if isinstance(value, list) else [value]:
                path = _file(word) if key not in ("name", "root", "source", "brain", "old_task") else None
                if path is not None:
                    found[f"{group}.{key} {word}"] = files.digest(path)
    return found


def _file(word: Any) -> Path | None:
    """Return the file that a value names, FILE or FILE:part; None where it names none."""
    words = [word, word.rpartition(":")[0]] if isinstance(word, str) else []
    try:
        return next((path for path in map(path_of, filter(None, words)) if path.is_file()), None)
    except (OSError, ValueError, UserError):
        return None


def other_files(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Name the files that are other ones now than they were when a run was begun, from both `run.json`."""
    both = (about.get("named_files") for about in (before, now))
    old, new = (one if isinstance(one, dict) else {} for one in both)
    return [f"{key} changed" if key in new else f"{key} is gone" for key, value in old.items() if new.get(key) != value]


def same_files(folder: Path, config: dict[str, Any]) -> None:
    """Refuse to go on with a run when a file that its configuration names is another one.

    Raises:
        UserError: which one.
    """
    if found := other_files(run_json.read(folder), {"named_files": named_files(config)}):
        raise UserError(f"{folder.name} cannot go on: {listing(found, 3)} since it was begun; begin a new run")


def remark_home(folder: Path | None, home: Path | None) -> None:
    """Say of a run that is gone on with, or done once more, where its relative paths are taken from.

    Args:
        folder: of that run; None: a new run.
        home: its working directory, see `runs.home`.
    """
    said = runs.working_directory_of(folder) if folder else None
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
    old, new = (about.get("weights") if isinstance(about.get("weights"), dict) else {} for about in (before, now))
    if old.get("sha256") and old != new:
        found.append(f"weights changed ({old.get('label')}, was {old['sha256'][:12]}, now {new['sha256'][:12]})")
    found += other_files(before, now)
    if differ := _circumstances(before, now):
        found.append(f"circumstances: {listing(differ)}")
    if found:
        LOG.warning(f"this is not the same run as {folder.name}: {'; '.join(found)}")


def remark_resumed(name: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    """Say of a run that is gone on with that it was killed, and what may give its new rows other bits.

    Args:
        name: of the run.
        before: its `run.json` as it was left.
        now: and as it will be.
    """
    if before.get("status") == "running":
        LOG.warning(f"{name} was killed, and goes on from its last saved rows")
    if differ := _circumstances(before, now):
        LOG.warning(f"{name} goes on with other circumstances ({listing(differ)}); bits of its new rows may differ")


def _circumstances(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what a run is computed with now that it was not before: threads, device, versions."""
    old, new = (
        {"threads": about.get("threads"), "device": about.get("device")} | (about.get("versions") or {})
        for about in (before, now)
    )
    return [
        f"{key} {new.get(key)}, was {value}"
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
