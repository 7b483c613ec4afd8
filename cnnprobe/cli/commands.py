"""Requests of a command line to the runner: a run, a sweep, a run once more, or its figures drawn again."""

import shlex
from collections.abc import Callable
from contextlib import chdir, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from cnnprobe.config import catalogue, compose, schema, typed, untrusted_yaml
from cnnprobe.config.words import Request
from cnnprobe.errors import UserError, listing
from cnnprobe.machine import files, screen, terminal
from cnnprobe.runs.execute import execute
from cnnprobe.runs.job import Job, as_yaml
from cnnprobe.store import folders, locks, run_json
from cnnprobe.store.reader import Recording

WHICH = "name", "model", "dataset"
"""Keys that say which run is meant, where several are called v001."""
CODE = "model.file=", "method.file="
"""Words that let a Python file be run."""
FETCHING = {"dataset.download=true": True, "weights=published": "published"}
"""Words that let a run that is repeated fetch what it says, and the values they give."""
CIRCUMSTANCES = "device", "device.threads", "device.workers"
"""Keys that say what it is computed with, which may be other than before."""


def main(request: Request) -> int:
    """Do what a command line asks for and return the exit status."""
    if "redraw" in request.flags:
        with terminal.collected():
            return redraw(request)
    with terminal.collected():
        request = every_moment(request)
    if "multirun" in request.flags:
        from cnnprobe.runs import sweep

        return sweep.main(request)
    if "resume" in request.flags or "rerun" in request.flags:
        with terminal.collected():
            job = repeated(request)
    else:
        job = Job(request.command, compose.compose(request), request.overrides)
    if "cfg" in request.flags:
        if request.flags["cfg"] not in ("job", "all"):
            raise UserError(f"--cfg takes job, got {request.flags['cfg']!r}")
        screen.say(as_yaml(job.config).removesuffix("\n"))
        return 0
    with chdir(job.home) if job.home else nullcontext():
        status, _ = execute(job)
    return status


def every_moment(request: Request) -> Request:
    """In a sweep, turn `weights=RUN@*` into one value for each moment of that training, in their order."""
    words = [word for word in request.overrides if word.startswith("weights=") and word.endswith("@*")]
    if not words or "multirun" not in request.flags:
        return request
    from cnnprobe.preparation import named_weights

    others = tuple(word for word in request.overrides if word not in words)
    given = words[-1].removeprefix("weights=").removesuffix("@*")
    config = compose.compose(replace(request, overrides=others))
    values = ",".join(f"{given}@{one.file.stem}" for one in named_weights.learned(given, config))
    return replace(request, overrides=(*others, f"weights={values}"))


def repeated(request: Request) -> Job:
    """Make the job of --resume or --rerun from the configuration in the run's folder."""
    which = "resume" if "resume" in request.flags else "rerun"
    composed = compose.compose(_without_values(request, "out", *CIRCUMSTANCES), whole=False)
    name = Job(request.command, composed).name
    given = request.flags[which]
    only = _is_named(request)
    stopped = None
    if (which, given) == ("resume", "latest"):
        stopped = folders.unfinished(composed["out"], request.command, name if only else "")
        if stopped is None:
            called = f" called {name}" if only else ""
            none = f"no run of {request.command}{called} in {composed['out']} was stopped"
            raise UserError(f"{none}; --rerun latest does one once more")
    folder = stopped or folders.find(given, composed["out"], request.command, name, only)
    config = untrusted_yaml.read(folder / "config.yaml")
    if not isinstance(config, dict):
        raise UserError(f"{folder / 'config.yaml'} holds no configuration")
    command = run_json.read(folder).get("command", request.command)
    if command != request.command:
        raise UserError(f"{folders.short(folder, composed['out'])} is a run of {command}, not of {request.command}")
    config = schema.checked(config, command, stored=True)
    _is_meant(folder, config, composed, request)
    placed = any(word.startswith("out=") for word in request.overrides)
    if which == "resume" or not placed:
        _stays_in_its_tree(folder, command, composed["out"], folder.parent.name, Job(command, config).name)
    home = run_json.home(folder)
    folder = folder.resolve() if home else folder
    _file_is_named("model", config["model"], request, home)
    if command in catalogue.OWN:
        _file_is_named("method", config["method"], request, home)
    _fetches_nothing(config, request)
    device = _device(config["device"], composed["device"], request)
    elsewhere = str(Path(composed["out"]).absolute()) if home else composed["out"]
    places = (elsewhere, config["out"])
    # it may have been moved, or be somebody else's
    out = str(folder.parents[2]) if _lies_in_a_tree(folder, command) else elsewhere
    if which == "resume":
        if run_json.read(folder).get("status") == "complete":
            raise UserError(f"{folders.short(folder, config['out'])} is complete; --rerun does it once more")
        words = tuple(run_json.read(folder).get("overrides", ()))
        sweep = run_json.read(folder).get("sweep")
        config |= {"out": out}
        return Job(command, config, words, folder, sweep=sweep, device=device, home=home, places=places)
    config |= {"out": elsewhere if placed else out, "device": device}
    return Job(command, config, (f"--rerun={request.flags[which]}",), rerun=folder, home=home)


def _lies_in_a_tree(folder: Path, command: str) -> bool:
    """Tell whether a run lies where a run of a command does, in `COMMAND/NAME/v001` below a folder of runs."""
    return bool(folders.VERSION.fullmatch(folder.name)) and folder.absolute().parent.parent.name == command


def _stays_in_its_tree(folder: Path, command: str, own: str, *names: str) -> None:
    """Refuse to write behind a link that leads out of a tree of runs: somebody else may have made that.

    Args:
        folder: of the run that is repeated or drawn.
        command: of it.
        own: folder of all runs, which the command line or a default names: links in it are the user's.
        names: of the folders beside it that are written.

    Raises:
        UserError: one of them is such a link, or lies behind one.
    """
    tree = folder.absolute().parent.parent.parent
    if not _lies_in_a_tree(folder, command) or tree == Path(own).absolute():
        return
    for place in (tree / command / name for name in names):
        if not place.resolve().is_relative_to(tree.resolve()):
            yours = f"out={shlex.quote(str(tree))}"
            raise UserError(f"{place} is or lies behind a link that leads out of {tree}; if it is yours, add {yours}")


def _is_named(request: Request) -> bool:
    """Tell whether the command line says which name `v001` or `latest` is of; half of a default name does not."""
    typed = {word.split("=")[0] for word in request.overrides}
    return "name" in typed or typed >= {"model", "dataset"}


def _file_is_named(group: str, block: dict[str, Any], request: Request, home: Path | None) -> None:
    """Refuse to run a Python file that only the folder of the run names: that may come from anybody."""
    if "file" not in block:
        return
    file = str(home / block["file"]) if home else block["file"]  # not one of that name that lies here
    own = f"{group}.file={file}"
    if own not in request.overrides:
        raise UserError(f"this would run the Python file {file}; if it is yours, add {shlex.quote(own)}")


def _fetches_nothing(config: dict[str, Any], request: Request) -> None:
    """Refuse to fetch images or weights, and to make a folder for them, where only the folder of the run says so."""
    if config["dataset"].get("download") and "dataset.download=true" not in request.overrides:
        raise UserError(
            f"this would download {config['dataset']['name']} into {config['dataset'].get('root')} where it is not "
            "there; if you want that, add dataset.download=true"
        )
    if config["weights"] == "published" and "weights=published" not in request.overrides:
        from cnnprobe.preparation.named_weights import published_is_here

        if not published_is_here(config):
            name = config["model"]["name"]
            raise UserError(f"this would fetch published weights of {name}; if you want that, add weights=published")


def _device(before: dict[str, Any], composed: dict[str, Any], request: Request) -> dict[str, Any]:
    """Return what a run is repeated on: as before, but for what the command line says."""
    keys = [word.split("=")[0] for word in request.overrides]
    if "device" in keys:
        return composed
    return before | {key: value for key, value in composed.items() if f"device.{key}" in keys}


def _without_values(request: Request, *keys: str) -> Request:
    """Refuse other words than those of some keys, and those that let a Python file be run, or something fetched."""
    kept = [word for word in request.overrides if word.split("=")[0] in (*keys, *WHICH)]
    let = tuple(word for word in request.overrides if word.startswith(CODE) or word in FETCHING)
    other = [word for word in request.overrides if word not in (*kept, *let)]
    if other:
        possible, which = (", ".join(f"{key}=" for key in some) for some in (keys, WHICH))
        raise UserError(
            f"{listing(other)}: a run is repeated with its own options; give only {possible}, and {which} to say which "
            "run is meant"
        )
    return replace(request, overrides=tuple(kept))


def _is_meant(folder: Path, config: dict[str, Any], composed: dict[str, Any], request: Request) -> None:
    """Refuse words that say which run is meant, or let it do something, where the one that was found is another."""
    asked = {key: value for key, value in typed.values(request.overrides, composed).items() if key in WHICH}
    asked |= {word.partition("=")[0]: FETCHING[word] for word in request.overrides if word in FETCHING}
    paths = [word.partition("=")[2] for word in request.overrides if word.startswith("model.file=")]
    if paths and "file" not in config["model"]:  # else see `_file_is_named`
        asked["model.file"] = paths[-1]
    named = composed["name"] if composed["name"] == folder.parent.name else Job("", config).name
    typed.must_agree(asked, config | {"name": named}, folders.short(folder, composed["out"]))


@screen.lenient()
def redraw(request: Request) -> int:
    """Draw the figures of a run again, without its model and its images."""
    from cnnprobe.runs import drawing

    composed = compose.compose(_without_values(request, "out"), whole=False)
    name = Job(request.command, composed).name
    folder = folders.find(request.flags["redraw"], composed["out"], request.command, name, _is_named(request))
    command = run_json.read(folder).get("command", request.command)
    if command != request.command:
        raise UserError(f"{folders.short(folder, composed['out'])} is a run of {command}, not of {request.command}")
    _stays_in_its_tree(folder, command, composed["out"], folder.parent.name)
    locks.no_detours(folder)
    recording = Recording(folder / "store.h5")
    own = {group: {"name": recording.attributes.get(group)} for group in ("model", "dataset")}
    asked = typed.values(request.overrides, composed)
    if own["model"]["name"] == "custom":
        asked.pop("model.file", None)  # nothing is run
    typed.must_agree(asked, own | {"name": folder.parent.name}, folders.short(folder, composed["out"]))
    if not recording.complete:
        return redraw_so_far(folder, command)
    count = _drawn(drawing.draw, folder)
    about = run_json.read(folder)
    if about.get("status") == "complete":  # another version of the drawing library may have drawn other bytes
        drawn = files.sums(folder, (folder / "figures").glob("*.png"))
        now = run_json.as_written(folder) | {"files": about.get("files", {}) | drawn}
        files.write_json(folder / run_json.NAME, now)
    terminal.say(f"{count} figure{'' if count == 1 else 's'} drawn: {folder / 'figures'}")
    return 0


def redraw_so_far(folder: Path, command: str) -> int:
    """Draw the rows that a run has which is not complete: stopped, or being written now."""
    from cnnprobe.runs import drawing

    count, rows = _drawn(drawing.draw_so_far, folder)
    left = f"{folder} is not complete, {rows}"
    again = "" if locks.holder(folder) else f"; resume with: {folders.command_for(folder, command)}"
    if not count:
        raise UserError(f"{left}: nothing to draw yet{again}")
    place = folder / "figures" / drawing.SO_FAR
    terminal.say(f"{count} figure{'' if count == 1 else 's'} drawn: {place}; {left}{again}")
    return 0


def _drawn(draw: Callable[[Path], Any], folder: Path) -> Any:
    """Draw a run; an error over a store that is not as its run left it is the store's.

    Raises:
        UserError: the store does not hold what the command writes.
    """
    try:
        return draw(folder)
    except FileNotFoundError as error:  # the end of a run takes away the figures that were drawn while it worked
        if not (folder / "store.h5").is_file():
            raise
        what = Path(error.filename or "").name
        raise UserError(f"{folder} was changed while it was drawn ({what} is gone): the run ends just now, or somebody "
                        "tidies up; draw it again") from None  # fmt: skip
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        store, about = folder / "store.h5", run_json.read(folder)
        if about.get("files", {}).get(store.name) == files.sha256(store):
            raise
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{store} does not hold what {about.get('command')} writes ({reason})") from None
