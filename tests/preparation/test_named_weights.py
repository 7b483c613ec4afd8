"""What `weights=` names: one moment of learning, all of them, a list; and a whole run that follows them."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cnnprobe.cli.main import main
from cnnprobe.config import catalogue, compose
from cnnprobe.config.words import parse
from cnnprobe.errors import UserError
from cnnprobe.machine import terminal
from cnnprobe.preparation import build as preparation
from cnnprobe.preparation import named_weights
from cnnprobe.preparation import weights as weight_files
from cnnprobe.store.reader import Recording

ROOT = Path(__file__).parents[2]
IN_ORDER = ["epoch=000", "update=000001", "update=000002", "update=000004", "epoch=001", "epoch=002"]
"""Of two epochs of five updates: `update=000000` is `epoch=000` once more."""
TRAIN = ["model=convnet", "dataset=shapes", "dataset.count=40", "epochs=2", "batch_size=8", "checkpoints=all"]


@pytest.fixture(scope="module")
def out(tmp_path_factory, sketched):
    """Two trainings of one network, and one of another way of writing it."""
    folder = tmp_path_factory.mktemp("learned")
    for more in ([], ["seed=1"], ["model.written=sequential", "name=other"]):
        assert main(["train", *TRAIN, "precision=float32", f"out={folder}", *more]) == 0
    return folder


@pytest.fixture
def following(monkeypatch):
    """Let every command take moments."""
    monkeypatch.setattr(catalogue, "fact", lambda command, name, default: name == "MOMENTS")


RUN = "train/convnet-shapes/v001"


def configured(out, weights, *more):
    words = ["record", "model=convnet", "dataset=shapes", f"weights={weights}", f"out={out}", *more]
    return compose.compose(parse(words))


def found(out, weights):
    return named_weights.weights_of(configured(out, weights), "record")


def stems(weights):
    return [moment.path.stem for moment in weights.moments]


@pytest.mark.usefixtures("following")
def test_a_star_names_every_moment_in_order_of_learning_once(out):
    weights = found(out, f"{RUN}@*")
    assert stems(weights) == named_weights.moment_names(weights) == IN_ORDER
    assert weights.path.stem == "epoch=002"
    assert weights.label == f"{RUN}@epoch=000 to epoch=002, 6 moments"
    assert [moment.epoch for moment in weights.moments] == [0, 0.2, 0.4, 0.8, 1, 2]


@pytest.mark.usefixtures("following")
def test_a_list_is_put_in_order_of_learning_and_the_same_moment_counts_once(out):
    weights = found(out, f"[{RUN}@epoch=2,{RUN}@update=1,{RUN}@update=0,{RUN}@epoch=0,{RUN}@last]")
    assert stems(weights) == ["epoch=000", "update=000001", "epoch=002"]
    assert weights.label == f"{RUN}@epoch=000 to epoch=002, 3 moments"
    assert found(out, f"[{RUN}@last]").label == f"{RUN}@last"


@pytest.mark.usefixtures("following")
def test_the_same_moments_are_found_again_from_their_files(out):
    weights = found(out, f"{RUN}@*")
    again = named_weights.weights_of(configured(out, "auto") | {"weights": weights.again}, "record")
    assert again == weights
    assert found(out, RUN).again == str(found(out, RUN).path)


@pytest.mark.usefixtures("following")
def test_best_and_last_are_moments_only_where_there_are_no_others(out, tmp_path):
    few = tmp_path / "train/convnet-shapes/v001"
    shutil.copytree(out / RUN, few)
    for path in (few / "weights").glob("*=*.safetensors"):
        path.unlink()
    weights = found(tmp_path, f"{RUN}@*")
    assert set(stems(weights)) <= {"best", "last"}
    assert weights.path.stem in ("last", "best")
    assert weights.about["update"] == 10
    assert math.isnan(weights.moments[-1].epoch)  # nothing tells how long an epoch was


@pytest.mark.usefixtures("following")
def test_files_of_someone_else_are_moments_in_the_order_given(out, tmp_path):
    for name in ("late", "early"):
        torch.save(load_file(out / RUN / "weights/epoch=001.safetensors"), tmp_path / f"{name}.pt")
    (tmp_path / "more").mkdir()
    shutil.copy(tmp_path / "late.pt", tmp_path / "more/late.pt")
    weights = found(out, f"[{tmp_path}/late.pt,{tmp_path}/early.pt]")
    assert named_weights.moment_names(weights) == ["late.pt", "early.pt"]
    assert weights.label == "late.pt to early.pt, 2 moments"
    assert all(math.isnan(moment.epoch) for moment in weights.moments)
    weights = found(out, f"[{tmp_path}/late.pt,{tmp_path}/more/late.pt]")
    assert named_weights.moment_names(weights) == [f"{tmp_path}/late.pt", f"{tmp_path}/more/late.pt"]


@pytest.mark.usefixtures("following")
def test_moments_of_two_trainings_stay_as_given_and_are_called_by_their_run(out):
    other = "train/convnet-shapes/v002"
    weights = found(out, f"[{other}@epoch=2,{RUN}@epoch=2]")
    assert named_weights.moment_names(weights) == [f"{other}@epoch=002", f"{RUN}@epoch=002"]
    assert weights.label == f"{other}@epoch=002 to {RUN}@epoch=002, 2 moments"
    assert [moment.epoch for moment in weights.moments] == [2, 2]


@pytest.mark.usefixtures("following")
def test_moments_of_different_networks_are_refused(out):
    told = r"must be of one network: .*v001@best has written=class, .*other/v001@best has written=sequential"
    with pytest.raises(UserError, match=told):
        found(out, f"[{RUN},train/other/v001]")


@pytest.mark.usefixtures("following")
@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ("[random,RUN]", "a list of weights names runs and files, got 'random'"),
        ("[RUN@epoch=7]", "no weights 'epoch=7' in train/convnet-shapes/v001; there are: epoch=000"),
        ("[nowhere.pt]", "there is no file nowhere.pt"),
        ("nowhere@*", "nowhere"),
    ],
)
def test_what_is_no_moment_is_told(out, weights, told):
    with pytest.raises(UserError, match=told):
        found(out, weights.replace("RUN", RUN))


def test_a_command_that_takes_one_network_says_how_to_do_a_sweep(out):
    with pytest.raises(UserError) as told:
        found(out, f"[{RUN}@epoch=1,{RUN}@epoch=2]")
    each = f"{RUN}@epoch=1,{RUN}@epoch=2"
    shown = each.replace(",", ", ")
    assert str(told.value) == f"record takes one network, got weights={shown}; a run for each: -m weights={each}"
    with pytest.raises(UserError, match=r"record takes one network, .* a run for each: -m weights=.*/v001@\*$"):
        found(out, f"{RUN}@*")


@pytest.mark.usefixtures("following")
def test_the_network_carries_the_last_moment_and_each_is_read_when_it_is_asked_for(out, monkeypatch):
    config = configured(out, f"{RUN}@*")
    made = preparation.prepare(config, "record")
    for moment, name in zip(made.moments, IN_ORDER, strict=True):
        kept = load_file(out / RUN / f"weights/{name}.safetensors")
        state = moment.load()
        assert moment.label == name
        assert state.keys() == made.model.state_dict().keys()
        assert all(torch.equal(state[key], kept[key]) for key in kept)
        assert made.sums[name] == weight_files.sha256(kept)
    assert made.sha256 == made.sums["epoch=002"] == weight_files.sha256(made.model.state_dict())
    assert len(set(made.sums.values())) == 6
    read, reader = [], weight_files.read
    monkeypatch.setattr(weight_files, "read", lambda path: read.append(path.stem) or reader(path))
    made.moments[1].load()
    assert read == ["update=000001"]


@pytest.mark.usefixtures("following")
def test_one_network_has_no_moments(out):
    made = preparation.prepare(configured(out, f"{RUN}@epoch=1"), "record")
    assert (made.moments, made.sums) == ([], {})


@pytest.mark.usefixtures("following")
def test_a_damaged_moment_is_told_before_anything_is_computed(out, tmp_path):
    copied = tmp_path / "train/convnet-shapes/v001"
    shutil.copytree(out / RUN, copied)
    path = copied / "weights/update=000002.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(UserError, match=r"update=000002\.safetensors does not match its checksum"):
        preparation.prepare(configured(tmp_path, f"{RUN}@*"), "record")


METHOD = '''
"""Measure how long the weights are at each moment of learning."""

import os
import numpy as np
import torch

from cnnprobe.instruments.network.snapshots import at
from cnnprobe.config.options import Run
from cnnprobe.methods.contract import Provided
from cnnprobe.store.tables import Advance, Column, Measurement, Rows, Table


MOMENTS = True


def compute(provided: Provided, *, source: Run | None):
    """Measure."""
    model, moments = provided.model, provided.moments
    columns = {name: Column(name, dtype="float64") for name in ("epoch", "length")}
    columns["name"] = Column("name", dtype="object", values=np.array([moment.label for moment in moments], object))
    table = Table("growth", "moment", len(moments), columns)

    def events():
        for row, moment in list(enumerate(moments))[provided.resumed.start :]:
            if row == 2 and os.path.exists("STOP"):
                os.remove("STOP")
                raise KeyboardInterrupt
            with at(model, moment), torch.no_grad():
                length = sum(float(value.double().square().sum()) for value in model.parameters()) ** 0.5
            yield Rows("growth", row, {"epoch": np.array([moment.epoch]), "length": np.array([length])})
            yield Advance()

    return Measurement([table], events(), total=len(moments), counts="moments")


def draw(recording):
    """Draw nothing."""
    return iter(())
'''
CHILD = """
import json, sys
from cnnprobe.cli.main import main
print(json.dumps([main(words) for words in json.loads(sys.argv[1])]))
"""
YAML = """# @package _global_
# Measure how long the weights are at each moment of learning.
#   cnnprobe growth weights=RUN@*
method:
  name: growth
  source: null  # a run of topk
"""


@pytest.fixture
def growth(tmp_path, out):
    """Add a command to a copy of the package; run command lines in a process of their own."""
    ignore = shutil.ignore_patterns("__pycache__")
    for part in ("cnnprobe", "configs"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=ignore)
    (tmp_path / "cnnprobe/methods/growth.py").write_text(METHOD)
    (tmp_path / "configs/method/growth.yaml").write_text(YAML)
    shutil.copytree(out, tmp_path / "outputs")

    def run(*commands):
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-c", CHILD, json.dumps(commands)], cwd=tmp_path, capture_output=True, text=True,
            env=environment, check=True,
        )  # fmt: skip
        return json.loads(done.stdout.splitlines()[-1]), done.stderr

    return run


def stored(path):
    recording = Recording(path / "store.h5")
    table = recording["growth"]
    columns = {name: np.asarray(table[name]).tolist() for name in ("name", "epoch", "length")}
    return columns, {key: str(value) for key, value in recording.attributes.items()}


@pytest.mark.slow
def test_a_command_follows_a_training_is_stopped_goes_on_and_is_repeated(growth, tmp_path):
    asked = ["growth", "model=convnet", "dataset=shapes", "limit=4", f"weights={RUN}@*"]
    folder = tmp_path / "outputs/growth/convnet-shapes"
    (tmp_path / "STOP").touch()
    statuses, err = growth(asked, ["growth", "--resume", str(folder / "v001")])
    assert statuses == [130, 0], err
    columns, attributes = stored(folder / "v001")
    assert columns["name"] == IN_ORDER
    assert columns["epoch"] == [0, 0.2, 0.4, 0.8, 1, 2]
    files = [load_file(tmp_path / "outputs" / RUN / f"weights/{name}.safetensors") for name in IN_ORDER]
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    lengths = [
        math.sqrt(sum(float(v.double().square().sum()) for key, v in one.items() if not key.endswith(buffers)))
        for one in files
    ]
    assert columns["length"] == pytest.approx(lengths, rel=1e-12)
    assert attributes["weights"] == f"{RUN}@epoch=000 to epoch=002, 6 moments"
    assert attributes["weights_sha256"] == weight_files.sha256(files[-1])
    about = json.loads((folder / "v001/run.json").read_text())
    assert about["weights"]["moments"] == {name: weight_files.sha256(one) for name, one in zip(IN_ORDER, files)}
    assert about["weights"]["sha256"] == weight_files.sha256(files[-1])
    assert about["built_from"] == [f"{RUN}@{name}" for name in IN_ORDER]
    (tmp_path / "outputs" / RUN / "weights/epoch=003.safetensors").write_bytes(b"of a training that went on")
    statuses, err = growth(["growth", "--rerun", "v001", "model=convnet", "dataset=shapes"])
    assert statuses == [0], err
    assert stored(folder / "v002") == (columns, attributes)


@pytest.mark.slow
def test_a_source_is_compared_with_the_last_moment(growth, tmp_path):
    topk = ["topk", "model=convnet", "dataset=shapes", "limit=8", "layer=conv1", "criterion=max", "k=2", "units=0"]
    asked = ["growth", "model=convnet", "dataset=shapes", "limit=8", "source=topk/convnet-shapes/v001"]
    assert main([*topk, f"weights={RUN}@epoch=2", f"out={tmp_path}/outputs"]) == 0
    each = (f"{RUN}@*", f"[{RUN}@epoch=0,{RUN}@epoch=1]", f"{RUN}@last")
    statuses, err = growth(*([*asked, f"weights={weights}"] for weights in each))
    assert statuses == [0, 2, 0], err
    assert err.count("was made with other weights") == 1


def asked(out, *words):
    return named_weights.weights_of(compose.compose(parse(["topk", "layer=conv3", f"out={out}", *words])), "topk")


def test_a_fresh_machine_has_a_trained_mousenet(tmp_path):
    for words in ([], ["weights=published"], ["weights=published@best"], ["model.input_size=32"]):
        weights = asked(tmp_path, *words)
        assert (weights.label, weights.again, weights.about["classes"][0]) == ("published", "published", "airplane")
    assert asked(tmp_path, "model=convnet").kind == "random"


def test_moments_of_the_published_training_are_named_without_their_place(tmp_path):
    weights = asked(tmp_path, "weights=published@epoch=1")
    assert (weights.label, weights.again, weights.epoch) == ("published@epoch=001",) * 2 + (1.0,)
    with pytest.raises(UserError, match="no weights 'epoch=2' in the published ones; there are: update=000000, "):
        asked(tmp_path, "weights=published@epoch=2")


@pytest.mark.usefixtures("following")
def test_a_star_names_all_moments_of_the_published_training(tmp_path):
    weights = asked(tmp_path, "weights=published@*")
    assert weights.again[0] == "published@update=000000"
    assert stems(weights)[0] == "update=000000" and stems(weights)[-1].startswith("epoch=")
    assert np.all(np.diff([moment.epoch for moment in weights.moments]) > 0)


def test_of_a_training_that_has_lost_its_weights_the_one_before_is_taken(out, tmp_path, caplog):
    """F101: and that is said; where no other is left, nothing is taken in its place."""
    shutil.copytree(out / "train/convnet-shapes", tmp_path / "train/convnet-shapes", symlinks=True)
    assert found(tmp_path, "auto").label == "train/convnet-shapes/v002@best"
    copy = tmp_path / "train/later/v001"
    shutil.copytree(out / "train/convnet-shapes/v002", copy)
    about = json.loads((copy / "run.json").read_text()) | {"ended": "2999-01-01T00:00:00+00:00"}
    (copy / "run.json").write_text(json.dumps(about))
    shutil.rmtree(copy / "weights")
    assert found(tmp_path, "auto").label == "train/convnet-shapes/v002@best"
    told = "train/later/v001 has lost its best weights; train/convnet-shapes/v002 is taken instead"
    assert told in caplog.text
    shutil.rmtree(tmp_path / "train/convnet-shapes")
    with pytest.raises(UserError, match="train/later/v001 holds no weights"):
        found(tmp_path, "auto")


def trainings(out, place, *numbers):
    """Put copies of a training into the folder of one name, complete one after the other."""
    for number in numbers:
        copy = place / f"v00{number}"
        shutil.copytree(out / RUN, copy)
        about = json.loads((copy / "run.json").read_text()) | {"ended": f"2026-01-0{number}T00:00:00+00:00"}
        (copy / "run.json").write_text(json.dumps(about))


def taken(out, weights="auto"):
    """Return what is taken, and what is said."""
    with terminal.collected() as remarks:
        return found(out, weights).label, remarks.warnings


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("config.yaml", "model: [", "has no config.yaml that can be read"),
        ("config.yaml", None, "has no config.yaml that can be read"),
        ("config.yaml", "model: {name: alexnet}", None),
        ("run.json", '{"status": "comp', "has no run.json that can be read"),
        ("store.h5", None, "has lost its store.h5"),
    ],
    ids=["config cut", "config gone", "another model", "run cut", "store gone"],
)
def test_a_training_that_is_damaged_is_passed_over_with_a_word(out, tmp_path, file, text, why):
    """F101: `auto` and `latest` take the same one, but that `auto` looks for the model."""
    trainings(out, tmp_path / "train/convnet-shapes", 1, 2)
    path = tmp_path / "train/convnet-shapes/v002" / file
    path.unlink() if text is None else path.write_text(text)
    one, two = (f"train/convnet-shapes/v00{number}" for number in (1, 2))
    told = [f"{two} {why}; {one} is taken instead"] if why else []
    assert taken(tmp_path) == (f"{one}@best", told)
    assert taken(tmp_path, "latest") == ((f"{two}@best", []) if file == "config.yaml" else (f"{one}@best", told))


def test_a_damaged_training_of_another_model_is_not_spoken_of(out, tmp_path):
    """F101: it would not be taken anyway."""
    trainings(out, tmp_path / "train/convnet-shapes", 1)
    trainings(out, tmp_path / "train/alexnet-shapes", 2)
    other = tmp_path / "train/alexnet-shapes/v002"
    (other / "config.yaml").write_text("model: {name: alexnet}")
    (other / "store.h5").unlink()
    assert taken(tmp_path) == ("train/convnet-shapes/v001@best", [])


def test_a_link_to_a_training_is_none(out, tmp_path):
    """F101: it has the largest number, and leads to the older one."""
    trainings(out, tmp_path / "train/convnet-shapes", 1, 2)
    (tmp_path / "train/convnet-shapes/v009").symlink_to("v001")
    assert taken(tmp_path) == taken(tmp_path, "latest") == ("train/convnet-shapes/v002@best", [])


def test_a_name_of_several_trainings_is_not_that_of_another_command(out, tmp_path):
    """F101: `weights=latest` was the transfer; so it is with `brain=`, which looks here too."""
    trainings(out, tmp_path / "transfer/c", 1)
    assert taken(tmp_path, "latest") == taken(tmp_path, "v001") == ("transfer/c/v001@best", [])
    for name in "ab":
        trainings(out, tmp_path / f"train/{name}", 1)
    for word in ("latest", "v001"):
        with pytest.raises(UserError, match=f"several runs are called {word}: train/a/v001, train/b/v001$"):
            found(tmp_path, word)


@pytest.mark.usefixtures("following")
def test_weights_that_were_put_in_the_place_of_those_of_a_run_are_refused(out, tmp_path):
    """F28: whole, and with a checksum of their own, but not those that run.json lists."""
    trainings(out, tmp_path / "train/convnet-shapes", 1)
    place = tmp_path / "train/convnet-shapes/v001/weights"
    told = r"{}\.safetensors of .*/v001 was changed or replaced after the run \(its sha256 is not that in run\.json\)"
    shutil.copy(out / "train/convnet-shapes/v002/weights/best.safetensors", place / "best.safetensors")
    for weights in (RUN, str(place / "best.safetensors"), "auto"):
        with pytest.raises(UserError, match=told.format("best")):
            preparation.prepare(configured(tmp_path, weights), "record")
    assert preparation.prepare(configured(tmp_path, f"{RUN}@last"), "record").weights.label == f"{RUN}@last"
    shutil.copy(place / "epoch=002.safetensors", place / "epoch=001.safetensors")
    with pytest.raises(UserError, match=told.format("epoch=001")):
        preparation.prepare(configured(tmp_path, f"{RUN}@*"), "record")
    shutil.copy(place / "best.safetensors", tmp_path / "mine.safetensors")
    made = preparation.prepare(configured(tmp_path, str(tmp_path / "mine.safetensors")), "record")
    assert made.weights.label == "mine.safetensors"


def test_of_other_options_there_are_no_published_weights_and_auto_takes_random_ones(tmp_path):
    assert asked(tmp_path, "model.input_size=64").kind == "random"
    assert asked(tmp_path, "model.mask=none").kind == "random"
    with pytest.raises(UserError, match="published weights of mousenet are of mask=per_channel, asked for mask=none"):
        asked(tmp_path, "model.mask=none", "weights=published")


@pytest.mark.slow
@pytest.mark.usefixtures("sketched")
def test_a_training_of_ones_own_comes_before_the_published_one(tmp_path):
    words = ["model=mousenet", "model.input_size=16", "dataset=shapes", "dataset.count=16", "epochs=1", "batch_size=8"]
    assert main(["train", *words, f"out={tmp_path}"]) == 0
    assert asked(tmp_path, "model.input_size=16").label == "train/mousenet-shapes/v001@best"


@pytest.mark.parametrize("command", ["gbp", "optimize"])
def test_what_units_prefer_while_a_network_learns_is_stored_and_drawn(command, out, cnnprobe):
    """F100: the moments stand in the store as they were read, which opens."""
    own = {"gbp": ["top_images=2"], "optimize": ["steps=2"]}[command]
    asked = [f"weights={RUN}@*", "dataset=shapes", "limit=8", "layer=conv2", "units=[0,1]", f"out={out}", *own]
    answer = cnnprobe(command, "model=convnet", *asked)
    assert answer.status == 0, answer.err
    folder = Path(answer.out.splitlines()[-1])
    recording = Recording(folder / "store.h5")
    assert list(recording["units/conv2"].attributes["moments"]) == IN_ORDER
    assert any("learning" in path.name or "growth" in path.name for path in (folder / "figures").iterdir())
