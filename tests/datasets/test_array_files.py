"""Made files of recordings: container x axes x type x labels x names. Each is read right, or refused in one line."""

import itertools
import json

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

import cnnprobe as package
from cnnprobe.datasets.arrays import build
from cnnprobe.errors import UserError
from cnnprobe.models.convnet import build as convnet
from cnnprobe.models.signals.shallownet import build as shallownet

COUNT = 12
RANDOM = np.random.default_rng(7)
COLOURS = RANDOM.integers(0, 256, (COUNT, 3, 32, 30), dtype=np.uint8)
COLOURS[:, :, 0, 0] = 255
SQUARE = RANDOM.integers(0, 256, (COUNT, 3, 32, 32), dtype=np.uint8)
SIGNALS = RANDOM.standard_normal((COUNT, 4, 50)).astype(np.float32)
KINDS = RANDOM.permutation(np.arange(COUNT) % 3)
CONTAINERS = ("npy", "npz", "h5", "v5.mat", "v73.mat")
IMAGE_AXES = ("n c y x", "n y x c", "y x c n", "c y x n")
SIGNAL_AXES = ("n c t", "n t c", "c t n", "t c n")
TYPES = {
    "uint8": lambda values: values,
    "bytes as floats": lambda values: values.astype(np.float32),
    "bytes as doubles": lambda values: values.astype(np.float64),
    "0 to 1": lambda values: (values / 255).astype(np.float64),
    "uint16": lambda values: values.astype(np.uint16) * 257,
    "int64": lambda values: values.astype(np.int64),
}
LABELS = {
    "none": None,
    "numbers": KINDS,
    "doubles from 1, a column": (KINDS + 1.0)[:, None],
    "words": np.array(["left", "right", "up"])[KINDS],
    "columns": np.eye(3)[KINDS],
}
WORDS = {"n": "recording", "c": "channel", "y": "y", "x": "x", "t": "time"}
SHALLOW = ["model=shallownet", "model.channels=4", "model.input_size=50", "model.filter_size=5", "model.pool_size=10"]
SHALLOW += ["model.pool_stride=5"]
OPTIONS = dict.fromkeys(("data", "labels", "rate", "split", "size", "resize", "axes")) | {"scale": 1.0, "strict": False}


def write(path, values, labels=None, names=None):
    """Write recordings and what stands beside them as the program of the container does."""
    beside = (
        {"X": values} | ({} if labels is None else {"labels": labels}) | ({} if names is None else {"names": names})
    )
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".npz":
        np.savez(path, **beside)
    elif path.name.endswith("v5.mat"):
        savemat(
            path, {key: value.astype(object) if value.dtype.kind == "U" else value for key, value in beside.items()}
        )
    else:
        matlab = path.name.endswith("v73.mat")
        with h5py.File(path, "w", userblock_size=512 * matlab) as file:
            for key, value in beside.items():
                _put(file, key, value, matlab)
        if matlab:
            with path.open("r+b") as file:
                file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + bytes(8) + b"\x00\x02IM")


def _put(file, key, value, matlab):
    """Write one variable: of MATLAB with its axes reversed, words as a cell array of texts."""
    if not matlab:
        file[key] = value.astype(object) if value.dtype.kind == "U" else value
        return
    if value.dtype.kind == "U":
        inner = file.require_group("#refs#")
        cells = []
        for place, word in enumerate(value):
            one = inner.create_dataset(f"{key}{place}", data=np.array([list(map(ord, word))], np.uint16).T)
            one.attrs["MATLAB_class"] = np.bytes_("char")
            cells.append(one.ref)
        made = file.create_dataset(key, data=np.array(cells, dtype=h5py.ref_dtype)[None])
        made.attrs["MATLAB_class"] = np.bytes_("cell")
        return
    kinds = {"float64": "double", "float32": "single"}
    made = file.create_dataset(key, data=np.atleast_2d(value).T)
    made.attrs["MATLAB_class"] = np.bytes_(kinds.get(value.dtype.name, value.dtype.name))


def made():
    """Give container, kind of recordings, axes, type, labels, whether there are names and whether axes are said."""
    images = itertools.product(CONTAINERS, ["images"], IMAGE_AXES, TYPES, LABELS, (False, True), (False, True))
    signals = itertools.product(CONTAINERS, ["signals"], SIGNAL_AXES, [""], LABELS, (False, True), (False, True))
    every = [*images, *signals]
    order = np.random.default_rng(1).permutation(len(every))
    return [every[place] for place in order[:120]]


def put(folder, case, images=COLOURS):
    """Write a case; return the file, what must be read, (image, ...) float32, and the options."""
    container, what, axes, kind, labels, named, said = case
    values = images if what == "images" else SIGNALS
    first = "ncyx" if what == "images" else "nct"
    turned = values.transpose([first.index(axis) for axis in axes.split()])
    path = folder / f"mine.{container}"
    names = np.array([f"trial {place}" for place in range(COUNT)]) if named else None
    write(path, TYPES[kind](turned) if kind else turned, LABELS[labels], names)
    asked = {"axes": [WORDS[axis] for axis in axes.split()]} if said else {}
    asked |= {"channels": 3 if what == "images" else 4}
    return path, values / np.float32(255) if kind else values, asked


def judged(dataset, case, expected):
    """Hold what was read against what was written."""
    container, _, _, _, labels, named, _ = case
    got, readable = dataset.load(range(COUNT))
    got = got.numpy()
    assert readable.all() and got.shape == expected.shape and np.abs(got - expected).max() < 1e-5, case
    bare = container == "npy"
    assert dataset.labels.tolist() == ([-1] * COUNT if labels == "none" or bare else KINDS.tolist()), case
    if labels == "words" and not bare:
        assert dataset.classes == ("left", "right", "up")
    assert (dataset.names[3] == "trial 3") == (named and not bare), case


def test_each_made_file_is_read_right_or_refused_in_one_line(tmp_path):
    """F90, F91: what is said or documented is never refused."""
    refused = []
    for place, case in enumerate(made()):
        (tmp_path / str(place)).mkdir()
        path, expected, asked = put(tmp_path / str(place), case)
        try:
            dataset = build(root=str(path), **OPTIONS | asked)
        except UserError as error:
            assert "dataset.axes=" in str(error) and "\n" not in str(error) and len(str(error)) < 400
            assert not asked.get("axes") and case[2] not in ("n c y x", "n c t"), (case, str(error))
            refused.append(case)
        else:
            judged(dataset, case, expected)
    assert 5 < len(refused) < 40


@pytest.mark.slow
@pytest.mark.parametrize("case", made()[::2], ids=lambda case: " ".join(map(str, case)))
def test_a_made_file_through_record_is_answered_right_or_refused(cnnprobe, tmp_path, case):
    """F90, F91: against the network called by itself."""
    path, expected, asked = put(tmp_path, case, SQUARE)
    images = case[1] == "images"
    words = ["model=convnet", "layer=conv1"] if images else [*SHALLOW, "layer=logits"]
    words += [f"dataset.axes=[{','.join(asked['axes'])}]"] if "axes" in asked else []
    answer = cnnprobe("record", *words, "weights=random", "dataset=arrays", f"dataset.root={path}", "device.workers=0")
    if answer.status:
        assert answer.status == 2 and "dataset.axes=" in answer.err.splitlines()[-1] and "axes" not in asked
        return
    run = package.open(tmp_path / answer.out.split()[-1])
    assert run["images"]["label"].tolist() == build(root=str(path), **OPTIONS | asked).labels.tolist()
    assert sorted(run["stimuli"].attributes["axes_of_array"].split()) == sorted(WORDS[one] for one in case[2].split())
    torch.manual_seed(0)
    shown = torch.from_numpy(expected)
    with torch.no_grad():
        if images:
            net = convnet(num_classes=None, written="class", input_size=32)
            first = next(one for one in net.modules() if isinstance(one, torch.nn.Conv2d))
            own = first((shown - 0.5) / 0.25).relu().amax((2, 3))  # which convnet does inside
        else:
            sizes = {"filters": 40, "filter_size": 5, "pool_size": 10, "pool_stride": 5, "dropout": 0.5}
            own = shallownet(num_classes=None, input_size=50, channels=4, **sizes)(shown)
    got = run[f"activations/{'conv1' if images else 'logits'}"]["max"]
    assert np.abs(got - own.numpy()).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("form", ["{name}.png", "{name}", "C:\\x\\{name}.PNG", "train/{name}.jpg"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_of_a_folder_through_cam_is_read_right(cnnprobe, tmp_path, form, separator):
    """F92: the label of each image, whatever the table looks like."""
    (tmp_path / "data").mkdir()
    for place in range(6):
        Image.fromarray(COLOURS[place].transpose(1, 2, 0)).save(tmp_path / "data" / f"scan {place}.png")
    order = np.random.default_rng(0).permutation(6)
    rows = [f"{place}{separator}{form.format(name=f'scan {place}')}{separator}k{place % 2}" for place in order]
    (tmp_path / "table.csv").write_text("\n".join([separator.join(["", "file", "class"]), *rows]), encoding="utf-16")
    words = ["model=convnet", "weights=random", "dataset=folder", "dataset.root=data", "dataset.labels=table.csv"]
    answer = cnnprobe("cam", *words, "top_classes=1", "device.workers=0")
    assert answer.status == 0, answer.err
    run = package.open(tmp_path / answer.out.split()[-1])
    assert run["stimuli"]["label"].tolist() == [0, 1] * 3
    assert json.loads(run["stimuli"].attributes["classes"]) == ["k0", "k1"]
