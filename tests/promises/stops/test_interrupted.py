"""An undisturbed run and one that was interrupted again and again leave the same bytes."""

import random
import re

import pytest

from cnnprobe.config import catalogue
from cnnprobe.store import run_json
from cnnprobe.store.reader import Recording
from tests.runs.test_execute import name_of, words
from tests.support.faults.interrupting import AT_THE_END, COMPLETE, DRAWN, Interruptions, same

QUICKLY = ("train", "record", "rf-map")
"""Commands that are also interrupted in `make test`."""

LATE = (AT_THE_END, COMPLETE, DRAWN)
SAVED_TOGETHER = [f"cnnprobe.methods.{name}.SAVED_UNITS" for name in
                  ("topk", "rf_map.mapping", "tuning.method", "perturb.mapping")]  # fmt: skip
MANY = {"train": ["epochs=4"], "transfer": ["epochs=4"], "layers": [], "tuning": ["batch_size=8"]}
"""Words that give a command many batches of rows to be interrupted between."""
FEW = {
    "rf-map": ["layer=conv3", "draws=1"],
    "gbp": ["layer=conv3", "sanity=false"],
    "optimize": ["layer=conv3", "preset=standard", "starts=1"],
    "perturb": ["layer=conv3", "kind=amplitude"],
    "rsa": ["layer=conv2"],
    "tuning": ["layer=conv2"],
}
"""Words that make a run short."""


def interrupted(cnnprobe, command, asked, patch, tmp_path, times, name=None):
    """Run a command undisturbed, then interrupted so many times; return both folders and where it was interrupted."""
    name = name or name_of(command)
    calm_folder, folder = (tmp_path / out / command / name / "v001" for out in ("calm", "outputs"))
    chance = random.Random(command)
    with patch.context() as planted, Interruptions().planted(planted) as calm:
        assert cnnprobe(*asked, "out=calm").status == 0
    late = LATE if times > len(LATE) else LATE[-1:]
    with patch.context() as planted, Interruptions().planted(planted) as places:
        for number in range(times):
            if number < times - len(late):
                after = number * calm.saved // (times - len(late))
                places.aim(after, chance.randrange(max(1, calm.passed[after])))
            else:
                places.aim(only=late[number - times])
            begun = (folder / "config.yaml").exists()
            answer = cnnprobe(*([command, "--resume", folder] if begun else asked))
            assert answer.status in (130, 143), answer.err
            assert "Traceback" not in answer.err
            if times > 3 or number == 1:
                drawn_so_far(cnnprobe, command, folder)
        assert cnnprobe(command, "--resume", folder).status == 0
    assert places.saved == calm.saved, "what was saved was computed again, or never"
    return calm_folder, folder, places.met


def drawn_so_far(cnnprobe, command, folder):
    """Ask for the figures of a run that is not complete: drawn, or told; both say of how many rows."""
    if not (folder / "store.h5").exists() or Recording(folder / "store.h5").complete:
        return
    answer = cnnprobe(command, "--redraw", folder)
    assert "Traceback" not in answer.err, answer.err
    kept = run_json.read(folder).get("kept", "").partition(" kept")[0]
    rows = re.escape(kept) or r"\d+ of \d+ rows"  # not known if it was interrupted before it saved any more
    what = f"{re.escape(str(folder))} is not complete, {rows}"
    if answer.status == 0:
        assert re.search(f"figures/so-far; {what}; resume with", answer.out), (what, answer.out)
    else:
        assert answer.status == 2
        assert re.search(f"{what}: nothing to draw yet; resume with", answer.err), (what, answer.err)


@pytest.mark.parametrize(
    ("command", "times"),
    [
        *(pytest.param(name, 3, marks=() if name in QUICKLY else pytest.mark.slow) for name in catalogue.commands()),
        *(pytest.param(name, 20, marks=pytest.mark.slow) for name in catalogue.commands()),
    ],
)
def test_an_interrupted_run_ends_as_if_never_interrupted(cnnprobe, pictures, tmp_path, monkeypatch, command, times):
    """F60, F61, F62: byte for byte, the store, the figures, the weights, and what `run.json` says of them."""
    more = FEW.get(command, [])
    if times > 3:
        more = MANY.get(command, ["batch_size=2"])
        for name in SAVED_TOGETHER:
            monkeypatch.setattr(name, 2)
    asked = words(command, pictures, *more)
    calm, folder, places = interrupted(cnnprobe, command, asked, monkeypatch, tmp_path, times)
    assert len(places) == times
    same(folder, calm)
