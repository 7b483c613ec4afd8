"""A full disk and too little memory are no bugs: one line, status 2, and how to go on."""

import errno
import json
import os

import pytest
import torch
from test_run import contents, words

from cnnprobe import shortage
from cnnprobe.engine import recording

TORCH = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"
)
SHORT = [MemoryError(), TORCH, torch.OutOfMemoryError("CUDA out of memory")]


@pytest.mark.parametrize("error", SHORT, ids=["numpy", "cpu", "gpu"])
@pytest.mark.parametrize(
    ("batch", "told"), [(8, "8 images of 3×32×32 at once do not fit"), (1, "one image of 3×32×32")]
)
def test_memory_that_does_not_suffice_is_one_line(cnnprobe, pictures, tmp_path, monkeypatch, error, batch, told):
    """F54, F56, F57: planted into the pass through the network; the run says what would fit."""

    def short(*_, **__):
        raise error

    monkeypatch.setattr(recording._Pass, "run", short)
    answer = cnnprobe(*words("record", pictures, f"batch_size={batch}"))
    lines = [line for line in answer.err.splitlines() if line.startswith("cnnprobe ")]
    assert (answer.status, len(lines)) == (2, 1), answer.err
    assert told in lines[0]
    assert " GB free" in lines[0]
    assert ("try batch_size=4" in lines[0]) == (batch == 8)
    assert "Traceback" not in answer.err
    about = json.loads((tmp_path / "outputs/record/convnet-folder/v001/run.json").read_text())
    assert about["status"] == "failed"
    assert told in about["error"]


def test_other_errors_stay_bugs(tmp_path):
    about = {"command": "record", "device": "cpu", "dataset": {"size": [3, 8, 8]}}
    for error in (RuntimeError("shape mismatch"), ValueError("x"), FileNotFoundError(errno.ENOENT, "no such file")):
        assert shortage.of_run(error, tmp_path, about) is None
        assert shortage.of_call(error) is None
    assert str(shortage.of_call(OSError(errno.EROFS, "Read-only file system", "/x"))) == "Read-only file system: /x"


def test_a_folder_that_vanishes_while_it_is_written_is_told(cnnprobe, pictures, tmp_path, monkeypatch):
    """F67: nothing is written elsewhere instead."""
    import shutil

    from cnnprobe.store import Writer

    real = Writer.write

    def vanishing(self, rows):
        shutil.rmtree(tmp_path / "outputs", ignore_errors=True)
        return real(self, rows)

    monkeypatch.setattr(Writer, "write", vanishing)
    answer = cnnprobe(*words("record", pictures))
    assert answer.status == 2, answer.err
    assert "Traceback" not in answer.err
    assert "convnet-folder/v001: No such file or directory" in answer.err
    assert not (tmp_path / "outputs").exists()


def test_a_limit_on_the_size_of_files_is_told(pictures, tmp_path, cnnprobe):
    """F66: `ulimit -f` in a process of its own; afterwards the run is had whole."""
    import subprocess
    import sys
    from pathlib import Path

    root = Path(__file__).parent.parent
    asked = words("record", pictures, "limit=8", "device.workers=0")
    code = "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
    code += "from cnnprobe.cli import main; sys.exit(main(sys.argv[1:]))"
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
