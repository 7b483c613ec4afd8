"""The old task of a transfer, from the command line: which run it is, what is refused, what starts from what."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import cnnprobe as package
from cnnprobe.cli.main import main
from cnnprobe.config import catalogue, compose
from cnnprobe.config.words import parse
from cnnprobe.errors import UserError
from cnnprobe.methods.transfer import inputs as old_task
from cnnprobe.preparation import build as preparation
from cnnprobe.preparation import identity, named_weights

SMALL = ["model=convnet", "dataset=avatar", "dataset.count=24", "batch_size=8", "precision=float32", "augment=none"]
LEARNED = "train/convnet-avatar/v001"


@pytest.fixture(scope="module")
def out(tmp_path_factory, sketched):
    """Two trainings on landmarks and rooms, and a recording of shapes."""
    folder = tmp_path_factory.mktemp("old")
    for more in (["dataset.classes=landmark"], ["dataset.classes=room", "name=room", "seed=1"]):
        assert main(["train", *SMALL, "epochs=1", f"out={folder}", *more]) == 0
    record = ["record", "model=convnet", "dataset=shapes", "dataset.count=16", "layer=conv1", "weights=random"]
    assert main([*record, f"out={folder}"]) == 0
    return folder


def prepared(out, *words, command="transfer"):
    asked = compose.compose(parse([command, *SMALL, f"out={out}", *words]))
    return asked, preparation.prepare(asked, command, words)


def found(out, *words):
    config, made = prepared(out, *words)
    made.beside = old_task.image_sets(config, made)
    return old_task.inputs(config, made, "cpu")["old_task"]


def test_it_is_the_held_out_set_of_the_run_the_weights_come_from(out):
    old = found(out, f"weights={LEARNED}")
    assert old.run == LEARNED
    assert len(old.dataset.classes) == 8
    about = json.loads((out / LEARNED / "run.json").read_text())
    assert old.dataset.fingerprint == about["held_out"]["fingerprint"] != about["dataset"]["fingerprint"]


def test_weights_by_themselves_are_those_of_the_newest_training_never_of_a_transfer(out, tmp_path):
    shutil.copytree(out, tmp_path / "out")
    transfer = tmp_path / "out/transfer/convnet-avatar/v001"
    shutil.copytree(out / LEARNED, transfer)
    about = json.loads((transfer / "run.json").read_text()) | {"ended": "2999-01-01T00:00:00+00:00"}
    (transfer / "run.json").write_text(json.dumps(about))
    _, made = prepared(tmp_path / "out")
    assert made.weights.label == "train/room/v001@best"
    _, made = prepared(tmp_path / "out", command="train")
    assert made.weights.kind == "random"
    config = compose.compose(parse(["record", "model=convnet", "layer=conv1", f"out={tmp_path / 'out'}"]))
    assert named_weights.weights_of(config, "record").label == "transfer/convnet-avatar/v001@best"


def test_a_network_keeps_its_old_readout_until_it_is_taught(out):
    _, made = prepared(out, f"weights={LEARNED}")
    assert made.model.fc2.out_features == 8
    assert made.classes == ("geometry", "landmark")
    kept = load_file(out / LEARNED / "weights/best.safetensors")
    assert all(torch.equal(made.model.state_dict()[name], value) for name, value in kept.items())


def test_from_scratch_the_network_is_built_like_the_one_of_the_weights_and_random(out, tmp_path):
    words = ["mode=scratch", "dataset.classes=room"]
    _, made = prepared(out, *words, f"weights={LEARNED}")
    assert (made.weights.kind, made.model.fc2.out_features) == ("random", 5)
    _, fresh = prepared(out, "dataset.classes=room", "weights=random", command="train")
    assert made.sha256 == fresh.sha256
    _, alone = prepared(tmp_path, *words)
    assert alone.sha256 == fresh.sha256
    assert found(out, *words, f"weights={LEARNED}", f"old_task={LEARNED}") is None


def test_nothing_learned_nothing_to_transfer(tmp_path, out):
    ways = "or learn by mode=scratch"
    with pytest.raises(UserError, match=rf"no training of convnet with these options in {tmp_path}.* {ways}"):
        prepared(tmp_path)
    with pytest.raises(UserError, match=f"weights=random: transfer starts from what was learned.* {ways}"):
        prepared(out, "weights=random")


def test_none_and_weights_of_a_file_have_no_old_task(out, tmp_path):
    assert found(out, f"weights={LEARNED}", "old_task=none") is None
    assert found(out, f"weights={LEARNED}", "old_task=null") is None
    shutil.copy(out / LEARNED / "weights/best.safetensors", tmp_path / "w.safetensors")
    assert found(out, f"weights={tmp_path}/w.safetensors") is None
    assert found(out, f"weights={tmp_path}/w.safetensors", f"old_task={LEARNED}").run == LEARNED


def test_a_recording_names_images_too_where_its_classes_are_those_of_the_network(out, tmp_path):
    record = "record/convnet-shapes/v001"
    with pytest.raises(UserError, match=rf"old_task={record}: its classes are .* those of the weights .*old_task=none"):
        found(out, f"weights={LEARNED}", f"old_task={record}")
    kept = load_file(out / LEARNED / "weights/best.safetensors")
    torch.save(kept, tmp_path / "nameless.pt")  # 8 classes, as many as there are shapes
    old = found(out, f"weights={tmp_path}/nameless.pt", f"old_task={record}")
    assert (old.dataset.name, len(old.dataset)) == ("shapes", 16)


def test_the_run_of_an_old_task_is_part_of_the_identity_whatever_made_it(out):
    """F100: a run of record, which has no weights, counted for nothing: `latest` may be another one by now."""
    folder = out / "record/convnet-shapes/v001"
    for word in ("record/convnet-shapes/v001", "record/convnet-shapes/latest"):
        config, made = prepared(out, f"weights={LEARNED}", f"old_task={word}")
        read = old_task.reads(config)
        assert {key: path.resolve() for key, path in read.items()} == {"old_task": folder.resolve()}
        assert identity.identity_of(config, made, read)["run old_task"] == identity.run_digest(folder)
    for word in ("auto", "none", "null"):
        assert old_task.reads(prepared(out, f"weights={LEARNED}", f"old_task={word}")[0]) == {}


def test_images_that_cannot_be_had_are_told_with_the_way_out(out, tmp_path):
    shutil.copytree(out / LEARNED, tmp_path / LEARNED)
    about = json.loads((tmp_path / LEARNED / "run.json").read_text())
    about["held_out"]["images"] = 23
    (tmp_path / LEARNED / "run.json").write_text(json.dumps(about))
    told = rf"old_task={LEARNED}: dataset changed since v001 \(24 images, was 23\); old_task=none goes without"
    with pytest.raises(UserError, match=told):
        found(tmp_path, f"weights={LEARNED}")
    (tmp_path / LEARNED / "config.yaml").unlink()
    with pytest.raises(UserError, match=rf"old_task={LEARNED}: there is no file .*config.yaml; old_task=none"):
        found(tmp_path, f"weights={tmp_path / LEARNED}", f"old_task={LEARNED}")
    with pytest.raises(UserError, match="no run 'nowhere'"):
        found(out, f"weights={LEARNED}", "old_task=nowhere")


def test_a_transfer_from_the_command_line_and_a_probe_of_what_it_learned(cnnprobe, out):
    words = ["transfer", *SMALL, f"out={out}", f"weights={LEARNED}", "epochs=1", "forgetting=none", "fraction=0.5"]
    words += ["old_task=train/room/v001"]
    refused = cnnprobe(*words)
    assert refused.status == 2
    assert "old_task=train/room/v001: its classes are" in refused.err
    words[-1] = f"old_task={LEARNED}"
    answer = cnnprobe(*words)
    assert answer.status == 0, answer.err
    assert "old task" in answer.out
    folder = out / "transfer/convnet-avatar/v001"
    assert (folder / "weights/old_readout.safetensors").is_file()
    about = json.loads((folder / "run.json").read_text())
    assert about["built_from"] == [f"{LEARNED}@best", LEARNED]
    assert set(about["headline"]) == {
        "val_accuracy",
        "95 % low",
        "95 % high",
        "at epoch",
        "old task",
        "old task before",
    }
    store = package.open(folder)
    assert store["epochs"].attributes["images"] == 12
    assert store["old_task"].attributes["run"] == LEARNED
    assert np.isfinite(store["epochs"]["source_accuracy"]).all()
    assert cnnprobe("record", "model=convnet", "dataset.count=8", "layer=conv1", f"out={out}").status == 0
    recording = package.open(out / "record/convnet-avatar/v001")
    assert recording.attributes["weights"] == "transfer/convnet-avatar/v001@best"
    assert json.loads(recording["images"].attributes["classes"]) == ["geometry", "landmark"]


def test_one_class_is_told(cnnprobe, out, pictures, tmp_path):
    """F42."""
    shutil.copytree(pictures / "disc", tmp_path / "one/disc")
    answer = cnnprobe(
        "transfer", "model=convnet", "dataset=folder", f"dataset.root={tmp_path}/one", f"out={out}",
        f"weights={LEARNED}", "old_task=none",
    )  # fmt: skip
    assert answer.status == 2
    assert "training needs 2 or more classes, folder has 1" in answer.err


def test_an_old_task_whose_labels_are_others_now_is_refused(cnnprobe, pictures, tmp_path):
    """F100: the network has learned other ones."""
    for part in ("train", "val"):
        shutil.copytree(pictures, tmp_path / "own" / part)
    names = [f"{kind}/{number:02d}.png" for kind in ("disc", "stripes") for number in range(12)]
    table = "".join(f"{part}/{name},{name[0]}\n" for part in ("train", "val") for name in names)
    (tmp_path / "labels.csv").write_text("file,class\n" + table)
    images = ["dataset=folder", f"dataset.root={tmp_path}/own", f"dataset.labels={tmp_path}/labels.csv"]
    small = ["model=convnet", "epochs=1", "precision=float32", f"out={tmp_path}/outputs"]
    assert (answer := cnnprobe("train", *small, *images, "augment=none")).status == 0, answer.err
    taught = ["transfer", *small, "dataset=shapes", "dataset.count=16", "forgetting=none",
              "weights=train/convnet-folder/v001"]  # fmt: skip
    assert (answer := cnnprobe(*taught)).status == 0, answer.err
    (tmp_path / "labels.csv").write_text(
        "file,class\n" + table.replace(",d", ",x").replace(",s", ",d").replace(",x", ",s")
    )
    answer = cnnprobe(*taught)
    assert answer.status == 2
    assert "the labels of its images are others than when v001 was made; old_task=none goes without" in answer.err


def exchange(tmp_path, kind):
    """Put other images in the place of those that an old task is asked about, under the same names."""
    if kind == "folder":
        shutil.copy(tmp_path / "own/disc/00.png", tmp_path / "own/stripes/00.png")
    elif kind == "arrays":
        images = np.load(tmp_path / "own.npz")
        np.savez(tmp_path / "own.npz", **{**images, "images": images["images"][::-1]})


@pytest.mark.parametrize("kind", ["folder", "arrays", "shapes"])
def test_an_old_task_whose_images_were_exchanged_is_refused_at_any_size(out, pictures, tmp_path, kind):
    """F46: where the network is of another size than the one of the recording, nothing was compared."""
    shutil.copytree(pictures, tmp_path / "own")
    rng, labels = np.random.default_rng(0), np.arange(16) % 8
    np.savez(tmp_path / "own.npz", images=rng.integers(0, 255, (16, 3, 40, 40)).astype(np.uint8), labels=labels)
    sets = {"folder": [f"dataset.root={tmp_path}/own"], "arrays": [f"dataset.root={tmp_path}/own.npz"], "shapes": []}
    words = ["record", "model=convnet", "model.input_size=16", f"dataset={kind}", *sets[kind], "layer=conv1"]
    assert main([*words, "weights=random", f"out={tmp_path}/outputs"]) == 0
    state = load_file(out / LEARNED / "weights/best.safetensors")
    cut = {name: state[name][: 2 if kind == "folder" else 8].clone() for name in ("fc2.weight", "fc2.bias")}
    torch.save(state | cut, tmp_path / "nameless.pt")
    asked = [f"out={tmp_path}/outputs", f"weights={tmp_path}/nameless.pt", f"old_task=record/convnet-{kind}/v001"]
    old = found(tmp_path, *asked)
    assert old.dataset.size == (3, 32, 32)
    if kind == "shapes":  # which are drawn by their options
        return
    exchange(tmp_path, kind)
    with pytest.raises(UserError, match=r"old_task=record/.*: dataset changed since v001 \(.*\): not the same ones"):
        found(tmp_path, *asked)


def test_the_images_of_an_old_task_are_part_of_the_identity(cnnprobe, out, pictures, tmp_path):
    """F100: a recording that says nothing of its images holds nobody to them; a rerun said nothing."""
    shutil.copytree(pictures, tmp_path / "own")
    shutil.copytree(out / LEARNED, tmp_path / "outputs" / LEARNED)
    images = ["dataset=folder", f"dataset.root={tmp_path}/own", f"out={tmp_path}/outputs"]
    assert cnnprobe("record", "model=convnet", "weights=random", "layer=conv1", *images).status == 0
    record = tmp_path / "outputs/record/convnet-folder/v001"
    about = json.loads((record / "run.json").read_text())
    (record / "run.json").write_text(json.dumps(about | {"dataset": None}))
    state = load_file(out / LEARNED / "weights/best.safetensors")
    cut = {name: state[name][:2].clone() for name in ("fc2.weight", "fc2.bias")}
    torch.save(state | cut, tmp_path / "nameless.pt")
    words = ["transfer", *SMALL, "epochs=1", "forgetting=none", f"out={tmp_path}/outputs", "dataset.classes=room"]
    words += [f"weights={tmp_path}/nameless.pt", "old_task=record/convnet-folder/v001"]
    assert (answer := cnnprobe(*words)).status == 0, answer.err
    folder = tmp_path / "outputs/transfer/convnet-avatar/v001"
    parts = json.loads((folder / "run.json").read_text())["identity"]
    assert parts["old_task images"] == about["dataset"]["fingerprint"]
    exchange(tmp_path, "folder")
    answer = cnnprobe("transfer", "--rerun", str(folder))
    assert answer.status == 0
    assert "this is not the same run as v001: old_task images changed" in answer.err


def test_an_image_that_both_tasks_show_is_told_of_once(cnnprobe, pictures, tmp_path):
    """F32: it was counted twice."""
    for part in ("train", "val"):
        shutil.copytree(pictures, tmp_path / "own" / part)
    (tmp_path / "own/val/disc/03.png").write_bytes(b"broken")
    common = ["model=convnet", "dataset=folder", f"dataset.root={tmp_path}/own", f"out={tmp_path}/outputs", "epochs=1"]
    common += ["precision=float32"]
    assert (answer := cnnprobe("train", *common)).status == 0, answer.err
    answer = cnnprobe("transfer", *common, "forgetting=none", "weights=train/convnet-folder/v001")
    assert answer.status == 0, answer.err
    assert answer.err.count("03.png: skipped") == 1
    about = json.loads((tmp_path / "outputs/transfer/convnet-folder/v001/run.json").read_text())
    assert len(about["skipped"]) == 1


@pytest.mark.parametrize("command", ["transfer", "record"])
def test_a_stopped_run_does_not_go_on_with_other_images(cnnprobe, out, pictures, tmp_path, command):
    """F46: an image is added before a resume."""
    shutil.copytree(pictures, tmp_path / "own")
    options = {
        "transfer": ["epochs=1", "forgetting=none", "old_task=none", "precision=float32"],
        "record": ["layer=conv1"],
    }
    images = ["dataset=folder", f"dataset.root={tmp_path}/own", f"weights={LEARNED}", f"out={out}", "batch_size=8"]
    assert cnnprobe(command, "model=convnet", *images, *options[command]).status == 0
    folder = out / command / "convnet-folder/v001"
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"status": "interrupted"}))
    shutil.copy(tmp_path / "own/disc/00.png", tmp_path / "own/disc/99.png")
    answer = cnnprobe(command, "--resume", str(folder))
    assert answer.status == 2
    was = about["dataset"]["images"]
    assert f"dataset changed since v001 ({was + 1} images, was {was})" in answer.err


NAMES = {
    ("arrays", "labels"),
    ("arrays", "data"),
    ("arrays", "axes"),
    ("arrays", "channels"),
    ("arrays", "courses"),
    ("tiles", "of"),
}
"""Options of datasets that are words of any kind and name no file: what a file calls something, another dataset."""


def free(option):
    """Say whether an option is a word of any kind."""
    return any(kind == "str" or (kind == "list" and inner and free(inner)) for kind, inner in option.alternatives)


def test_every_option_of_a_dataset_that_may_be_a_path_is_known_as_one_or_as_none():
    """F94: `masks` was taken from where a transfer is started, not from beside the images."""
    for dataset in catalogue.choices("dataset"):
        options = catalogue.options("dataset", dataset)
        found = {key for key, option in options.items() if free(option) and (dataset, key) not in NAMES}
        assert found == {key for key in old_task.PATHS.get(dataset, ("root",)) if key in options}, dataset


NET = """
from torch import nn

def build(num_classes=3):
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, num_classes, 1))
"""


def test_masks_of_an_old_task_lie_beside_its_images_wherever_it_is_asked(cnnprobe, tmp_path, monkeypatch):
    """F94."""
    home, away = tmp_path / "home", tmp_path / "away"
    away.mkdir()
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind, size in (("images", (8, 8, 3)), ("masks", (8, 8))):
            (home / kind / part).mkdir(parents=True)
            for number in range(6):
                values = rng.integers(0, 3 if kind == "masks" else 256, size).astype(np.uint8)
                Image.fromarray(values).save(home / kind / part / f"{number}.png")
    (tmp_path / "net.py").write_text(NET)
    common = ["model=custom", f"model.file={tmp_path}/net.py", "model.input_size=8", "epochs=1", f"out={tmp_path}/out"]
    common += ["precision=float32", "augment=none", "batch_size=3"]
    monkeypatch.chdir(home)
    answer = cnnprobe("train", *common, "dataset=folder", "dataset.root=images", "dataset.masks=masks", "name=one")
    assert answer.status == 0, answer.err
    monkeypatch.chdir(away)
    (away / "masks").mkdir()  # another one
    taught = ["dataset=shapes", "dataset.target=mask", "dataset.count=8", "forgetting=none", "name=two"]
    answer = cnnprobe("transfer", *common, *taught, f"weights={tmp_path}/out/train/one/v001")
    assert answer.status == 0, answer.err
    assert "v001 was made in another working directory: its images are taken from" in answer.err
    assert package.open(tmp_path / "out/transfer/two/v001")["old_task"].attributes["measure"] == "iou"
