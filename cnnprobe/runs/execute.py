"""One run: prepare, measure, write, draw.

What protects it surrounds these steps: `prepare` checks before there is a folder, `guard` says how a run ended,
`machine.signals` hears signals, and `store.writer` keeps every row that it reported.
"""

import sys
from functools import partial
from pathlib import Path

from cnnprobe.config import catalogue
from cnnprobe.machine import screen, terminal
from cnnprobe.machine.signals import Stop
from cnnprobe.runs import checkpoints, drawing, guard, under_way
from cnnprobe.runs.job import Job
from cnnprobe.runs.prepare import prepare
from cnnprobe.store import origin
from cnnprobe.store.tables import Advance, Checkpoint, Phase, Rows
from cnnprobe.store.writer import Writer


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
    with screen.lenient(), terminal.collected() as remarks, (stop or Stop()).listening() as stop:
        stop.notice = partial(under_way.stopping, job.command, "the preparation")
        run, told = prepare(job, remarks, stop), ""
        with run.lock, guard.ending(run, stop) as end:
            end.status = measure(run, stop)
            if end.status == 0:
                drawing.draw(run.folder)
                told = under_way.complete(run)
            else:
                under_way.interrupted(run)
    if told:
        terminal.say(told)
    return end.status, run.folder


def measure(run: under_way.Run, stop: Stop) -> int:
    """Do the work, and write every row and checkpoint as it comes. Returns 0 when all is done, else 130 or 143."""
    measurement, attributes = run.measurement, run.attributes
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
                        if of := attributes.get(origin.ATTRIBUTE):
                            beside[origin.ATTRIBUTE] = of
                        checkpoints.save(run.folder / "weights", event, beside)
                if stop() and not ends_itself and run.unfinished.keep():
                    break
                run.unfinished.keep_in_time()
        run.note(measurement.facts)
        run.about |= {f"{counts}_per_second": round(rate, 3) for counts, rate in bar.rates.items()}
        if stop():
            run.under_way = f", and {bar}" if run.unfinished.parts else ""
            return stop.exit_status
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
