"""A full disk and too little memory are no bugs: one line, status 2, and how to go on."""

import errno
import json
import os
import re
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cnnprobe.config import catalogue
from cnnprobe.instruments.images import batches
from cnnprobe.instruments.network import activations
from cnnprobe.machine import files
from cnnprobe.machine.memory import Carried
from cnnprobe.models import convnet
from cnnprobe.runs import execute, resource_errors
from cnnprobe.runs.job import Job
from cnnprobe.store.reader import Recording
from cnnprobe.store.writer import Writer
from tests.runs.test_execute import contents, name_of, words
from tests.support.files.stores import filled

TORCH = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
)
SHORT = [MemoryError(), TORCH, torch.OutOfMemoryError("CUDA out of memory")]


WHOLE = "8 images of 3×32×32 at once do not fit"
SINGLE = "one image of 3×32×32 does not fit"
PROBES = [command for command in catalogue.commands() if command not in ("train", "transfer", "layers")]
FAST = ("record", "topk", "rsa")
AT_ONCE = ("record",)


@pytest.mark.parametrize("error", SHORT, ids=["numpy", "cpu", "gpu"])
@pytest.mark.parametrize(("where", "told"), [("images", WHOLE), ("network", SINGLE)])
def test_memory_that_does_not_suffice_is_one_line(cnnprobe, pictures, tmp_path, monkeypatch, error, where, told):
    """F54, F56, F57: planted where images are loaded, and into the network; the run says what would fit."""

    real, measure, begun = activations._Pass.run, execute.measure, []

    def short(*given, **named):
        if where == "network" and not begun:  # the network is looked at
            return real(*given, **named)
        raise type(error)(*error.args)  # a new one: what is known of it is written on it

    monkeypatch.setattr(execute, "measure", lambda *given: (begun.append(1), measure(*given))[1])
    if where == "network":
        monkeypatch.setattr(activations._Pass, "run", short)
    else:
        monkeypatch.setattr(batches._Loaded, "__getitem__", short)
    answer = cnnprobe(*words("record", pictures, "batch_size=8", "device.workers=0"))
    lines = [line for line in answer.err.splitlines() if line.startswith("cnnprobe ")]
    assert (answer.status, len(lines)) == (2, 1), answer.err
    assert told in lines[0]
    assert " GB free" in lines[0]
    assert ("try batch_size=4" in lines[0]) == (told == WHOLE)
    assert "Traceback" not in answer.err
    about = json.loads((tmp_path / "outputs/record/convnet-folder/v001/run.json").read_text())
    assert about["status"] == "failed"
    assert told in about["error"]


@pytest.mark.parametrize("command", [c if c in FAST else pytest.param(c, marks=pytest.mark.slow) for c in PROBES])
def test_every_command_goes_on_with_as_many_images_as_fit(cnnprobe, pictures, tmp_path, monkeypatch, command):
    """F54: three at once; said in a warning, and the same is measured."""
    asked = words(command, pictures, "weights=random", "device.threads=1")
    assert cnnprobe(*asked).status == 0
    real = torch.nn.Conv2d.forward

    def narrow(self, images):
        if len(images) > 3 and self.in_channels != 3:  # in the second layer: the first one has been read
            raise TORCH
        return real(self, images)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", narrow)
    answer = cnnprobe(*asked)
    assert answer.status == 0, answer.err
    assert re.search(r"does not fit in memory, going on with [123]$", answer.err, re.MULTILINE), answer.err
    folder = tmp_path / "outputs" / command / name_of(command)
    alike(Recording(folder / "v001/store.h5"), Recording(folder / "v002/store.h5"))


class Failing(TorchDispatchMode):
    """Counts the convolutions and products of a piece of work; memory does not suffice for number `at`."""

    def __init__(self, at=None):
        super().__init__()
        self.at, self.seen = at, 0

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        if re.search(r"aten\.(conv|linear|addmm|mm)", str(operation)):
            self.seen += 1
            if self.seen == self.at:
                raise TORCH
        return operation(*arguments, **(keywords or {}))


@pytest.mark.parametrize("command", [c if c in AT_ONCE else pytest.param(c, marks=pytest.mark.slow) for c in PROBES])
def test_wherever_memory_runs_out_every_image_counts_once(cnnprobe, pictures, tmp_path, monkeypatch, command):
    """F54: in the last operation of any piece of work: the first, the last, and some between, of several batches."""
    real, pieces = Carried.attempt, []

    def attempt(self, count, work):
        failing = Failing(fails.get(len(pieces)) if count > 1 else None)
        pieces.append(failing)
        failing.most = count

        def watched():
            with failing:
                return work()

        return real(self, count, watched)

    fails: dict[int, int] = {}
    monkeypatch.setattr(Carried, "attempt", attempt)
    asked = words(command, pictures, "weights=random", "device.threads=1")
    assert cnnprobe(*asked).status == 0
    places = [place for place, one in enumerate(pieces) if one.seen and one.most > 1]
    last = [pieces[place].seen for place in places]
    folder = tmp_path / "outputs" / command / name_of(command)
    assert places
    for at in np.unique(np.linspace(0, len(places) - 1, 5).astype(int)):
        fails, before = {places[at]: last[at]}, Recording(folder / "v001/store.h5")
        pieces.clear()
        answer = cnnprobe(*asked)
        assert answer.status == 0, answer.err
        assert "does not fit in memory" in answer.err
        alike(before, Recording(folder / f"v{len(list(folder.glob('v*'))):03d}/store.h5"))


def alike(one, other):
    """Compare all columns: numbers to 1e-4 of the column's largest, everything else exactly."""
    assert one.tables() == other.tables()
    for name in one.tables():
        for column in one[name].columns:
            first, second = np.asarray(one[name][column]), np.asarray(other[name][column])
            assert first.shape == second.shape, (name, column)
            if first.dtype.kind != "f":
                assert (first == second).all(), (name, column)
                continue
            assert (np.isnan(first) == np.isnan(second)).all(), (name, column)
            largest = np.nanmax(np.abs(first), initial=1e-12)
            assert np.nanmax(np.abs(first - second), initial=0) <= 1e-4 * largest, (name, column)


def test_a_resumed_record_remembers_how_many_images_fit(cnnprobe, pictures, tmp_path, monkeypatch):
    """F54: and ends as one that was never stopped."""
    real, shown, stop = activations._Pass.run, [], [2]

    def narrow(self, images, complete=None):
        if len(images) > 5:
            raise TORCH
        shown.append(len(images))
        if shown.count(4) == stop[0]:  # those before it, of one image, look at the network
            signal.raise_signal(signal.SIGTERM)
        return real(self, images, complete)

    monkeypatch.setattr(activations._Pass, "run", narrow)
    asked = words("record", pictures, "weights=random", "device.threads=1")
    assert cnnprobe(*asked).status == 143
    folder = tmp_path / "outputs/record/convnet-folder"
    assert json.loads((folder / "v001/run.json").read_text())["facts"] == {"batch": 4}
    stop[0] = 0
    answer = cnnprobe("record", "--resume", "latest")
    assert answer.status == 0, answer.err
    assert "does not fit" not in answer.err
    assert set(shown) <= {1, 4}
    assert cnnprobe(*asked).status == 0
    assert contents(folder / "v001") == contents(folder / "v002")


def test_other_errors_stay_bugs(tmp_path):
    about = {"command": "record", "device": "cpu", "dataset": {"size": [3, 8, 8]}}
    for error in (RuntimeError("shape mismatch"), ValueError("x"), FileNotFoundError(errno.ENOENT, "no such file")):
        assert resource_errors.of_run(error, tmp_path, about, "cnnprobe ...") is None
        assert resource_errors.of_call(error) is None
    assert (
        str(resource_errors.of_call(OSError(errno.EROFS, "Read-only file system", "/x"))) == "Read-only file system: /x"
    )


def test_a_folder_that_vanishes_while_it_is_written_is_told(cnnprobe, pictures, tmp_path, monkeypatch):
    """F67: nothing is written elsewhere instead."""
    import shutil

    from cnnprobe.store.writer import Writer

    real = Writer.write

    def vanishing(self, rows):
        shutil.rmtree(tmp_path / "outputs", ignore_errors=True)
        return real(self, rows)

    monkeypatch.setattr(Writer, "write", vanishing)
    answer = cnnprobe(*words("record", pictures))
    assert answer.status == 2, answer.err
    assert "Traceback" not in answer.err
    assert "convnet-folder/v001 was deleted, moved or replaced while it was being written" in answer.err
    assert not (tmp_path / "outputs").exists()


def test_whatever_fails_in_a_folder_that_is_gone_is_told(tmp_path):
    """F67: what is no fault of the machine is one of ours where the folder is there."""
    error, about = FileNotFoundError(errno.ENOENT, "no such file"), {"kept": "3 of 4 rows kept"}
    told = resource_errors.of_run(error, tmp_path / "gone", about, "again")
    assert str(told) == f"cannot write in {tmp_path / 'gone'}: No such file or directory; 3 of 4 rows kept"
    assert resource_errors.of_run(error, tmp_path, about, "again") is None


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_is_told(pictures, tmp_path, cnnprobe):
    """F66: `ulimit -f` in a process of its own; afterwards the run is had whole."""
    import subprocess
    import sys
    from pathlib import Path

    root = Path(__file__).parents[2]
    asked = words("record", pictures, "limit=8", "device.workers=0")
    code = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
    code += "from cnnprobe.cli.main import main; sys.exit(main(sys.argv[1:]))"
    answer = subprocess.run(
        [sys.executable, "-B", "-c", code, *asked], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    assert answer.returncode == 2, answer.stderr
    assert "Traceback" not in answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("cnnprobe record: ")
    assert not list(tmp_path.rglob("store.h5"))
    assert cnnprobe(*asked).status == 0
    assert contents(tmp_path / "outputs/record/convnet-folder/v002")


@pytest.mark.parametrize("where", ["images", "layers"])
def test_memory_that_does_not_suffice_for_a_look_at_the_network_is_no_misfit(
    cnnprobe, pictures, tmp_path, monkeypatch, where
):
    """F56: neither the size of the images nor the network is to blame."""
    real, seen = convnet.ConvNet.forward, []

    def short(self, images):
        seen.append(len(images))
        if (
            len(seen) == {"images": 1, "layers": 2}[where]
        ):  # before: does it take such images? then: what layers has it?
            raise TORCH
        return real(self, images)

    monkeypatch.setattr(convnet.ConvNet, "forward", short)
    answer = cnnprobe(*words("record", pictures, "weights=random"))
    assert answer.status == 2
    (line,) = [line for line in answer.err.splitlines() if line.startswith("cnnprobe ")]
    assert line.startswith("cnnprobe record: memory does not suffice, ")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("error", SHORT, ids=["numpy", "cpu", "gpu"])
def test_memory_that_does_not_suffice_before_a_run_is_one_line(cnnprobe, pictures, tmp_path, monkeypatch, error):
    """F56: while the network is built."""

    def short(**_):
        raise error

    monkeypatch.setattr(convnet, "build", short)
    answer = cnnprobe(*words("record", pictures, "weights=random"))
    assert answer.status == 2
    assert re.fullmatch(r"cnnprobe record: memory does not suffice, [0-9.]+ GB free\n", answer.err), answer.err
    assert not (tmp_path / "outputs").exists()


@pytest.fixture
def without_loaders(cnnprobe, pictures, tmp_path, monkeypatch):
    """Return what records while its loaders are killed as rows are written, and resumes without them."""

    def recorded(then=lambda: None):
        write = Writer.write

        def gone(self, rows):
            write(self, rows)
            for process in batches.LOADERS:
                process.kill()
                process.join()
            then()

        monkeypatch.setattr(Writer, "write", gone)
        asked = ["batch_size=2", "limit=16", "layer=conv1", "weights=random", "device.workers=1"]
        answer = cnnprobe(*words("record", pictures, *asked))
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
        resumed = cnnprobe("record", "--resume", "outputs/record/convnet-folder/v001", "device.workers=0")
        assert resumed.status == 0, answer.err + resumed.err
        return answer

    return recorded


def test_a_loader_that_was_killed_while_the_network_computed_is_told(without_loaders):
    """F58: the rows it gave are written, and the next images of its are waited for in vain."""
    answer = without_loaders()
    assert answer.status == 2, answer.err
    folder = "outputs/record/convnet-folder/v001"
    told = rf"a loader process was killed .* 2 of 16 rows kept; resume with: .*{folder} device.workers=0"
    assert re.search(told, answer.err)


def test_a_signal_that_kills_the_loaders_too_stops_the_run_in_order(without_loaders):
    """F63: as a batch scheduler sends it; whether the loader or the signal is noticed first does not matter."""

    def stopped():
        os.kill(os.getpid(), signal.SIGTERM)
        raise batches.LoaderError("a loader process was killed")

    answer = without_loaders(stopped)
    assert answer.status == 143, answer.err
    assert "a loader process was killed" not in answer.err


def test_loaders_that_cannot_begin_are_no_disk(tmp_path):
    """F58: what is kept, and how to go on without them."""
    about = {"kept": "4 of 9 rows kept"}
    told = resource_errors.of_run(
        batches.LoaderError("2 loader processes cannot begin (x)"), tmp_path, about, "cnnprobe r"
    )
    expected = "2 loader processes cannot begin (x); 4 of 9 rows kept; resume with: cnnprobe r device.workers=0"
    assert str(told) == expected


def test_a_folder_in_the_place_of_a_figure_is_told(tmp_path):
    """F102: in the end of a run, and where it is drawn again."""
    (tmp_path / "a.png").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        files.write(tmp_path / "a.png", b"x")
    told = f"{tmp_path / 'a.png'} is a folder where a file should be; move it elsewhere"
    assert str(resource_errors.of_call(caught.value)) == told
    about = {"kept": "9 of 9 rows kept"}
    again = "; 9 of 9 rows kept; resume with: cnnprobe r"
    assert str(resource_errors.of_run(caught.value, tmp_path, about, "cnnprobe r")) == told + again


def test_of_a_training_rows_are_not_all_that_is_kept(tmp_path):
    """F66: a disk may fill before the state is saved that it would go on from."""
    writer = filled(tmp_path / "store.h5", only=[0])
    told = [execute.kept(writer, SimpleNamespace(folder=tmp_path, job=Job(name, {}))) for name in ("topk", "train")]
    writer.close()
    assert told == ["4 of 10 rows kept", "4 of 10 rows kept, but no state of the training: it begins anew"]
