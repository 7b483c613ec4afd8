"""From a configuration to a network and its images."""

import pytest
import torch
from PIL import Image

from cnnprobe.config import compose
from cnnprobe.config.words import parse
from cnnprobe.errors import UserError
from cnnprobe.preparation import build as preparation
from cnnprobe.preparation import weights as weight_files


def prepared(*words, command="record"):
    return preparation.prepare(compose.compose(parse([command, *words])), command, words)


def test_a_dataset_is_drawn_at_the_size_of_the_network():
    for side in (32, 48):
        made = prepared("model=convnet", f"model.input_size={side}", "dataset=shapes", "weights=random")
        assert made.dataset.size == (3, side, side)


def test_training_takes_the_classes_of_the_dataset_and_holds_other_images_out():
    made = prepared("model=convnet", "dataset=shapes", command="train")
    assert made.model.fc2.out_features == 8
    assert made.classes == made.dataset.classes
    assert not set(made.dataset.names) & set(made.held_out.names)


@pytest.mark.parametrize(
    ("there", "judged"),
    [
        (("train", "val", "test"), "val"),
        (("train", "test"), "test"),
        (("train", "valid"), "valid"),
        (("train",), "train"),
    ],
)
def test_training_is_judged_on_val_and_on_test_where_there_is_no_val(tmp_path, there, judged):
    """F92: what chooses the best weights are not the test images."""
    for split in there:
        for number in range(40):
            file = tmp_path / split / "ab"[number % 2] / f"{split}{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(file)
    made = prepared("model=convnet", "dataset=folder", f"dataset.root={tmp_path}", "weights=random", command="train")
    assert {name.split("/")[0] for name in made.held_out.names} == {judged}
    assert not set(made.dataset.names) & set(made.held_out.names)


def test_so_it_is_on_the_val_of_a_table_and_of_collections(tmp_path):
    """F92."""
    rows = [(f"{number}.png", "ab"[number % 2], ("train", "val", "test")[number % 3]) for number in range(12)]
    for file, _, _ in rows:
        Image.new("RGB", (8, 8)).save(tmp_path / file)
    (tmp_path / "labels.csv").write_text("\n".join(["file,class,split", *map(",".join, rows)]))
    words = (
        "model=convnet",
        "dataset=folder",
        f"dataset.root={tmp_path}",
        f"dataset.labels={tmp_path}/labels.csv:class",
    )
    made = prepared(*words, "weights=random", command="train")
    assert sorted(made.held_out.names) == sorted(file for file, _, split in rows if split == "val")
    for words in (("dataset=shapes",), ("dataset=tiles", "dataset.of=shapes", "dataset.sizes=[16]")):
        made = prepared("model=convnet", *words, "weights=random", command="train")
        assert made.held_out.fingerprint != made.dataset.fingerprint


def test_tiles_of_images_of_which_none_are_held_out_are_not_learned():
    """F33: it was a traceback."""
    with pytest.raises(UserError, match="gratings has no images to hold out; train on another dataset"):
        prepared("model=convnet", "dataset=tiles", "dataset.of=gratings", "weights=random", command="train")


def test_the_seed_decides_random_weights():
    one, same, other = (prepared("model=convnet", "weights=random", f"seed={seed}").sha256 for seed in (1, 1, 2))
    assert one == same != other


def test_a_probe_takes_classes_and_options_from_the_weights(tmp_path):
    trained = prepared("model=convnet", "model.written=sequential", "dataset=shapes", command="train")
    about = {"model": trained.options, "num_classes": 8, "classes": list(trained.classes)}
    weight_files.save(tmp_path / "w.safetensors", trained.model.state_dict(), about)
    made = prepared("model=convnet", f"weights={tmp_path}/w.safetensors")
    assert made.options["written"] == "sequential"
    assert made.sha256 == trained.sha256
    assert made.classes == trained.classes


def test_an_option_that_was_typed_is_that_of_the_weights_or_is_refused(tmp_path):
    """F100: it was dropped without a word."""
    trained = prepared("model=convnet", "model.input_size=48", "dataset=shapes", command="train")
    about = {"model": trained.options, "num_classes": 8}
    weight_files.save(tmp_path / "w.safetensors", trained.model.state_dict(), about)
    for word, own in (
        ("model.input_size=32", "model.input_size=48"),
        ("++model.written=sequential", "model.written=class"),
        ("model.num_classes=3", "model.num_classes=8"),
    ):
        with pytest.raises(UserError, match=f"w.safetensors has {own}, asked for {word.lstrip('+')}$"):
            prepared("model=convnet", word, f"weights={tmp_path}/w.safetensors")
    with pytest.raises(UserError, match=r"has model=convnet, asked for model\.variant=mousenet64$"):
        prepared("model.variant=mousenet64", f"weights={tmp_path}/w.safetensors")
    same = "model=convnet", "model.input_size=48", "model.num_classes=null"
    assert prepared(*same, f"weights={tmp_path}/w.safetensors").dataset.size == (3, 48, 48)


def test_weights_of_any_number_of_classes_fit_the_network_they_belong_to(tmp_path):
    model = prepared("model=convnet", "dataset=shapes", command="train").model
    torch.save(model.state_dict(), tmp_path / "w.pt")
    made = prepared("model=convnet", f"weights={tmp_path}/w.pt")
    assert made.model.fc2.out_features == 8


def test_more_classes_than_there_are_weights_are_refused_before_a_readout_is_made(tmp_path, monkeypatch):
    """F102."""
    about = {"model": prepared("model=convnet").options, "num_classes": 10**6}
    weight_files.save(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, about)
    monkeypatch.setattr("cnnprobe.models.convnet.build", lambda **_: pytest.fail("it is made"))
    with pytest.raises(UserError, match=r"w\.safetensors is damaged: 1000000 classes are said beside its weights"):
        prepared("model=convnet", f"weights={tmp_path}/w.safetensors")


@pytest.mark.parametrize(
    ("model", "said"),
    [("convnet", {"input_size": 400}), ("deep4net", {"filters": 300}), ("vit", {"kind": "l_16"})],
)
def test_a_network_far_larger_than_its_weights_is_refused_before_it_is_built(tmp_path, monkeypatch, model, said):
    """F102: options beside a stranger's weights; only shapes are made, whatever they say."""
    images = "dataset=signals" if model == "deep4net" else "dataset=avatar"
    options = prepared(f"model={model}", images, "weights=random").options
    weight_files.save(tmp_path / "w.safetensors", {"a": torch.zeros(9)}, {"model": options | said, "num_classes": 4})
    kind, built_on = preparation.module("model", model), []
    build = kind.build

    def seen(**given):
        built_on.append(torch.empty(0).device.type)
        return build(**given)

    monkeypatch.setattr(kind, "build", seen)
    with pytest.raises(UserError, match=r"w\.safetensors is damaged: the network .* has \d{8,} of them, the file 9"):
        prepared(f"model={model}", images, f"weights={tmp_path}/w.safetensors")
    assert built_on == ["meta"]


@pytest.mark.parametrize("key", ["input_size", "upsample_to"])
def test_large_images_are_not_shown_because_a_file_of_weights_says_so(tmp_path, monkeypatch, key):
    """F102; they are where the command line says so as well."""
    monkeypatch.setattr(preparation, "LARGEST_SIDE", 100)
    made = prepared("model=mousenet", "weights=random")
    about = {"model": made.options | {key: 128}, "num_classes": 10}
    weight_files.save(tmp_path / "w.safetensors", made.model.state_dict(), about)
    words = "model=mousenet", f"weights={tmp_path}/w.safetensors", "dataset=avatar", "limit=2"
    with pytest.raises(UserError, match=f"w.safetensors says {key}=128, .* say model.{key}=128"):
        prepared(*words)
    assert prepared(*words, f"model.{key}=128").options[key] == 128


def test_a_file_of_weights_cannot_decide_which_python_file_is_run(tmp_path):
    marker = tmp_path / "marker"
    (tmp_path / "net.py").write_text(f"open({str(marker)!r}, 'w')\n")
    about = {"model": {"name": "custom", "file": str(tmp_path / "net.py"), "function": "build"}}
    weight_files.save(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, about)
    with pytest.raises(UserError, match="say model=custom"):
        prepared(f"weights={tmp_path}/w.safetensors")
    assert not marker.exists()


def test_published_weights_that_cannot_be_fetched_are_told():
    with pytest.raises(UserError, match="has no published weights"):
        prepared("model=convnet", "weights=published")


def test_tiles_are_cut_from_another_dataset():
    made = prepared(
        "dataset=tiles", "dataset.of=shapes", "dataset.sizes=[16]", "model=convnet", "limit=20", "weights=random"
    )
    assert len(made.dataset) == 20
    assert made.dataset[0][0].shape == (3, 32, 32)


@pytest.mark.here
def test_a_gpu_that_is_not_there_is_told(monkeypatch):
    """F57."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA device here, asked for device=cuda; device=cpu or device=auto"):
        preparation.device_of({"name": "cuda", "threads": None, "workers": None})
    assert preparation.device_of({"name": "auto", "threads": 1, "workers": 0}) == ("cpu", 1, 0)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["dataset=folder", "dataset.root=nowhere"], "no folder 'nowhere' for dataset folder"),
        (["weights=nowhere.pt"], "there is no file nowhere.pt"),
        (["model=custom", "model.file=nowhere.py"], "model.file: there is no file nowhere.py"),
    ],
)
def test_what_is_not_there_is_told_before_torch_is_loaded(cnnprobe, monkeypatch, words, told):
    """F95: nobody waits seconds for the line about a mistyped path."""

    def loaded():
        raise AssertionError("torch is loaded")

    monkeypatch.setattr("cnnprobe.preparation.build.load_torch", loaded)
    answer = cnnprobe("record", "layer=conv1", *words)
    assert answer.status == 2 and told in answer.err
