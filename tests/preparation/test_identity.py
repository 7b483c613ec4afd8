"""What a result depends on: found in full, and compared wherever rows would be mixed."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from PIL import Image

import cnnprobe as package
from cnnprobe.datasets.base.given import Given
from cnnprobe.datasets.base.imageset import limited
from cnnprobe.datasets.published import coco
from cnnprobe.machine import terminal
from cnnprobe.methods.optimize import inputs
from cnnprobe.models import custom
from cnnprobe.preparation import compatibility, identity
from cnnprobe.preparation.named_weights import Weights
from cnnprobe.store import run_json
from cnnprobe.store.layout import CHECKSUM, known_sum
from tests.support.images import made_collections

NETWORK = """
import torch
from torch import nn
from parts import ACTIVATION
def build():
    torch.manual_seed(0)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
    return nn.Sequential(nn.Conv2d(3, 6, 5, padding=2), ACTIVATION(), *head)
"""
PARTS = "from torch import nn\nACTIVATION = nn.{}\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with images, labels and a network in two files."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"images/{number}.png")
    Path("labels.csv").write_text("file,class\n" + "".join(f"{n}.png,{'ab'[n % 2]}\n" for n in range(6)))
    Path("net.py").write_text(NETWORK)
    Path("parts.py").write_text(PARTS.format("ReLU"))
    return tmp_path


MINE = ["model=custom", "model.file=net.py", "model.input_size=16", "weights=random", "layer=conv1"]
SHOWN = ["dataset=folder", "dataset.root=images", "dataset.labels=labels.csv", "device.workers=0"]


def stopped(folder: Path) -> Path:
    """Make a complete run one that was stopped before its last batch."""
    about = run_json.as_written(folder)
    (folder / "run.json").write_text(json.dumps(about | {"status": "interrupted"}))
    return folder


def test_what_a_file_imports_from_beside_it_is_found_wherever_it_does(tmp_path):
    """F100."""
    tree = {
        "net.py": "import os, helpers\nfrom pack.sub import one\nimport torch\ndef f():\n    import late.deep\n",
        "helpers.py": "from more import *\nimport net\n",
        "more.py": "x = 1\n",
        "unused.py": "",
        "pack/__init__.py": "from . import base\n",
        "pack/base.py": "",
        "pack/sub/__init__.py": "from ..other import thing\n",
        "pack/sub/one.py": "",
        "pack/sub/two.py": "",
        "pack/other.py": "broken syntax here",
        "late/deep.py": "",
        "os.py": "",
    }
    for name, text in tree.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = {path.relative_to(tmp_path).as_posix() for path in identity.imported(tmp_path / "net.py")}
    expected = set(tree) - {"unused.py", "pack/sub/two.py"}
    assert found == expected


def test_files_of_one_name_beside_different_networks_are_each_its_own(tmp_path):
    """F100: jobs of a sweep follow each other in one process."""
    kinds = []
    for kind in ("ReLU", "Tanh", "GELU"):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "net.py").write_text(NETWORK)
        (folder / "parts.py").write_text(PARTS.format(kind))
        options = {"function": "build", "input_size": 16, "channels": None, "mean": None, "std": None}
        made = custom.build(num_classes=None, file=str(folder / "net.py"), **options)
        kinds.append(type(made[1]).__name__)
    assert kinds == ["ReLU", "Tanh", "GELU"]


@pytest.mark.parametrize(
    "changed", ["net.py", *(pytest.param(one, marks=pytest.mark.slow) for one in ("parts.py", "labels.csv"))]
)
def test_a_stopped_run_does_not_go_on_where_something_it_depends_on_is_another_thing(cnnprobe, place, changed):
    """F100: of a network of one's own also what it imports."""
    assert cnnprobe("record", *MINE, *SHOWN).status == 0
    folder = stopped(place / "outputs/record/custom-folder/v001")
    assert cnnprobe("record", "--resume", str(folder), "model.file=net.py").status == 0
    stopped(folder)
    text = Path(changed).read_text()
    Path(changed).write_text({"labels.csv": text.replace(",a", ",c")}.get(changed, text + "# other\n"))
    before = (folder / "store.h5").read_bytes()
    answer = cnnprobe("record", "--resume", str(folder), "model.file=net.py")
    assert answer.status == 2, answer.err
    assert "v001 cannot go on: " in answer.err
    assert f"{changed} changed" in answer.err
    assert (folder / "store.h5").read_bytes() == before
    answer = cnnprobe("record", "--rerun", str(folder), "model.file=net.py")
    assert answer.status == 0
    assert "this is not the same run as v001: " in answer.err
    assert f"{changed} changed" in answer.err


def test_what_was_ranked_with_other_code_is_no_source(cnnprobe, place):
    """F100: other code is refused; other labels are only warned of, because no ranking depends on them."""
    assert cnnprobe("topk", *MINE, *SHOWN, "k=2").status == 0
    built = ["rf-map", *MINE, *SHOWN, "top_images=2", "effective=false", "source=topk/custom-folder/v001"]
    assert cnnprobe(*built).status == 0
    labels = Path("labels.csv").read_text()
    Path("labels.csv").write_text(labels.replace(",a", ",c"))
    answer = cnnprobe(*built)
    assert answer.status == 0 and "was made with other labels of the images" in answer.err
    Path("labels.csv").write_text(labels)
    Path("parts.py").write_text(PARTS.format("Tanh"))
    answer = cnnprobe(*built)
    assert answer.status == 2
    assert "was made with other code of the network: code parts.py changed since then; rank again" in answer.err


def test_code_that_came_beside_a_network_is_other_code(cnnprobe, place):
    """F100: an optional import that found nothing when the run began, and another file before it on the path."""
    optional = "try:\n    from extra import ACTIVATION\nexcept ImportError:\n    pass\n"
    Path("net.py").write_text(NETWORK.replace("def build", f"{optional}def build"))
    assert cnnprobe("topk", *MINE, *SHOWN, "k=2").status == 0
    Path("extra.py").write_text(PARTS.format("Tanh"))
    built = ["rf-map", *MINE, *SHOWN, "top_images=2", "effective=false", "source=topk/custom-folder/v001"]
    answer = cnnprobe(*built)
    assert answer.status == 2
    assert "was made with other code of the network: code extra.py is new since then; rank again" in answer.err
    answer = cnnprobe("topk", "--rerun", "topk/custom-folder/v001", "model.file=net.py")
    assert answer.status == 0
    assert "this is not the same run as v001: code extra.py is new" in answer.err


def test_code_from_another_folder_is_part_of_it(cnnprobe, place):
    """F100: a module in a folder that the file adds to sys.path; of installed packages the version is recorded."""
    (place / "lib/mine").mkdir(parents=True)
    (place / "lib/mine/__init__.py").write_text(PARTS.format("ReLU"))
    path = f"import sys\nsys.path.insert(0, {str(place / 'lib')!r})\nimport yaml\n"
    (place / "nets").mkdir()
    Path("nets/net.py").write_text(path + NETWORK.replace("from parts", "from mine"))
    words = [word.replace("net.py", "nets/net.py") for word in MINE]
    assert cnnprobe("topk", *words, *SHOWN, "k=2").status == 0
    about = run_json.read(place / "outputs/topk/custom-folder/v001")
    assert {"code net.py", "module mine"} <= set(about["identity"])
    assert not [part for part in about["identity"] if "yaml" in part]
    (place / "lib/mine/__init__.py").write_text(PARTS.format("Tanh"))
    answer = cnnprobe("topk", "--rerun", "topk/custom-folder/v001", "model.file=nets/net.py")
    assert answer.status == 0
    assert "this is not the same run as v001: module mine changed" in answer.err
    built = ["rf-map", *words, *SHOWN, "top_images=2", "effective=false", "source=topk/custom-folder/v001"]
    answer = cnnprobe(*built)
    assert answer.status == 2
    assert "was made with other code of the network: module mine changed since then; rank again" in answer.err


@pytest.mark.parametrize("where", ["build", pytest.param("forward", marks=pytest.mark.slow)])
def test_code_that_a_function_imports_is_part_of_it(cnnprobe, place, where):
    """F100: in another folder, where it is needed first; where nothing runs it before the measurement, by the text."""
    (place / "lib").mkdir()
    Path("lib/mine.py").write_text(PARTS.format("ReLU"))
    path = f"import sys\nsys.path.insert(0, {str(place / 'lib')!r})\n"
    if where == "build":
        text = NETWORK.replace("from parts import ACTIVATION\n", "").replace(
            "    torch.man", "    from mine import ACTIVATION\n    torch.man"
        )
    else:
        text = (
            "from torch import nn\nclass Act(nn.Module):\n    def forward(self, x):\n        if self.training:\n"
            "            from mine import ACTIVATION\n        return x.relu()\n"
        ) + NETWORK.replace("from parts import ACTIVATION\n", "").replace("ACTIVATION", "Act")
    (place / "nets").mkdir()
    Path("nets/net.py").write_text(path + text)
    asked = [*(word.replace("net.py", "nets/net.py") for word in MINE), *SHOWN, "batch_size=6"]
    assert cnnprobe("topk", *asked, "k=2").status == 0
    run = place / "outputs/topk/custom-folder/v001"
    digest = hashlib.sha256(Path("lib/mine.py").read_bytes()).hexdigest()
    assert run_json.read(run)["identity"]["module mine"] == digest
    Path("lib/mine.py").write_text(PARTS.format("Tanh"))
    answer = cnnprobe("topk", "--rerun", str(run), "model.file=nets/net.py")
    assert answer.status == 0 and "this is not the same run as v001: module mine changed" in answer.err
    answer = cnnprobe("topk", "--resume", str(stopped(run)), "model.file=nets/net.py")
    assert answer.status == 2 and "v001 cannot go on: module mine changed since it was begun" in answer.err
    run_json_of = json.loads((run / "run.json").read_text()) | {"status": "complete"}
    (run / "run.json").write_text(json.dumps(run_json_of))
    answer = cnnprobe("rf-map", *asked, "top_images=2", "effective=false", f"source={run}")
    assert answer.status == 2
    assert "was made with other code of the network: module mine changed since then; rank again" in answer.err


def test_a_file_does_not_set_how_the_next_run_computes(cnnprobe, place):
    """F100: jobs of a sweep follow each other in one process."""
    asked = ["record", *MINE, *SHOWN]
    assert cnnprobe(*asked, "name=before").status == 0
    lines = "torch.set_float32_matmul_precision('medium')\ntorch.set_grad_enabled(False)\ntorch.set_num_threads(3)\n"
    Path("other.py").write_text(NETWORK.replace("from torch import nn", f"from torch import nn\n{lines}", 1))
    assert cnnprobe(*asked, "model.file=other.py", "name=other").status == 0
    assert cnnprobe(*asked, "name=after").status == 0
    stores = [package.open(f"record/{name}/v001") for name in ("before", "other", "after")]
    first, *others = [store["activations/conv1"]["mean"] for store in stores]
    assert all(np.array_equal(first, one) for one in others)
    assert cnnprobe("train", "model=convnet", "dataset=avatar", "limit=8", "epochs=1").status == 0


def test_what_a_run_could_not_have_listed_is_not_new():
    """F100: a run of a version before there was such a part, or before there were any."""
    now = {"code a.py": "1", "labels": "2", "objects": "3", "held-out labels": "4", "run old_task": "5"}
    assert identity.differences({}, now) == []
    assert identity.differences({"code a.py": "1", "labels": "2"}, now) == ["objects is new", "held-out labels is new"]


@pytest.mark.slow
def test_a_source_is_found_by_what_it_holds(cnnprobe, place):
    """F100: `latest` means another run by now; F104: the run was moved, or its name is another one's."""
    words = ["model=convnet", "weights=random", "dataset=avatar", "limit=6", "layer=conv1"]
    assert cnnprobe("topk", *words, "k=2", "name=k").status == 0
    built = cnnprobe("rf-map", *words, "top_images=2", "effective=false", "source=topk/k/latest", "name=r")
    assert built.status == 0
    folder = stopped(place / "outputs/rf-map/r/v001")
    assert run_json.read(folder)["built_from"] == ["topk/k/v001"]
    before = (folder / "store.h5").read_bytes()
    assert cnnprobe("topk", *words, "k=3", "name=k").status == 0
    answer = cnnprobe("rf-map", "--resume", str(folder))
    assert answer.status == 0, answer.err
    assert "source=topk/k/latest is another run now; " in answer.err
    assert "topk/k/v001 is the one that v001 was begun with" in answer.err
    assert (folder / "store.h5").read_bytes() == before
    shutil.copytree(stopped(folder), place / "elsewhere/mycopy")
    answer = cnnprobe("rf-map", "--resume", str(place / "elsewhere/mycopy"), f"out={place / 'outputs'}")
    assert answer.status == 0, answer.err
    assert not (place / "elsewhere/latest").exists()
    shutil.rmtree(place / "outputs/topk/k/v001")
    answer = cnnprobe("rf-map", "--resume", str(stopped(folder)))
    assert answer.status == 2
    assert "v001 cannot go on: source=topk/k/latest is another run than when it was begun" in answer.err


def test_an_identity_that_is_none_says_nothing():
    """F102."""
    for value in ("", "[]", "{", '{"a": 1}', 3, "null", "[" * 100_000):
        assert identity.of_store(SimpleNamespace(attributes={"identity": value})) == {}


def test_the_identity_stands_in_run_json_and_in_the_store(cnnprobe, place):
    """F100: `check` compares them."""
    assert cnnprobe("record", *MINE, *SHOWN).status == 0
    folder = place / "outputs/record/custom-folder/v001"
    about = run_json.read(folder)
    assert set(about["identity"]) == {"dataset.labels labels.csv", "code net.py", "code parts.py", "labels"}
    assert identity.of_store(package.open(folder)) == about["identity"]
    (folder / "run.json").write_text(json.dumps(about | {"identity": about["identity"] | {"labels": "x"}}))
    answer = cnnprobe("check", str(folder))
    assert answer.status == 2
    assert "run.json and store.h5 say different identities" in answer.out


def test_files_that_are_read_together_count_together(tmp_path, monkeypatch):
    """F100: the volumes of a folder, and both halves of a pair of files; a word that only names a folder does not."""
    monkeypatch.chdir(tmp_path)
    for folder in ("subjects", "val"):
        Path(folder).mkdir()
        for name in ("s0.nii", "s1.nii"):
            (Path(folder) / name).write_text(name)
    Path("pair.hdr").write_text("header")
    Path("pair.img").write_text("values")
    method = {"searchlight": ["subjects", "pair.hdr"]}
    config = {"model": {}, "dataset": {"split": "val", "root": "val"}, "method": method}
    before = dict(identity._named(config))
    assert set(before) == {"method.searchlight subjects", "method.searchlight pair.hdr"}
    Path("val/s0.nii").write_text("other")
    assert dict(identity._named(config)) == before
    Path("subjects/s0.nii").write_text("other")
    Path("pair.img").write_text("other")
    now = dict(identity._named(config))
    assert identity.differences(before, now) == [
        "method.searchlight subjects changed", "method.searchlight pair.hdr changed"
    ]  # fmt: skip


def test_what_lies_behind_links_to_folders_counts(tmp_path):
    """F100: as `glob` and `os.walk(followlinks=True)` read it; circles end, and so does what lies among the runs."""
    for name in ("data/plain/a.txt", "else/b.txt", "else/deep/c.txt", "outputs/run/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    links = {"linked": "else", "second": "else", "plain/up": "data", "whole": ".", "runs": "outputs"}
    for name, target in links.items():
        (tmp_path / "data" / name).symlink_to(tmp_path / target)
    (tmp_path / "else/back").symlink_to(tmp_path / "data")
    sums = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("data/plain/a.txt", "else/b.txt")}
    deep = hashlib.sha256(b"else/deep/c.txt").hexdigest()
    assert identity.below(tmp_path / "data", str(tmp_path / "outputs")) == {
        "linked/back": ".",
        "linked/b.txt": sums["else/b.txt"],
        "linked/deep/c.txt": deep,
        "plain/a.txt": sums["data/plain/a.txt"],
        "second": "linked",
    }
    assert identity.below(tmp_path / "data/plain", None) == {"a.txt": sums["data/plain/a.txt"]}


def test_objects_count_and_so_do_the_weights_of_moments(tmp_path):
    """F100: maps are judged by boxes and outlines, which labels leave open."""
    about = made_collections.coco(tmp_path)
    options = {"root": str(tmp_path), "split": "val", "classes": "largest", "size": 16, "resize": None, "strict": False}

    def now(sums):
        dataset = limited(coco.build(**options), "first:3")
        made = SimpleNamespace(dataset=dataset, held_out=None, sums=sums, buffers={}, beside={})
        return identity.identity_of({"model": {}, "dataset": {}, "method": {}}, made, {})

    before = now({"epoch=000": "a", "epoch=001": "b"})
    assert now({"epoch=000": "a", "epoch=001": "b"}) == before
    about["annotations"][0]["bbox"][0] += 1
    made_collections.annotate(tmp_path, about)
    after = now({"epoch=000": "c", "epoch=001": "b"})
    assert identity.differences(before, after) == ["objects changed", "moment epoch=000 changed"]


@pytest.mark.parametrize("mine", [True, False])
def test_what_runs_from_a_folder_below_is_part_of_a_network(cnnprobe, place, mine):
    """F100: also where the file puts it on the path itself."""
    (place / "lib").mkdir()
    shutil.move("parts.py", "lib/parts.py")
    if not mine:
        Path("lib/alone.py").write_text("")
    text = "import sys\nfrom pathlib import Path\nsys.path.insert(0, str(Path(__file__).parent / 'lib'))\n"
    Path("net.py").write_text(text + NETWORK)
    assert cnnprobe("record", *MINE, *SHOWN).status == 0
    folder = place / "outputs/record/custom-folder/v001"
    code = {part for part in run_json.read(folder)["identity"] if part.startswith("code ")}
    assert code == {"code net.py", "code lib/parts.py"}


def test_buffers_that_are_not_among_the_weights_count(cnnprobe, place):
    """F100: filters that a network of one's own reads from a file were in no digest."""
    Path("net.py").write_text(
        "import json\nfrom pathlib import Path\n" + NETWORK.replace("return nn.Sequential", "net = nn.Sequential") +
        "    gain = json.loads((Path(__file__).parent / 'gain.json').read_text())\n"
        "    net.register_buffer('gain', torch.tensor(gain), persistent=False)\n    return net\n"
    )  # fmt: skip
    Path("gain.json").write_text("1.0")
    assert cnnprobe("record", *MINE, *SHOWN, "model.mean=0.5").status == 0
    folder = stopped(place / "outputs/record/custom-folder/v001")
    parts = run_json.read(folder)["identity"]
    assert {part for part in parts if part.startswith("buffer ")} == {"buffer gain"}  # a mean is an option
    assert cnnprobe("record", "--resume", str(folder), "model.file=net.py").status == 0
    stopped(folder)
    Path("gain.json").write_text("3.0")
    answer = cnnprobe("record", "--resume", str(folder), "model.file=net.py")
    assert answer.status == 2
    assert "v001 cannot go on: buffer gain changed since it was begun" in answer.err


def test_a_run_of_before_a_part_was_known_is_gone_on_with_and_stays_in_order(cnnprobe, place):
    """F100: what was not known then is not compared, and not claimed afterwards."""
    assert cnnprobe("record", *MINE, *SHOWN).status == 0
    folder = place / "outputs/record/custom-folder/v001"
    about = run_json.as_written(folder)
    older = {part: digest for part, digest in about["identity"].items() if part != "labels"}
    tables = list(package.open(folder))
    with h5py.File(folder / "store.h5", "r+") as file:
        file.attrs["identity"] = json.dumps(older)
        file.attrs[CHECKSUM] = np.uint32(known_sum(file, tables))
    text = json.dumps(about | {"status": "interrupted", "identity": older, "files": None})
    (folder / "run.json").write_text(text)
    answer = cnnprobe("record", "--resume", str(folder), "model.file=net.py")
    assert answer.status == 0, answer.err
    assert run_json.read(folder)["identity"] == older
    assert cnnprobe("check", str(folder)).status == 0


def test_weights_that_learned_in_another_network_are_told(cnnprobe, place):
    """F100: with every command that takes them; what a person does to their code is their affair."""
    mine, shown = [*MINE[:3]], [*SHOWN, "batch_size=3"]
    trained = ["train", *mine, *shown, "epochs=1", "augment=none"]
    for part in ("train", "val"):
        shutil.copytree("images", f"split/{part}")
    trained[trained.index("dataset.root=images")] = "dataset.root=split"
    assert (answer := cnnprobe(*trained)).status == 0, answer.err
    asked = ["record", *mine, *shown, "layer=conv1", "weights=train/custom-folder/v001"]
    assert "learned in another network" not in cnnprobe(*asked).err
    assert cnnprobe("record", "--rerun", "record/custom-folder/v001", "model.file=net.py").status == 0
    Path("parts.py").write_text(PARTS.format("Tanh"))
    answer = cnnprobe(*asked)
    assert answer.status == 0
    assert "train/custom-folder/v001@best learned in another network: code parts.py changed since then" in answer.err


def test_moments_that_learned_in_another_network_are_told_wherever_they_stand(tmp_path):
    """F100: once for each training."""
    one, other = (tmp_path / name for name in "ab")
    for run, digest in ((one, "1"), (other, "2")):
        run.mkdir()
        (run / "run.json").write_text(json.dumps({"status": "complete", "identity": {"code net.py": digest}}))
    moments = [
        Weights("file", run.name, run / f"weights/epoch={n}.safetensors") for run in (one, other) for n in (0, 1)
    ]
    for order in (moments, moments[::-1]):
        made = SimpleNamespace(weights=replace(order[-1], moments=tuple(order)))
        with terminal.collected() as remarks:
            compatibility.remark_trained(made, {"code net.py": "1"})
        (told,) = remarks.warnings
        assert told.startswith("b learned in another network: code net.py changed since then; what is measured")


@pytest.mark.parametrize("other", ["model.mean=0.5", "model.function=other", "dataset.resize=20"])
def test_what_was_ranked_with_other_options_is_no_source(cnnprobe, place, other):
    """F100: such as leave weights, images and their size as they are."""
    Path("net.py").write_text(NETWORK + "other = build\n")
    assert cnnprobe("topk", *MINE, *SHOWN, "k=2").status == 0
    built = ["rf-map", *MINE, *SHOWN, "top_images=2", "effective=false", "source=topk/custom-folder/v001"]
    answer = cnnprobe(*built, other)
    name, _, value = other.partition("=")
    assert answer.status == 2
    assert "topk/custom-folder/v001 was made with other options (" in answer.err
    assert f"{name} " in answer.err and f"{value} here" in answer.err


def test_a_second_network_counts_by_its_weights(tmp_path, monkeypatch):
    """F100."""
    (tmp_path / "best.safetensors").write_text("one")
    found = SimpleNamespace(path=tmp_path / "best.safetensors")
    monkeypatch.setattr(inputs.named_weights, "from_run", lambda word, config: found)
    config = {"out": str(tmp_path), "model": {"name": "a"}, "dataset": {"name": "b"}}
    config["method"] = {"brain": "train/b/v001"}
    made = SimpleNamespace(
        dataset=Given(np.zeros((2, 3, 4, 4), np.float32)), held_out=None, sums={}, buffers={}, beside={}
    )
    before = identity.identity_of(config, made, inputs.reads(config))
    (tmp_path / "best.safetensors").write_text("two")
    now = identity.identity_of(config, made, inputs.reads(config))
    assert identity.differences(before, now) == ["brain weights changed"]
    assert inputs.reads(config | {"method": {"brain": None}}) == {}
