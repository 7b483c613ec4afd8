"""What a run has left is taken for its own only where it is: other trainings' weights, states and unfinished work."""

import shutil

import numpy as np
import pytest

from cnnprobe.preparation import weights
from cnnprobe.store import origin
from cnnprobe.store.reader import Recording
from cnnprobe.store.unfinished import Unfinished, put
from tests.support.faults.interrupting import Interruptions

ASKED = ["train", "model=convnet", "dataset=shapes", "dataset.count=16", "batch_size=4", "epochs=4", "device.workers=0"]


def test_it_is_of_what_is_asked_and_not_of_names_and_places():
    attributes = {"seed": 0, "weights": "a/v001", "config": "name: a", "identity": "{}"}
    config = {"name": "a", "out": "o", "device": {"name": "cpu"}, "seed": 0, "method": {"lr": 0.1}}
    one = origin.origin_of(attributes, config)
    elsewhere = {"name": "b", "out": "p", "device": {"name": "cuda"}, "weights": "x"}
    assert origin.origin_of(attributes | {"weights": "b/v002", "config": "name: b"}, config | elsewhere) == one
    assert origin.origin_of(attributes, config | {"method": {"lr": 0.2}}) != one
    assert origin.origin_of(attributes | {"identity": '{"code": "x"}'}, config) != one


@pytest.fixture
def trainings(cnnprobe, tmp_path, monkeypatch):
    """Two trainings from different seeds, both stopped in their third epoch."""
    for name, seed in (("one", 0), ("two", 1)):
        with monkeypatch.context() as patch, Interruptions().planted(patch) as places:
            places.aim(after=2)
            assert cnnprobe(*ASKED, f"seed={seed}", f"name={name}").status in (130, 143)
    return tuple(tmp_path / "outputs/train" / name / "v001" for name in ("one", "two"))


@pytest.mark.parametrize("file", ["best", "resume"])
def test_what_another_training_has_left_is_refused(cnnprobe, trainings, file):
    """F100: it went on from it, or showed its weights under the name of this one."""
    one, two = trainings
    own = (one / f"weights/{file}.safetensors").read_bytes()
    assert weights.about(one / f"weights/{file}.safetensors")["origin"] == origin.recorded(one / "store.h5")
    shutil.copy(two / f"weights/{file}.safetensors", one / "weights")
    told = f"{file}.safetensors of {one} was written by another training than its store"
    if file == "resume":
        answer = cnnprobe("train", "--resume", one)
    else:
        answer = cnnprobe("record", "model=convnet", "dataset=shapes", "limit=4", f"weights={one}")
    assert answer.status == 2 and "Traceback" not in answer.err
    assert told.replace(str(one), "") in answer.err.replace(str(one), "").replace("outputs/train/one/v001", "")
    answer = cnnprobe("check", one)
    assert answer.status == 2 and "was written by another training" in answer.out + answer.err
    (one / f"weights/{file}.safetensors").write_bytes(own)
    assert cnnprobe("train", "--resume", one).status == 0


def test_a_run_of_the_same_name_elsewhere_and_one_done_again_have_the_same_weights(cnnprobe, trainings, tmp_path):
    one, _ = trainings
    assert cnnprobe("train", "--resume", one).status == 0
    assert cnnprobe(*ASKED, "seed=0", "name=other", "out=elsewhere").status == 0
    other = tmp_path / "elsewhere/train/other/v001"
    assert origin.recorded(other / "store.h5") == origin.recorded(one / "store.h5")
    for path in sorted((one / "weights").glob("[!r]*")):
        assert path.read_bytes() == (other / "weights" / path.name).read_bytes(), path.name


def test_a_store_without_it_is_gone_on_with_as_before(cnnprobe, trainings):
    """A run that was begun by a version that did not write it."""
    one, two = trainings
    assert origin.recorded(one / "nothing.h5") is None
    (one / "nothing.h5").write_bytes(b"no store")
    assert origin.recorded(one / "nothing.h5") is None
    assert Recording(two / "store.h5").attributes["origin"] == origin.recorded(two / "store.h5")


def test_unfinished_work_of_another_run_is_done_again(tmp_path, caplog):
    """F100."""
    values = {"x": np.arange(3.0)}
    left = Unfinished(tmp_path, "one")
    left.begin("part", lambda: values, lambda state: put(values, state))
    left.keep()
    for of, kept in (("one", True), (None, True), ("two", False)):
        found = {"x": np.zeros(3)}
        Unfinished(tmp_path, of).begin("part", dict, lambda state, found=found: put(found, state))
        assert bool(found["x"].any()) == kept
    assert "is of another run; what the stopped run had of part is done again" in caplog.text
