"""One run: build, compute, store, draw."""

import json
import logging
import os
import shutil
import sys
import traceback
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from cnnprobe import methods
from cnnprobe.config import catalogue
from cnnprobe.errors import UserError, listing
from cnnprobe.machine import files, provenance, terminal
from cnnprobe.machine.computation import Computation
from cnnprobe.machine.signals import EXIT_STATUS, Stop
from cnnprobe.methods.contract import Provided, Resumed
from cnnprobe.preparation import build as preparation
from cnnprobe.preparation import compatibility, identity
from cnnprobe.runs import checkpoints, drawing, resource_errors, resuming, under_way
from cnnprobe.store import folders, run_json
from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Advance, Checkpoint, Measurement, Phase, Rows
from cnnprobe.store.unfinished import FOLDER as UNFINISHED
from cnnprobe.store.writer import Writer, same_attributes

LOG = logging.getLogger("cnnprobe")


@dataclass
class Job:
    """One run to do.

    Args:
        command: e.g. "topk".
        config: checked, see `config.schema.checked`.
        words: the overrides as typed.
        resume: folder of a stopped run to go on with.
        sweep: name of the sweep it belongs to.
        device: options of the block device to compute with; None: those of `config`.
        rerun: folder of a run that is done once more.
        home: working directory to do it in, see `store.folders.home`; None: this one.
        places: folders in which runs that a resumed run reads are looked for as well, by what they hold.
    """

    command: str
    config: dict[str, Any]
    words: tuple[str, ...] = ()
    resume: Path | None = None
    sweep: str | None = None
    device: dict[str, Any] | None = None
    rerun: Path | None = None
    home: Path | None = None
    places: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the run's folder: as given, else <model>-<dataset>."""
        return self.config["name"] or f"{self.config['model']['name']}-{self.config['dataset']['name']}"


def as_yaml(config: dict[str, Any]) -> str:
    """Write a configuration as YAML, keys in their own order."""
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=10**6)


def execute(job: Job, stop: Stop | None = None) -> tuple[int, Path]:
    """Run one job to its end, whatever that is.

    Args:
        job: what to do.
        stop: of whoever wants to know afterwards whether a signal came; one that comes while the figures of a run are
            drawn, all its rows written, does not change how the run ends.

    Returns:
        the exit status (0, 130 or 143) and the run folder.

    Raises:
        UserError: a mistake of the user; a folder that was made says so in its `run.json`.
    """
    remarks = terminal.Remarks()
    LOG.addHandler(remarks)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    try:
        with (stop or Stop()).listening() as stop:
            stop.notice = partial(under_way.stopping, job.command, "the preparation")
            measurement, run, attributes = begin(job, remarks, stop)
            try:
                return finished(measurement, run, attributes, stop), run.folder
            finally:
                run.lock.release()
    finally:
        LOG.removeHandler(remarks)


def finished(measurement: Measurement, run: under_way.Run, attributes: dict[str, Any], stop: Stop) -> int:
    """Do the work, and write into `run.json` how it ended. Returns the exit status."""
    try:
        status = work(measurement, run, attributes, stop)
        if status == 0:
            drawing.draw(run.folder)
            under_way.complete(measurement, run)
        else:
            under_way.interrupted(run)
        return status
    except KeyboardInterrupt:
        under_way.interrupted(run)
        return 130
    except Exception as error:
        if stop() and resource_errors.is_of_loaders(error):  # by the signal that stops this process too
            under_way.interrupted(run)
            return EXIT_STATUS[stop.signal]
        told = resource_errors.of_run(error, run.folder, run.about, run.again)
        told = error if told is None and isinstance(error, UserError) else told
        with suppress(OSError):  # where the disk is full, the error itself is reported all the same
            if told is None:
                LOG.info(traceback.format_exc())
            run.close("failed", error=str(told) if told else f"{type(error).__name__}: {error}")
        if told is None or told is error:
            raise
        raise told from None


def begin(job: Job, remarks: terminal.Remarks, stop: Stop) -> tuple[Measurement, under_way.Run, dict[str, Any]]:
    """Build everything, check everything, and only then make the run folder.

    Returns:
        the measurement, ready to run; the run; and the root attributes of its store.
    """
    if job.resume:
        resuming.must_say_what_it_found(job.resume)
        remarks.go_on(run_json.read(job.resume))
    compatibility.remark_home(job.resume or job.rerun, job.home)
    with ExitStack() as undo:  # refused or interrupted before its first row, a run leaves no lock and no folder
        lock = undo.enter_context(folders.Lock(job.resume)) if job.resume else None
        preparation.look(job.config)
        device, threads, workers = preparation.device_of(job.device or job.config["device"])
        stop.leave()
        source, job.config = compatibility.open_source(job.config, job.resume, job.places, job.words)
        made = preparation.prepare(job.config, job.command, job.words)
        stop.leave()
        if job.resume:
            compatibility.same_images(job.resume, made)
        read = runs_read(job, source)
        depends = identity.identity_of(job.config, made, read)
        begun_with = compatibility.same_identity(job.resume, depends) if job.resume else depends
        if source is not None:
            compatibility.same_origin(source, f"source={job.config['method']['source']}", made, depends, job.config)
        compatibility.remark_trained(made, depends)
        compatibility.warn_if_random(job.command, made, job.config["weights"])
        job.config = job.config | {"model": job.config["model"] | made.options, "weights": made.weights.again}
        attributes = {
            "command": job.command,
            "model": made.options["name"],
            "dataset": made.dataset.name,
            "weights": made.weights.label,
            "seed": job.config["seed"],
            "weights_sha256": made.sha256,
            "dataset_fingerprint": made.dataset.fingerprint,
            "size": list(made.dataset.size),
            identity.ATTRIBUTE: json.dumps(begun_with, ensure_ascii=False),
            # where a run lies says nothing about its results
            "config": as_yaml({key: value for key, value in job.config.items() if key != "out"}),
        }
        if job.resume and (job.resume / "store.h5").exists():
            same_attributes(Recording(job.resume / "store.h5"), attributes)
        left = resuming.left_by(job.resume)
        measurement = compute(job, made, device, workers, source, stop, left)
        stop.leave()
        folder = job.resume or folders.claim(job.config["out"], job.command, job.name)
        left.unfinished.folder = folder / UNFINISHED
        if lock is None:
            undo.callback(shutil.rmtree, folder, ignore_errors=True)
        undo.callback(setattr, remarks, "log", None)
        try:
            lock = lock or undo.enter_context(folders.Lock(folder))
            more = {"identity": begun_with, "built_from": compatibility.built_from(job.config, made, read)}
            run = under_way.Run(job, folder, lock, about(job, made, device, threads) | more, remarks, left.unfinished)
            run.about["place"] = os.path.relpath(folder)
            if job.resume:
                folders.tidy(folder)
                compatibility.remark_resumed(folder.name, run_json.read(folder), run.about)
            if job.rerun:
                compatibility.remark_repeated(job.rerun, made, run.about)
            remarks.open(folder / "run.log")
            run.save()
            files.write(folder / "config.yaml", as_yaml(job.config).encode())
        except OSError as error:
            raise folders.unwritable(folder, error) from None
        undo.pop_all()
        return measurement, run, attributes


def about(job: Job, made: preparation.Preparation, device: str, threads: int) -> dict[str, Any]:
    """Return the provenance of a run that begins: the first state of its `run.json`."""
    before = run_json.read(job.resume) if job.resume else {}
    weights = {"label": made.weights.label, "sha256": made.sha256}
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
        "seed": job.config["seed"],
        "device": device,
        "threads": threads,
        "weights": weights | ({"moments": made.sums} if made.sums else {}),
        "dataset": folders.images_of(made.dataset),
        "batch_size": job.config.get("batch_size"),
        "held_out": folders.images_of(made.held_out) if made.held_out is not None else None,
        "working_directory": folders.working_directory(),
        "versions": provenance.versions(),
        "commit": provenance.commit(),
        "machine": provenance.machine(),
        "process": os.getpid(),
    }


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


def work(measurement: Measurement, run: under_way.Run, attributes: dict[str, Any], stop: Stop) -> int:
    """Write every row and checkpoint as it comes. Returns 0 when all is done, else 130 or 143."""
    store = run.folder / "store.h5"
    resumed = store.exists()
    writer = (Writer.resume if resumed else Writer.create)(store, measurement.tables, attributes)
    if resumed:
        terminal.say(f"resuming {run.folder.name}: {kept(writer, run)}", stream=sys.stderr)
    # a method that learns ends by itself, after it has handed over its state
    ends_itself = catalogue.fact(run.job.command, "LEARNS", False)
    try:
        images = "signals" if len(attributes["size"]) == 2 else "images"
        with terminal.Progress(run.job.command, measurement.total, measurement.counts, images) as bar:
            stop.notice = partial(under_way.stopping, run.job.command, bar)
            for event in measurement.events:
                run.note(measurement.facts)
                match event:
                    case Rows():
                        writer.write(event)
                    case Advance():
                        bar.advance(event.count)
                    case Phase():
                        bar.phase(event.name, event.total, event.counts)
                    case Checkpoint():
                        beside = {"model": run.job.config["model"]} | event.about
                        checkpoints.save(run.folder / "weights", event, beside)
                if stop() and not ends_itself and run.unfinished.keep():
                    break
                run.unfinished.keep_in_time()
        run.note(measurement.facts)
        run.about |= {f"{counts}_per_second": round(rate, 3) for counts, rate in bar.rates.items()}
        if stop():
            run.under_way = f", and {bar}" if run.unfinished.parts else ""
            return EXIT_STATUS[stop.signal]
        writer.finish()
        run.unfinished.clear()
        return 0
    finally:
        run.about["kept"] = kept(writer, run)
        measurement.close()
        writer.close()


def kept(writer: Writer, run: under_way.Run) -> str:
    """Say what there is to go on from: rows, and of a training how far its weights are, which rows do not tell."""
    learns = catalogue.fact(run.job.command, "LEARNS", False)
    return writer.kept() + (checkpoints.kept(run.folder / "weights") if learns else "")
