"""Labels beside recordings, in every form people keep them."""

import logging

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from cnnprobe.datasets.arrays import build
from cnnprobe.errors import UserError

DATA = np.random.default_rng(0).standard_normal((8, 3, 20)).astype(np.float32)
KINDS = np.array([1, 0, 2, 2, 0, 1, 1, 0])
WORDS = np.array(["left", "right", "up"])[KINDS]
OPTIONS = dict.fromkeys(("data", "labels", "rate", "split", "size", "resize", "axes", "channels")) | {
    "scale": 1.0,
    "strict": False,
}


def arrays(path, **options):
    return build(root=str(path), **OPTIONS | options)


def both(tmp_path, labels, **more):
    """The same recordings with labels, out of .npz and out of HDF5."""
    np.savez(tmp_path / "a.npz", X=DATA, labels=labels, **more)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = DATA
        for name, values in ({"labels": labels} | more).items():
            file[name] = values.astype(object) if np.asarray(values).dtype.kind == "U" else values
    return [arrays(tmp_path / name) for name in ("a.npz", "a.h5")]


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (KINDS, ("0", "1", "2"), KINDS),
        (KINDS.astype(np.float64), ("0", "1", "2"), KINDS),
        (KINDS.astype(np.uint8), ("0", "1", "2"), KINDS),
        (KINDS[None] + 1.0, ("1", "2", "3"), KINDS),
        (KINDS[:, None] + 1, ("1", "2", "3"), KINDS),
        (KINDS + 769, ("769", "770", "771"), KINDS),
        (KINDS > 0, ("0", "1"), KINDS > 0),
        (np.eye(3)[KINDS], ("0", "1", "2"), KINDS),
        (np.eye(3, dtype=bool)[KINDS].T, ("0", "1", "2"), KINDS),
        (np.where(KINDS == 2, np.nan, KINDS), ("0", "1"), np.where(KINDS == 2, -1, KINDS)),
        (np.where(KINDS > 0, 1, -1), ("-1", "1"), KINDS > 0),
        (KINDS - 2, ("-2", "-1", "0"), KINDS),
        (np.where(KINDS == 2, -1, KINDS), ("0", "1"), np.where(KINDS == 2, -1, KINDS)),
        (WORDS, ("left", "right", "up"), KINDS),
        (WORDS.astype("S"), ("left", "right", "up"), KINDS),
        (KINDS.astype(str), ("0", "1", "2"), KINDS),
    ],
)
def test_labels_of_any_form_are_classes(tmp_path, labels, classes, expected):
    """F90."""
    for dataset in both(tmp_path, labels):
        assert dataset.classes == classes and dataset.labels.tolist() == np.asarray(expected, int).tolist()


def test_minus_one_is_unknown_and_counted_unless_other_numbers_are_below_0(tmp_path, caplog):
    """F90."""
    logging.getLogger("cnnprobe").propagate = True
    both(tmp_path, np.array([-1, 0, 1, 0, -1, 1, 0, 0]))
    assert [line for line in caplog.messages if "labels of -1 are taken as unknown (2 of 8)" in line]
    caplog.clear()
    for dataset in both(tmp_path, np.array([-2, -1, 0, 1, 2, -2, -1, 0])):
        assert dataset.classes == ("-2", "-1", "0", "1", "2") and dataset.labels.tolist() == [0, 1, 2, 3, 4, 0, 1, 2]
    assert "unknown" not in caplog.text


def test_names_of_classes_beside_numbers(tmp_path):
    """F90: from 0 and from 1."""
    for first in (0, 1):
        for dataset in both(tmp_path, KINDS + first, class_names=np.array(["left", "right", "up"])):
            assert dataset.classes == ("left", "right", "up") and dataset.labels.tolist() == KINDS.tolist()


def test_names_of_classes_some_of_which_do_not_occur(tmp_path, caplog):
    """F90: 1 and 2 of three names are the first two in MATLAB, the last two elsewhere; 1 and 3 fit one count alone."""
    names, two = np.array(["left", "right", "up"]), np.array([1, 2] * 4)
    python = both(tmp_path, two, class_names=names)[1]
    savemat(tmp_path / "a.mat", {"X": DATA, "labels": two, "class_names": names.astype(object)})
    matlab = arrays(tmp_path / "a.mat")
    assert python.labels.tolist() == [1, 2] * 4 and matlab.labels.tolist() == [0, 1] * 4
    assert python.classes == matlab.classes == ("left", "right", "up")
    assert "from 0 on: 1 right, 2 up" in caplog.text and "from 1 on: 1 left, 2 right" in caplog.text
    for dataset in both(tmp_path, 2 * two - 1, class_names=names):
        assert dataset.labels.tolist() == [0, 2] * 4 and dataset.classes == ("left", "right", "up")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (KINDS + 0.5, "must be 8 whole numbers or texts.* with 1.5 among them"),
        (KINDS[:5], "must be 8 whole numbers or texts, one per recording; got .5,."),
        (2 * np.ones((8, 2)), "not columns of 0 and 1 with one 1 in each row"),
        (WORDS[:5], "has 5 texts, the data 8 recordings"),
        (KINDS + 10**8, "numbers of classes must be"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path, labels, words):
    """F90."""
    with pytest.raises(UserError, match=words):
        both(tmp_path, labels)


def test_rate_times_channels_and_names_beside_the_data_are_read(tmp_path):
    """F91."""
    names = [f"trial {place}" for place in range(8)]
    np.savez(tmp_path / "a.npz", X=DATA, sfreq=250, ch_names=["C3", "Cz", "C4"], names=names)
    dataset = arrays(tmp_path / "a.npz")
    assert dataset.rate == 250 and dataset.channel_names == ["C3", "Cz", "C4"] and dataset.names == names
    np.savez(tmp_path / "b.npz", X=DATA.swapaxes(1, 2), times_ms=np.arange(20) * 4.0, labels=KINDS)
    dataset = arrays(tmp_path / "b.npz")
    assert dataset.rate == 250 and dataset.size == (3, 20)
    assert np.array_equal(dataset.load(range(8))[0].numpy(), DATA)


def test_times_without_a_unit_are_told_and_give_no_rate(tmp_path, caplog):
    """F91: 8 ms apart, or 8 s."""
    np.savez(tmp_path / "a.npz", X=DATA, times=np.arange(20) * 0.008)
    assert arrays(tmp_path / "a.npz").rate is None
    said = "its times have no unit that is known (s or ms), so its samples per second are not: say dataset.rate, 125"
    assert said in caplog.text
    caplog.clear()
    np.savez(tmp_path / "b.npz", X=DATA, times=np.arange(20))
    assert arrays(tmp_path / "b.npz").rate is None and "times" not in caplog.text


def test_labels_by_name_and_what_could_be_labels(tmp_path, caplog):
    """F90: what is passed over is told with its reason."""
    np.savez(tmp_path / "a.npz", X=DATA, hand=WORDS, odd=np.array([{}], dtype=object))
    assert arrays(tmp_path / "a.npz").classes == ()
    assert "perhaps hand" in caplog.text and "odd holds pickled objects" in caplog.text
    assert arrays(tmp_path / "a.npz", labels="hand").classes == ("left", "right", "up")
    with pytest.raises(UserError, match="no array 'foot' in a"):
        arrays(tmp_path / "a.npz", labels="foot")


def test_recordings_in_a_cell_array_with_names_of_channels_as_label(tmp_path):
    """F91: as FieldTrip keeps them, `label` being those of channels."""
    cells = np.empty(8, dtype=object)
    for place in range(8):
        cells[place] = DATA[place].astype(np.float64)
    label = np.array(["C3", "Cz", "C4"], dtype=object)
    savemat(tmp_path / "a.mat", {"data": {"trial": cells, "label": label, "fsample": 250.0}})
    dataset = arrays(tmp_path / "a.mat")
    assert dataset.rate == 250 and dataset.channel_names == ["C3", "Cz", "C4"] and dataset.classes == ()
    assert np.allclose(dataset.load([5, 2])[0].numpy(), DATA[[5, 2]])


def test_counts_beside_the_data_tell_the_axes(tmp_path):
    """F91: as EEGLAB keeps them, (channel, time, trial)."""
    values = DATA.transpose(1, 2, 0).astype(np.float64)
    savemat(tmp_path / "a.mat", {"EEG": {"data": values, "srate": 250.0, "nbchan": 3.0, "pnts": 20.0, "trials": 8.0}})
    dataset = arrays(tmp_path / "a.mat")
    assert dataset.size == (3, 20) and dataset.rate == 250
    assert np.allclose(dataset.load(range(8))[0].numpy(), DATA)


SEVERAL = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]] * 2)


@pytest.mark.parametrize("kind", [np.int64, np.float32, bool])
def test_columns_with_several_ones_in_a_row_are_several_classes(tmp_path, kind):
    """F90."""
    for names in (None, ["cat", "dog", "owl"]):
        for dataset in both(tmp_path, SEVERAL.astype(kind), **({"class_names": np.array(names)} if names else {})):
            assert dataset.target.kind == "present" and dataset.target.names == tuple(names or "012")
            assert dataset.targets(range(8))[0].tolist() == SEVERAL.tolist()
            assert dataset.labels.tolist() == [-1, 1, -1, -1] * 2


def test_columns_with_one_1_in_each_row_are_one_class_unless_several_are_asked_for(tmp_path):
    np.savez(tmp_path / "a.npz", X=DATA, labels=np.eye(4)[KINDS % 4])
    plain = arrays(tmp_path / "a.npz")
    assert plain.target.kind == "class" and plain.labels.tolist() == (KINDS % 4).tolist()
    asked = arrays(tmp_path / "a.npz", target="present")
    assert asked.target.kind == "present" and asked.targets(range(8))[0].tolist() == np.eye(4)[KINDS % 4].tolist()
    np.savez(tmp_path / "b.npz", X=DATA, labels=SEVERAL)
    with pytest.raises(UserError, match=r"a recording has one, or with dataset.target=present several$"):
        arrays(tmp_path / "b.npz", target="class")
    test = arrays(tmp_path / "b.npz", split="test")
    assert test.targets([0])[0].tolist() == [SEVERAL[4].tolist()]
    np.savez(tmp_path / "c.npz", X=DATA, labels=KINDS)
    with pytest.raises(UserError, match=r"needs labels that are columns of 0 and 1 .recording, class.; .*int64$"):
        arrays(tmp_path / "c.npz", target="present")
