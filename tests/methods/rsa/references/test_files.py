"""Dissimilarities out of the files of others: names decide, axes are found, similarities turned, the rest is told."""

import json
import logging

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial.distance import squareform

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.references.named import load
from tests.support.files import made_references
from tests.support.files.made_references import NAMES
from tests.support.files.matlab_files import Matlab

RANDOM = np.random.default_rng(0)
COUNT = len(NAMES)
PAIRS = RANDOM.uniform(0.1, 1, COUNT * (COUNT - 1) // 2)
SQUARE = squareform(PAIRS)
ORDER = np.random.default_rng(5).permutation(COUNT)
SHUFFLED = SQUARE[np.ix_(ORDER, ORDER)]
UPPER = SHUFFLED[np.triu_indices(COUNT, 1)]
STEMS = [NAMES[place].partition(".")[0] for place in ORDER]


def read(path, conditions=NAMES, **options):
    return load(str(path), conditions=conditions, **options)


def is_ours(reference, expected=PAIRS):
    np.testing.assert_allclose(reference.matrices[0, 0, 0], expected, atol=1e-6)
    return True


@pytest.fixture
def told(caplog):
    logging.getLogger("cnnprobe").propagate = True
    caplog.set_level("WARNING", "cnnprobe")
    return caplog


# ---- names -----------------------------------------------------------------------------------------------------------


def meadows(path):
    savemat(path.with_suffix(".mat"), {"rdmutv": UPPER[None], "stimuli": STEMS})
    return path.with_suffix(".mat")


def meadows_of_two(path):
    other = ORDER[::-1]
    savemat(path.with_suffix(".mat"), {
        "rdmutv_anna": UPPER[None], "stimuli_anna": STEMS, "stimuli_bo": STEMS[::-1],
        "rdmutv_bo": SQUARE[np.ix_(other, other)][np.triu_indices(COUNT, 1)][None],
    })  # fmt: skip
    return path.with_suffix(".mat")


def rsatoolbox(path):
    with h5py.File(path.with_suffix(".hdf5"), "w") as file:
        file["dissimilarities"] = UPPER[None]
        file.create_group("rdm_descriptors")["index"] = np.arange(1)
        file.create_group("pattern_descriptors")["index"] = np.arange(COUNT)
        file["pattern_descriptors/conds"] = np.array(STEMS, "S")
    return path.with_suffix(".hdf5")


def attribute(path):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["rdm"] = SHUFFLED
        file["rdm"].attrs["stimuli"] = STEMS
    return path.with_suffix(".h5")


def struct(path):
    with Matlab(path.with_suffix(".mat")) as file:
        file.put("S", {"rdm": SHUFFLED, "names": STEMS})
    return path.with_suffix(".mat")


def coordinate(path):
    with h5py.File(path.with_suffix(".nc"), "w") as file:
        file["rdm"] = SHUFFLED
        file["picture"] = STEMS
        file["picture"].make_scale("picture")
        for place in range(2):
            file["rdm"].dims[place].attach_scale(file["picture"])
    return path.with_suffix(".nc")


def archive(path):
    np.savez(path.with_suffix(".npz"), IT=SHUFFLED, files=np.array([f"C:\\x\\{name}.JPG" for name in STEMS]))
    return path.with_suffix(".npz")


def identifiers(path):
    np.savez(path.with_suffix(".npz"), IT=SHUFFLED, image_ids=ORDER + 1)
    return path.with_suffix(".npz")


@pytest.mark.parametrize("write", [meadows, meadows_of_two, rsatoolbox, attribute, struct, archive])
def test_names_that_come_with_a_file_decide(tmp_path, write):
    """F89: each of the ways to keep names; every matrix of the file is in the order of the images."""
    found = read(write(tmp_path / "made"))
    assert all(is_ours(one) for one in found) and len(found) == (2 if write is meadows_of_two else 1)
    assert all(one.rows.startswith("by name") for one in found)


def test_numbers_that_come_with_a_file_decide(tmp_path):
    (one,) = read(identifiers(tmp_path / "made"), [f"img{n:02d}.png" for n in range(1, COUNT + 1)])
    assert is_ours(one) and one.rows.startswith("by ")


def test_a_coordinate_names_the_rows(tmp_path):
    """F91: netCDF4 and xarray keep the names of an axis as a coordinate of any name."""
    (one,) = read(coordinate(tmp_path / "made"))
    assert is_ours(one) and one.taken == "stimulus stimulus"


def test_names_anywhere_in_the_file_are_found_and_must_agree(tmp_path):
    """F89: in a struct of their own, in a struct array, in a compound type; two lists that differ decide nothing."""
    with Matlab(tmp_path / "a.mat") as file:
        file.put("data", {"rdm": SHUFFLED})
        file.put("info", {"pictures": {"used": STEMS}})
    with Matlab(tmp_path / "b.mat") as file:
        file.put("rdm", SHUFFLED)
        file.put("stimuli", tuple({"name": name, "class": "x"} for name in STEMS))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["rdm"] = SHUFFLED
        file["about"] = np.array([(name.encode(), 1) for name in STEMS], [("picture", "S9"), ("shown", "i4")])
    for name in ("a.mat", "b.mat", "c.h5"):
        assert is_ours(read(tmp_path / name)[0])
    np.savez(tmp_path / "d.npz", rdm=SHUFFLED, stimuli_a=np.array(STEMS), stimuli_b=np.array(STEMS[::-1]))
    with pytest.raises(UserError, match="stimuli_a and stimuli_b name the rows in different orders"):
        read(tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", rdm=SHUFFLED, names=np.array(STEMS[:5]))
    with pytest.raises(UserError, match=r"names has 5 names, rdm has the shape \(8, 8\)"):
        read(tmp_path / "e.npz")


def test_more_stimuli_than_images_are_left_out_and_said(tmp_path):
    """F89: the part that is asked for is taken, by name."""
    (one,) = read(meadows(tmp_path / "made"), NAMES[1:5])
    assert is_ours(one, SQUARE[1:5, 1:5][np.triu_indices(4, 1)])
    assert one.rows == f"by name without ending; 4 of its {COUNT} rows are of no image (stimuli)"


def test_names_that_cannot_be_read_are_no_reason_to_guess(tmp_path):
    """F89: pickled names, and objects of MATLAB."""
    np.savez(tmp_path / "a.npz", rdm=SHUFFLED, stimuli=np.array(STEMS, object))
    with Matlab(tmp_path / "b.mat") as file:
        file.put("rdm", SHUFFLED)
        item = file.file.create_dataset("stimuli", data=np.zeros((1, 6), np.uint32))
        item.attrs["MATLAB_class"], item.attrs["MATLAB_object_decode"] = np.bytes_("string"), 3
    for name, why in (("a.npz", "holds pickled objects"), ("b.mat", "is an object of MATLAB")):
        with pytest.raises(UserError, match=f"{name}: stimuli {why}.*order of the rows is not known"):
            read(tmp_path / name)
        assert is_ours(read(tmp_path / name, order="lexical")[0], UPPER)


def test_a_file_of_names_decides_where_the_matrix_has_none(tmp_path):
    np.save(tmp_path / "rdm.npy", SHUFFLED)
    (tmp_path / "rows.txt").write_text("\n".join(STEMS))
    (one,) = read(tmp_path / "rdm.npy", order=str(tmp_path / "rows.txt"))
    assert is_ours(one)


def test_lists_of_something_else_are_no_names(tmp_path):
    """Classes, and as many subjects as stimuli, do not speak of the rows."""
    np.savez(tmp_path / "a.npz", rdm=SQUARE, labels=np.array(["animal", "tool"] * (COUNT // 2)),
             subjects=np.array([f"sub-{n}" for n in range(COUNT)]))  # fmt: skip
    (one,) = read(tmp_path / "a.npz")
    assert is_ours(one) and one.rows == "in the order of the sorted names"


# ---- what it is ------------------------------------------------------------------------------------------------------


def text_of(square, front=True, top=True, mark=","):
    rows = [[*([name] if front else []), *map(str, row)] for name, row in zip(STEMS, square)]
    head = [[*([""] if front else []), *STEMS]] if top else []
    return "\n".join(mark.join(row) for row in (*head, *rows)) + "\n"


@pytest.mark.parametrize("front, top", [(True, True), (True, False), (False, True)])
@pytest.mark.parametrize("mark", [",", ";", "\t", " "])
def test_a_square_in_a_table_is_a_matrix(tmp_path, front, top, mark):
    """F90: symmetric with a zero diagonal is dissimilarities, wherever it stands."""
    (tmp_path / "rdm.csv").write_text(text_of(SHUFFLED.round(6), front, top, mark))
    (one,) = read(tmp_path / "rdm.csv")
    assert is_ours(one, PAIRS.round(6))
    assert one.rows == f"by name without ending ({'column 1' if front else 'the head'})"


def test_a_table_without_names_and_one_with_counts(tmp_path):
    np.savetxt(tmp_path / "rdm.txt", SQUARE)
    (tmp_path / "pandas.csv").write_text(
        "\n".join([",".join(["", *map(str, range(COUNT))])]
                  + [",".join([str(n), *map(str, row)]) for n, row in enumerate(SQUARE)])
    )  # fmt: skip
    np.savetxt(tmp_path / "utv.csv", PAIRS[None], delimiter=",")
    for name in ("rdm.txt", "pandas.csv", "utv.csv"):
        (one,) = read(tmp_path / name)
        assert is_ours(one) and one.rows == "in the order of the sorted names"


def test_pairs_in_a_table(tmp_path):
    rows = [f"{STEMS[a]}.jpg;{STEMS[b]}.jpg;x;{SHUFFLED[a, b]}" for a in range(COUNT) for b in range(a)]
    (tmp_path / "long.csv").write_text("\n".join(["left;right;who;distance", *rows]))
    (one,) = read(f"{tmp_path}/long.csv:distance")
    assert is_ours(one) and one.name == "distance" and "(left, right: distance)" in one.rows


@pytest.mark.parametrize("given", [1 - SQUARE, 3 - 2 * SQUARE, -SQUARE])
def test_similarities_are_turned_and_said(tmp_path, told, given):
    """F90: the diagonal holds the largest value."""
    np.save(tmp_path / "like.npy", given)
    (one,) = read(tmp_path / "like.npy")
    assert is_ours(one, given[0, 0] - given[np.triu_indices(COUNT, 1)])
    assert "holds similarities" in told.text and "on its diagonal" in told.text


def test_the_same_class_as_true_and_false(tmp_path, told):
    labels = np.arange(COUNT) // 3
    for name, given in (("apart", labels[:, None] != labels), ("same", labels[:, None] == labels)):
        np.save(tmp_path / f"{name}.npy", given)
        (one,) = read(tmp_path / f"{name}.npy")
        assert is_ours(one, (labels[:, None] != labels)[np.triu_indices(COUNT, 1)])
    assert told.text.count("holds similarities") == 1


def test_covariances_are_refused(tmp_path):
    """F90: neither 0 nor one number on the diagonal."""
    np.save(tmp_path / "cov.npy", np.cov(RANDOM.normal(size=(COUNT, 30))))
    with pytest.raises(UserError, match=r"on its diagonal.* neither dissimilarities .* nor similarities"):
        read(tmp_path / "cov.npy")


def test_pairs_that_are_all_below_0_are_refused(tmp_path):
    np.save(tmp_path / "minus.npy", -PAIRS)
    with pytest.raises(UserError, match="nothing but values below 0"):
        read(tmp_path / "minus.npy")


def test_accuracies_with_chance_on_the_diagonal_are_dissimilarities(tmp_path, told):
    np.save(tmp_path / "decoding.npy", squareform(50 + 50 * PAIRS) + 50 * np.eye(COUNT))
    assert is_ours(read(tmp_path / "decoding.npy")[0], 50 + 50 * PAIRS) and "50 on its diagonal" in told.text


@pytest.mark.parametrize("given", [np.triu(SQUARE), np.tril(SQUARE), np.where(np.tri(COUNT), np.nan, SQUARE)])
def test_one_triangle_is_enough(tmp_path, given):
    np.save(tmp_path / "half.npy", given)
    assert is_ours(read(tmp_path / "half.npy")[0])


def test_what_is_passed_over_is_named_with_its_reason(tmp_path, told):
    """F90: another number of conditions, other types."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["rdm"], file["small"], file["complex"] = SQUARE, np.zeros((4, 4)), np.zeros(3, complex)
    (one,) = read(tmp_path / "a.h5")
    assert (
        "small with 4 conditions (4, 4)" in one.passed_over and "complex (holds values of type complex128" in told.text
    )


@pytest.mark.parametrize(
    "name, words", [("a.pkl", "file_type='hdf5'"), ("a.fif", "a file of MNE"), ("a.xlsx", "as .csv")]
)
def test_other_files_are_told_what_to_do(tmp_path, name, words):
    (tmp_path / name).write_bytes(b"\x80\x04 something")
    with pytest.raises(UserError, match=words):
        read(tmp_path / name)


# ---- axes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes, turn", [
    (None, (0, 1, 2, 3)), (None, (2, 3, 0, 1)), (None, (0, 2, 3, 1)), (["time", "subject"], (1, 2, 0, 3)),
    (["stimulus", "time", "stimulus", "subject"], (2, 1, 3, 0)),
])  # fmt: skip
@pytest.mark.parametrize("kind", ["npz", "mat5", "mat73"])
def test_stimuli_stand_anywhere(tmp_path, axes, turn, kind):
    """F91: MATLAB's files of both versions and NumPy's are read alike; times say which axis is time."""
    given = RANDOM.uniform(0.1, 1, (3, 5, COUNT * (COUNT - 1) // 2))
    whole = np.array([[squareform(one) for one in subject] for subject in given]).transpose(turn)
    times = np.arange(5.0)
    path = tmp_path / f"meg.{kind[:3]}"
    if kind == "npz":
        np.savez(path, rdm=whole, times=times)
    elif kind == "mat5":
        savemat(path, {"rdm": whole, "times": times})
    else:
        with Matlab(path) as file:
            file.put("rdm", whole)
            file.put("times", times[None])
    (one,) = read(path, axes=axes)
    np.testing.assert_allclose(one.matrices[:, :, 0], given)
    names = np.array(["subject", "time", "stimulus", "stimulus"])[list(turn)]
    assert one.times.tolist() == times.tolist() and one.taken == " ".join(names)


def test_as_many_subjects_as_stimuli(tmp_path):
    """F91: the axes whose matrices are symmetric are the stimuli; where all are, it is refused."""
    given = np.array([squareform(RANDOM.uniform(0.1, 1, len(PAIRS))) for _ in range(COUNT)])
    np.save(tmp_path / "a.npy", given.transpose(1, 0, 2))
    np.testing.assert_allclose(
        read(tmp_path / "a.npy")[0].matrices[:, 0, 0], [one[np.triu_indices(COUNT, 1)] for one in given]
    )
    np.save(tmp_path / "b.npy", np.ones((COUNT,) * 3) * 0)
    with pytest.raises(UserError, match="along several axes; name all its axes"):
        read(tmp_path / "b.npy")


def test_times_that_fit_no_axis_or_two(tmp_path):
    given = np.broadcast_to(SQUARE, (4, 4, COUNT, COUNT))
    np.savez(tmp_path / "a.npz", rdm=given, times=np.arange(4.0))
    with pytest.raises(UserError, match="has 2 axes as long as its times"):
        read(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", rdm=given[:3], times=np.arange(4.0))
    with pytest.raises(UserError, match="has 3 places along time, but 4 names for them"):
        read(tmp_path / "b.npz", axes=["time", "subject"])


@pytest.mark.parametrize("beside, times, unit", [
    ({"times_ms": np.arange(4) * 10}, [0, 10, 20, 30], "ms"),
    ({"sfreq": 100, "tmin": -0.01}, [-0.01, 0, 0.01, 0.02], "s"),
    ({"times": np.arange(4) / 10, "times_unit": "seconds"}, [0, 0.1, 0.2, 0.3], "s"),
])  # fmt: skip
def test_times_with_their_unit(tmp_path, beside, times, unit):
    """F91: times, or samples per second, beside the data."""
    np.savez(tmp_path / "a.npz", rdm=np.broadcast_to(SQUARE, (4, COUNT, COUNT)), **beside)
    (one,) = read(tmp_path / "a.npz", axes=["time"])
    np.testing.assert_allclose(one.times, times, atol=1e-12)
    assert one.time_unit == unit


def test_structs_are_named_by_their_names(tmp_path):
    """F91: RDMs(k).RDM with .name."""
    with Matlab(tmp_path / "a.mat") as file:
        file.put("RDMs", ({"RDM": SQUARE, "name": "hIT | s1"}, {"RDM": 2 * SQUARE, "name": "EVC | s1"}))
        file.put("cells", [SQUARE, 3 * SQUARE])
    found = {one.name: one.matrices[0, 0, 0] for one in read(tmp_path / "a.mat")}
    assert list(found) == ["hIT | s1", "EVC | s1", "cells{1}", "cells{2}"]
    np.testing.assert_allclose(found["cells{2}"], 3 * PAIRS)
    assert [one.name for one in read(f"{tmp_path}/a.mat:RDMs")] == ["hIT | s1", "EVC | s1"]


def test_descriptors_of_matrices_are_axes(tmp_path):
    """F91: a list of matrices of subjects, regions and times, as rsatoolbox keeps them."""
    grid = [(subject, roi) for roi in ("V1", "IT") for subject in ("a", "b", "c")]
    given = RANDOM.uniform(0.1, 1, (6, len(PAIRS)))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["dissimilarities"] = given
        file["rdm_descriptors/subject"] = np.array([one for one, _ in grid], "S")
        file["rdm_descriptors/roi"] = np.array([roi for _, roi in grid], "S")
    (one,) = read(tmp_path / "a.h5")
    assert one.regions == ("V1", "IT") and one.matrices.shape == (3, 1, 2, len(PAIRS))
    np.testing.assert_allclose(one.matrices[:, 0, 1], given[3:])


# ---- many ------------------------------------------------------------------------------------------------------------


def check_made(folder, seeds):
    """Return how many made files were right and which were refused; a wrong number fails."""
    right, refused = 0, []
    for seed in seeds:
        one = made_references.made(folder, seed)
        try:
            found = read(one.path, axes=one.axes, order=one.order)
        except UserError as error:
            assert "\n" not in str(error)
            refused.append(f"{one.about}: {error}")
            continue
        assert len(found) == 1, one.about
        np.testing.assert_allclose(found[0].matrices, one.expected, atol=one.tolerance, err_msg=one.about)
        right += 1
    return right, refused


def test_made_files_are_right(tmp_path):
    """F89, F91: container x axes x dtype x names x order."""
    right, refused = check_made(tmp_path, range(24))
    assert right >= 22, json.dumps(refused, indent=1)


@pytest.mark.slow
def test_many_made_files_are_right(tmp_path):
    right, refused = check_made(tmp_path, range(24, 424))
    assert right >= 360, json.dumps(refused, indent=1)


@pytest.mark.parametrize("first", [0, 1])
def test_numbers_that_count_are_no_distances(tmp_path, first):
    """F91: as many cells as there are pairs, with their numbers."""
    path = tmp_path / "brain.npz"
    np.savez(path, rdm=PAIRS, unit=np.arange(len(PAIRS)) + first)
    (found,) = read(path)
    assert is_ours(found)
    with pytest.raises(UserError, match="may be distances of pairs for each of"):
        np.savez(path, rates=RANDOM.random((COUNT, len(PAIRS))), neuroid=np.arange(len(PAIRS)) + first)
        read(path)
