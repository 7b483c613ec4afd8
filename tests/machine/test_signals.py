import json
import os
import pty
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import pytest

from cnnprobe.machine.signals import Stop, noted
from cnnprobe.store.reader import Recording

ROOT = Path(__file__).parents[2]
LONG = ["record", "model=convnet", "layer=conv1", "batch_size=1", "weights=random"]


def wait_for(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.02)


def test_the_first_signal_is_noted_and_the_second_one_leaves_at_once():
    """F62."""
    before = signal.getsignal(signal.SIGINT)
    with Stop().listening() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        assert stop.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
    assert signal.getsignal(signal.SIGINT) is before


def test_signals_that_are_passed_on_are_one_signal():
    """F63: who waits for a process, and a scheduler, may both end it; a Ctrl-C leaves at once."""
    with Stop(passed_on=True).listening() as stop:
        try:
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGHUP):
                os.kill(os.getpid(), number)
        except KeyboardInterrupt:
            pytest.fail("it left at once")
        assert stop.signal == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)


def test_the_first_signal_leaves_where_nothing_can_be_kept_yet():
    """F103: reading what a stranger's file makes long is not waited for."""
    with Stop().listening() as stop:
        with pytest.raises(SystemExit, match="143"), stop.at_once():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1)
        assert stop() and not stop.leaves
        with pytest.raises(SystemExit, match="143"), stop.at_once():
            pytest.fail("the signal came before")


def test_leaving_at_once_lasts_as_long_as_the_outermost_block():
    """F103."""
    with Stop().listening() as stop:
        with stop.at_once():
            with stop.at_once():
                pass
            assert stop.leaves
        assert not stop.leaves


def test_what_takes_longer_to_stop_is_told(monkeypatch):
    """F96: within a second a stopped run has ended, or says what it finishes."""
    monkeypatch.setattr("cnnprobe.machine.signals.PATIENCE", 0.02)
    said = []
    with Stop().listening() as stop:
        stop.notice = lambda: said.append("finishing")
        os.kill(os.getpid(), signal.SIGINT)
        wait_for(lambda: said, 5)
    with Stop().listening() as stop:
        stop.notice = lambda: said.append("too late")
        os.kill(os.getpid(), signal.SIGINT)
        assert stop()
    time.sleep(0.05)
    assert said == ["finishing"]


def test_an_interrupt_that_a_library_swallowed_is_known_to_whoever_listens_later():
    before = signal.getsignal(signal.SIGINT)
    with noted():
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        with Stop().listening() as stop:
            assert stop() and stop.signal == signal.SIGINT
    assert signal.getsignal(signal.SIGINT) is before
    with Stop().listening() as stop:
        assert not stop()


def test_an_interrupt_where_nobody_can_catch_it_leaves_no_traceback(monkeypatch):
    """F62: importlib forgets modules in callbacks of weak references."""
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    class Module:
        pass

    def interrupted(_):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    def forgotten():
        module = Module()
        return module, weakref.ref(module, interrupted)

    with noted():
        module, known = forgotten()
        del module
        assert known() is None
        with Stop().listening() as stop:
            assert stop()
    assert not told


def test_a_process_that_is_forked_leaves_signals_to_its_parent():
    """F63: a loader process gets them before it has had time to ignore them."""
    for handlers in (Stop().listening, noted):
        with handlers() as stop:
            child = os.fork()
            if not child:
                try:
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.01)
                except KeyboardInterrupt:
                    os._exit(1)
                os._exit(bool(stop and stop()))
            assert os.waitpid(child, 0)[1] == 0
            assert not (stop and stop())


def of_group(group):
    """Return the processes of a group that are alive."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_a_signal_to_the_whole_group_ends_a_run_in_order(tmp_path, pictures):
    """F63: as a batch scheduler does it; loader processes too get it, and none is left over."""
    images = ["dataset=folder", f"dataset.root={pictures}", "device.workers=2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "cnnprobe", *LONG, *images], cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    store = tmp_path / "outputs/record/convnet-folder/v001/store.h5"
    wait_for(store.exists)
    os.killpg(process.pid, signal.SIGTERM)
    _, err = process.communicate(timeout=240)
    assert "Traceback" not in err
    if process.returncode == 0:  # it was done before the signal came
        assert Recording(store).complete
    else:
        assert process.returncode == 143, err
        assert "of 24 rows kept; resume with: cnnprobe record --resume" in err
        assert json.loads((store.parent / "run.json").read_text())["status"] == "interrupted"
    wait_for(lambda: not of_group(process.pid))


@pytest.mark.slow
def test_ctrl_c_at_a_terminal_is_told_and_keeps_the_rows(tmp_path):
    """F62: the key itself, typed into a terminal of its own."""
    terminal, other = pty.openpty()
    images = ["dataset=shapes", "dataset.count=4000", "device.workers=0"]
    opening = 'exec < "$0" > "$0" 2>&1; exec "$@"'  # the first terminal that a session opens is its own
    process = subprocess.Popen(
        ["bash", "-c", opening, os.ttyname(other), sys.executable, "-m", "cnnprobe", *LONG, *images],
        cwd=tmp_path, start_new_session=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    store = tmp_path / "outputs/record/convnet-shapes/v001/store.h5"
    wait_for(store.exists)
    os.close(other)
    os.write(terminal, b"\x03")
    shown = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        if not part:
            break
        shown += part
    os.close(terminal)
    assert process.wait() == 130, shown.decode()
    assert b"Traceback" not in shown
    assert b"of 4000 rows kept; resume with: cnnprobe record --resume" in shown
    assert json.loads((store.parent / "run.json").read_text())["status"] == "interrupted"
