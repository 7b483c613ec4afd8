"""The preparation of a run: network, images and all else that it depends on, checked before its folder is made."""

import json
import os
import shutil
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cnnprobe import methods
from cnnprobe.config import catalogue
from cnnprobe.errors import UserError, listing
from cnnprobe.machine import files, own_code, provenance, terminal
from cnnprobe.machine.computation import Computation
from cnnprobe.machine.signals import Stop
from cnnprobe.methods.contract import Provided, Resumed
from cnnprobe.preparation import build as preparation
from cnnprobe.preparation import compatibility, identity
from cnnprobe.runs import resuming
from cnnprobe.runs.job import Job, as_yaml
from cnnprobe.runs.under_way import Run
from cnnprobe.store import folders, locks, origin, run_json
from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Measurement
from cnnprobe.store.unfinished import FOLDER as UNFINISHED
from cnnprobe.store.writer import same_attributes


def prepare(job: Job, remarks: terminal.Remarks, stop: Stop) -> Run:
    """Build everything, check everything, and only then make the run folder; the run is ready to be measured."""
    if job.resume:
        resuming.must_say_what_it_found(job.resume)
        remarks.go_on(run_json.read(job.resume))
    compatibility.remark_home(job.resume or job.rerun, job.home)
    with ExitStack() as undo:  # refused or interrupted before its first row, a run leaves no lock and no folder
        lock = undo.enter_context(locks.Lock(job.resume)) if job.resume else None
        preparation.look(job.config)
        device, threads, workers = preparation.device_of(job.device or job.config["device"])
        with stop.at_once():  # nothing is written yet, and there may be any number of images
            source, job.config = compatibility.open_source(job.config, job.resume, job.places, job.words)
            made = preparation.prepare(job.config, job.command, job.words)
            if job.resume:
                compatibility.same_images(job.resume, made)
            made.beside = image_sets(job, made)
            read = runs_read(job, source)
            depends = identity.identity_of(job.config, made, read)
        begun_with = compatibility.same_identity(job.resume, depends, so_far=True) if job.resume else depends
        if source is not None:
            compatibility.same_origin(source, f"source={job.config['method']['source']}", made, depends, job.config)
        compatibility.remark_trained(made, depends)
        compatibility.warn_if_random(job.command, made, job.config["weights"])
        job.config = job.config | {"model": job.config["model"] | made.options, "weights": made.weights.again}
        attributes = attributes_of(job, made, begun_with)
        store = job.resume / "store.h5" if job.resume and (job.resume / "store.h5").exists() else None
        if store is not None:
            same_attributes(Recording(store), attributes)
        left = resuming.left_by(job.resume)
        assert left.unfinished is not None  # it is always there, and keeps nothing before it has a folder
        measurement = compute(job, made, device, workers, source, stop, left)
        stop.leave()
        depends |= identity.code_so_far(job.config)  # `compute` may have imported more
        begun_with = compatibility.same_identity(job.resume, depends) if job.resume else depends
        attributes = attributes_of(job, made, begun_with)
        if store is not None:  # the one it began with: a newer version may know more parts of the identity
            attributes[origin.ATTRIBUTE] = origin.recorded(store)
        left.unfinished.origin = attributes[origin.ATTRIBUTE]
        folder = job.resume or folders.claim(job.config["out"], job.command, job.name)
        left.unfinished.folder = folder / UNFINISHED
        if lock is None:
            undo.callback(_remove_empty, folder)
        undo.callback(setattr, remarks, "log", None)
        try:
            if lock is None:
                lock = undo.enter_context(locks.Lock(folder))
                undo.callback(_remove, lock)
            more = {"identity": begun_with, "built_from": compatibility.built_from(job.config, made, read)}
            own = about(job, made, device, threads) | more
            run = Run(job, folder, lock, own, remarks, left.unfinished, measurement, attributes)
            run.about["place"] = os.path.relpath(folder)
            if job.resume:
                folders.tidy(folder)
                compatibility.remark_resumed(folder.name, run_json.read(folder), run.about)
            if job.rerun:
                compatibility.remark_repeated(job.rerun, made, run.about)
            remarks.open(folder / "run.log")
            # before run.json, or a run that is killed between the two could not be resumed as it says
            files.write(folder / "config.yaml", as_yaml(job.config).encode())
            run.save()
        except OSError as error:
            raise folders.unwritable(folder, error) from None
        undo.pop_all()
        return run


def _remove_empty(folder: Path) -> None:
    """Remove a folder in which there is nothing."""
    with suppress(OSError):
        folder.rmdir()


def _remove(lock: locks.Lock) -> None:
    """Remove the folder that a lock holds, unless its name has become that of another one."""
    with suppress(UserError):
        lock.check()
        shutil.rmtree(lock.folder, ignore_errors=True)


def attributes_of(job: Job, made: preparation.Preparation, depends: dict[str, str]) -> dict[str, Any]:
    """Return the root attributes of the store: what the run is of, and the identity of what it depends on."""
    own = {
        "command": job.command,
        "model": made.options["name"],
        "dataset": made.dataset.name,
        "weights": made.weights.label,
        "seed": job.config["seed"],
        "weights_sha256": made.sha256,
        "dataset_fingerprint": made.dataset.fingerprint,
        "size": list(made.dataset.size),
        identity.ATTRIBUTE: json.dumps(depends, ensure_ascii=False),
        # where a run lies says nothing about its results
        "config": as_yaml({key: value for key, value in job.config.items() if key != "out"}),
    }
    return own | {origin.ATTRIBUTE: origin.origin_of(own, job.config)}


def about(job: Job, made: preparation.Preparation, device: str, threads: int) -> dict[str, Any]:
    """Return the provenance of a run that begins: the first state of its `run.json`."""
    before = run_json.read(job.resume) if job.resume else {}
    from cnnprobe.machine import precision  # with torch

    weights, commit = {"label": made.weights.label, "sha256": made.sha256}, provenance.commit()
    return {
        "command": job.command,
        "overrides": list(job.words),
        "status": "running",
        "started": before.get("started") or datetime.now(UTC).isoformat(timespec="seconds"),
        "ended": None,
        "seconds": before.get("seconds") or 0.0,
        "resumed": before.get("resumed", 0) + 1 if job.resume else 0,
        "sweep": job.sweep,
        "facts": before.get("facts") or {},
        "run_later": before.get("run_later") or {},
        "seed": job.config["seed"],
        "device": device,
        "threads": threads,
        "weights": weights | ({"moments": made.sums} if made.sums else {}),
        "dataset": folders.images_of(made.dataset),
        "batch_size": job.config.get("batch_size"),
        "held_out": folders.images_of(made.held_out) if made.held_out is not None else None,
        "working_directory": run_json.here(),
        "versions": provenance.versions() | own_code.versions(),
        "environment": precision.environment(),
        "commit": commit,
        "commits": list(dict.fromkeys([*_commits(before), *([commit] if commit else [])])),
        "code": provenance.code(),
        "machine": provenance.machine(),
        "process": os.getpid(),
    }


def _commits(before: dict[str, Any]) -> list[str]:
    """Return the commits by which the rows of a stopped run were written."""
    return before.get("commits") or ([before["commit"]] if "commit" in before else [])


def image_sets(job: Job, made: preparation.Preparation) -> dict[str, Any]:
    """Open the image sets that a run reads beside its dataset, by option."""
    opened = getattr(methods.module(job.command), "image_sets", None)
    return {} if opened is None else opened(job.config, made)


def runs_read(job: Job, source: Recording | None) -> dict[str, Path]:
    """Return the folders of the runs, and files of weights, that a run reads beside its own, by option."""
    found = {"source": source.path.parent} if source is not None else {}
    reads = getattr(methods.module(job.command), "reads", None)
    return found | (reads(job.config) if reads else {})


def compute(
    job: Job,
    made: preparation.Preparation,
    device: str,
    workers: int,
    source: Recording | None,
    stop: Stop,
    left: Resumed,
) -> Measurement:
    """Call the method with its options, and with what every run hands over; `left`: by a stopped run."""
    if job.config.get("layer") == "???" or (job.config.get("layer") is None and _needs_one(job)):
        raise _needs_layer(made)
    asked = catalogue.options_of(job.command)
    options = {key: value for key, value in (job.config | job.config["method"]).items() if key in asked}
    options |= {"source": source} if "source" in asked else {}
    inputs = getattr(methods.module(job.command), "inputs", None)
    if inputs is not None:
        with stop.at_once():
            options |= inputs(job.config, made, device)
    provided = Provided(
        model=made.model.to(device),
        dataset=made.dataset,
        held_out=made.held_out,
        classes=made.classes,
        moments=made.moments,
        computation=Computation(
            device, 0 if made.dataset.in_memory else workers, job.config["batch_size"], job.config["seed"]
        ),
        resumed=left,
        should_stop=stop,
    )
    return methods.measurement(job.command, provided, options)


def _needs_one(job: Job) -> bool:
    """Tell whether the command has a layer and no default for it."""
    entry = catalogue.page(catalogue.yaml_path("method", job.command)).root.get("layer")
    return entry is not None and entry.default == "???"


def _needs_layer(made: preparation.Preparation) -> UserError:
    from cnnprobe.instruments.layers import naming as layers

    names = [layer.name for layer in layers.main_layers(made.model, made.dataset.size)]
    return UserError(f"needs layer=…; layers of {made.options['name']}: {listing(names)}")
