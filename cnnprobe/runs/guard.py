"""The guard of a run: however its work ends, `run.json` says so, and the user gets one line that says how to go on."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from cnnprobe.errors import UserError
from cnnprobe.machine.signals import Stop
from cnnprobe.runs import resource_errors, under_way

LOG = logging.getLogger("cnnprobe")


@dataclass
class Ending:
    """How a run ended: its exit status."""

    status: int = 0


@contextmanager
def ending(run: under_way.Run, stop: Stop) -> Iterator[Ending]:
    """Guard the work of a run.

    An interruption, also one of the loaders by the signal that stops this process, ends it in order, with its exit
    status. A mistake of the user, also code that leaves by sys.exit, and what the machine lacks or forbids, becomes one
    line; an error of ours keeps its traceback, which goes into `run.log` as well.

    Raises:
        UserError: the run failed for a reason that is no error of ours.
    """
    end = Ending()
    try:
        yield end
    except KeyboardInterrupt:
        under_way.interrupted(run)
        end.status = 130
    except (Exception, SystemExit) as error:
        exits = isinstance(error, SystemExit)
        if stop() and (exits or resource_errors.is_of_loaders(error)):  # by the signal that stops this process too
            under_way.interrupted(run)
            end.status = stop.exit_status
            return
        told = UserError(f"the network or experiment ends the program (sys.exit({error}))") if exits else None
        told = told or resource_errors.of_run(error, run.folder, run.about, run.again)
        told = error if told is None and isinstance(error, UserError) else told
        with suppress(OSError):  # where the disk is full, the error itself is reported all the same
            if told is None:
                LOG.info(traceback.format_exc())
            run.close("failed", error=str(told) if told else f"{type(error).__name__}: {error}")
        if told is None or told is error:
            raise
        raise told from None
