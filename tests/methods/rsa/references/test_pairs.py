"""Distances beside the names or the numbers of the two conditions of each pair, in files of every kind."""

import logging
import tracemalloc
from itertools import combinations

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial.distance import squareform

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.references.named import load
from cnnprobe.methods.rsa.references.pairs import every_pair, refuse_triplets, two_names
from tests.support.files.matlab_files import Matlab

NAMES = [f"{word}.png" for word in ("ant", "bee", "cat", "dog", "eel", "fox")]
MORE = [*(name[:-4] for name in NAMES), "gnu"]
"""Stems of the images, and one that is no image."""
RANDOM = np.random.default_rng(0)


def shuffled(count):
    """Return (pair,) first and second, in any order and turned round at will, and their distances; and the matrix."""
    first, second = np.triu_indices(count, 1)
    square = squareform(RANDOM.uniform(0.1, 1, len(first)))
    order, turned = RANDOM.permutation(len(first)), RANDOM.random(len(first)) < 0.5
    first, second = np.where(turned, second, first)[order], np.where(turned, first, second)[order]
    return first, second, square[first, second], square


def structured(path, first, second, values):
    table = np.array([*zip(first, second, values)], [("a", "U10"), ("b", "U10"), ("d", "f4")])
    np.save(path.with_suffix(".npy"), table)
    return path.with_suffix(".npy")


def compound(path, first, second, values):
    table = np.array([*zip(first, second, values)], [("stim1", "S10"), ("stim2", "S10"), ("dissimilarity", "f8")])
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["about"] = np.array(["one", "two"], "S")
        file["data/pairs"] = table
    return path.with_suffix(".h5")


def beside(path, first, second, values):
    np.savez(path.with_suffix(".npz"), stim=first, other=second, rdm=np.stack([values, values]))
    return path.with_suffix(".npz")


def two_columns(path, first, second, values):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["pairs"], file["rdm"] = np.stack([first, second], 1).astype("S"), values
    return path.with_suffix(".h5")


def two_rows(path, first, second, values):
    np.savez(path.with_suffix(".npz"), pairs=np.stack([first, second]), rdm=values)
    return path.with_suffix(".npz")


def cells(path, first, second, values):
    words = {name: np.array([*side], object)[:, None] for name, side in (("first", first), ("second", second))}
    savemat(path.with_suffix(".mat"), {**words, "stimuli": np.array(MORE, object), "rdm": values[:, None]})
    return path.with_suffix(".mat")


@pytest.mark.parametrize("write", [structured, compound, beside, two_columns, two_rows, cells])
@pytest.mark.parametrize("count", [6, 7])
def test_two_names_beside_each_distance_say_the_pair(tmp_path, write, count):
    """F89: rows in any order, and of more conditions than there are images."""
    first, second, values, square = shuffled(count)
    words = np.array(MORE)
    for one in load(str(write(tmp_path / "made", words[first], words[second], values)), conditions=NAMES):
        np.testing.assert_allclose(one.matrices[0, 0, 0], square[np.triu_indices(6, 1)], rtol=1e-6)
        assert one.rows.startswith("by name without ending") and ("1 of its 7" in one.rows) == (count == 7)


def test_names_that_do_not_have_each_pair_once_are_refused(tmp_path):
    """F89: as are names of one side alone, and two lists of pairs that differ."""
    first, second, values, _ = shuffled(6)
    words = np.array(MORE)
    wrong = first.copy()
    wrong[0] = wrong[1]
    for given in ({"first": words[wrong], "second": words[second]}, {"first": words[first]}):
        np.savez(tmp_path / "a.npz", rdm=values, **given)
        with pytest.raises(UserError, match=r"first.* names? conditions for each of the 15 values of rdm, but not"):
            load(f"{tmp_path}/a.npz", conditions=NAMES)
    texts = words[first], words[second], words[::-1][first + 1], words[::-1][second + 1]
    np.savez(tmp_path / "b.npz", rdm=values, a=texts[0], b=texts[1], c=texts[2], d=texts[3])
    with pytest.raises(UserError, match="a, b and c, d say different pairs for rdm"):
        load(f"{tmp_path}/b.npz", conditions=NAMES)


def columns(path, first, second, values):
    np.save(path.with_suffix(".npy"), np.stack([first, second, values], 1))
    return path.with_suffix(".npy")


def matlab_columns(path, first, second, values):
    savemat(path.with_suffix(".mat"), {"pairs": np.stack([first, second, values])})
    return path.with_suffix(".mat")


def vectors(path, first, second, values):
    np.savez(path.with_suffix(".npz"), i=first, j=second, distance=values)
    return path.with_suffix(".npz")


def indices(path, first, second, values):
    np.savez(path.with_suffix(".npz"), upper=np.stack([first, second]), distance=values)
    return path.with_suffix(".npz")


def table(path, first, second, values):
    np.savetxt(path.with_suffix(".csv"), np.stack([first, second, values], 1), ["%d", "%d", "%.9f"], delimiter=",")
    return path.with_suffix(".csv")


def headed(path, first, second, values):
    table(path, first, second, values)
    path.with_suffix(".csv").write_text("i,j,distance\n" + path.with_suffix(".csv").read_text())
    return path.with_suffix(".csv")


@pytest.mark.parametrize("write", [columns, matlab_columns, vectors, indices, table, headed])
@pytest.mark.parametrize("begin", [0, 1])
def test_two_numbers_beside_each_distance_say_the_pair(tmp_path, write, begin, caplog):
    """F91: they are no subjects, and no dissimilarities of their own."""
    logging.getLogger("cnnprobe").propagate = True
    first, second, values, square = shuffled(6)
    path = write(tmp_path / "made", first + begin, second + begin, values)
    (one,) = load(str(path), conditions=NAMES)
    assert one.matrices.shape == (1, 1, 1, 15)
    np.testing.assert_allclose(one.matrices[0, 0, 0], square[np.triu_indices(6, 1)], rtol=1e-6)
    assert f"numbers of the two conditions of each pair, {begin} to {5 + begin}, in the order of the" in caplog.text
    with pytest.raises(UserError, match="no names that decide the order"):
        load(str(path), conditions=[f"img{n}.png" for n in (10, 2, 3, 4, 5, 6)])
    (one,) = load(str(path), conditions=NAMES[::-1], order="natural")
    np.testing.assert_allclose(one.matrices[0, 0, 0], square[::-1, ::-1][np.triu_indices(6, 1)], rtol=1e-6)


def test_numbers_point_into_the_names_that_come_with_them(tmp_path):
    first, second, values, square = shuffled(6)
    order = RANDOM.permutation(6)
    np.savez(tmp_path / "a.npz", i=first, j=second, rdm=values, stimuli=np.array(MORE)[order])
    (one,) = load(f"{tmp_path}/a.npz", conditions=NAMES)
    back = np.argsort(order)
    np.testing.assert_allclose(one.matrices[0, 0, 0], square[np.ix_(back, back)][np.triu_indices(6, 1)])
    np.savez(tmp_path / "b.npz", i=10 * first + 7, j=10 * second + 7, rdm=values)  # of stimuli, not of rows
    (one,) = load(f"{tmp_path}/b.npz", conditions=[f"img{n:02d}.png" for n in range(7, 67, 10)])
    np.testing.assert_allclose(one.matrices[0, 0, 0], square[np.triu_indices(6, 1)])
    with pytest.raises(UserError, match="names its rows 7, 17"):
        load(f"{tmp_path}/b.npz", conditions=[f"img{n:02d}.png" for n in (1, 2, 3, 5, 7, 11)])


def test_numbers_that_do_not_have_each_pair_once_are_refused(tmp_path):
    """F91."""
    first, second, values, _ = shuffled(6)
    first[0] = first[1] = second[1]
    for write, words in ((columns, "in its first two columns alone"), (vectors, "i and j are called as numbers")):
        path = write(tmp_path / "made", first, second, values)
        with pytest.raises(UserError, match=f"{words}.*once; give one"):
            load(str(path), conditions=NAMES)


def test_ratings_in_whole_numbers_are_no_numbers_of_pairs(tmp_path):
    ratings = RANDOM.integers(1, 7, (15, 3))
    np.save(tmp_path / "a.npy", ratings)
    (one,) = load(f"{tmp_path}/a.npy", conditions=NAMES)
    np.testing.assert_array_equal(one.matrices[:, 0, 0], ratings.T)
    assert every_pair(*ratings[:, :2].T.tolist()) is None and every_pair(["a", "a"], ["b", "b"]) is None


def test_the_first_row_of_a_table_without_a_head_is_shown(tmp_path):
    (tmp_path / "a.csv").write_text("6,10,4.2\n4,5,3.9\n1,3,0.8\n")
    with pytest.raises(UserError, match=r"its first row is 6, 10, 4.2$"):
        load(f"{tmp_path}/a.csv", conditions=NAMES)


@pytest.mark.parametrize("between", ["-", "_", " vs ", " vs. ", "|", "_vs_", " - ", "--", " ", "/", ":", " & ", "->"])
@pytest.mark.parametrize("ending", ["csv", "bare.csv", "npz", "mat"])
def test_two_names_in_one_text_say_the_pair(tmp_path, between, ending):
    """F89: the order of the rows is that of the names, not of `pdist`."""
    first, second, values, square = shuffled(6)
    texts = [f"{MORE[a]}{between}{MORE[b]}" for a, b in zip(first, second)]
    path = tmp_path / f"a.{ending}"
    if ending == "npz":
        np.savez(path, pair=texts, rdm=values)
    elif ending == "mat":
        savemat(path, {"pair": np.array(texts, object)[:, None], "rdm": values[:, None]})
    else:
        lines = [f"{text};{value!r}" for text, value in zip(texts, values.tolist())]
        path.write_text("\n".join(["pair;distance"] * (ending == "csv") + lines))
    (one,) = load(str(path), conditions=NAMES)
    np.testing.assert_allclose(one.matrices[0, 0, 0], square[np.triu_indices(6, 1)])
    assert one.rows.startswith("by name without ending")


def test_two_numbers_in_one_text_are_names_where_images_are_numbered(tmp_path):
    """F89."""
    first, second, values, square = shuffled(6)
    lines = [f"{a + 1}-{b + 1},{d!r}" for a, b, d in zip(first, second, values.tolist())]
    (tmp_path / "a.csv").write_text("\n".join(["pair,distance", *lines]))
    (one,) = load(f"{tmp_path}/a.csv", conditions=[f"{n}.png" for n in (2, 1, 3, 4, 5, 6)])
    order = [1, 0, 2, 3, 4, 5]
    np.testing.assert_allclose(one.matrices[0, 0, 0], square[np.ix_(order, order)][np.triu_indices(6, 1)])


def test_a_text_with_thousands_of_places_to_cut_it_is_no_pair():
    """F102: each cut is as long as the text, and 100 kB would be 10 GB."""
    tracemalloc.start()
    assert two_names(["a-" * 4000] * 3, NAMES, "x") is None
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_two_names_in_one_text_that_can_be_cut_in_two_ways_are_refused(tmp_path, ending):
    """F89: names may hold what stands between them, where one cut alone gives two names."""
    for own, doubt in (("red_ant", ""), ("ant_bee", r"'\w+' can be (ant and bee_ant or ant_bee and ant|bee and)")):
        names = ["ant", "bee", own, "bee_ant"]
        first, second, values, square = shuffled(4)
        texts = ["_".join([names[max(a, b)], names[min(a, b)]]) for a, b in zip(first, second)]
        path = tmp_path / f"{own}.{ending}"
        if ending == "npz":
            np.savez(path, pair=texts, rdm=values)
        else:
            path.write_text("\n".join(["pair,distance", *(f"{a},{b!r}" for a, b in zip(texts, values.tolist()))]))
        if doubt:
            with pytest.raises(UserError, match=f"pair has both names of a pair in one text, but {doubt}"):
                load(str(path), conditions=[f"{name}.png" for name in names])
        else:
            (one,) = load(str(path), conditions=[f"{name}.png" for name in names])
            np.testing.assert_allclose(one.matrices[0, 0, 0], square[np.triu_indices(4, 1)])


def test_a_text_that_is_not_two_names_is_refused(tmp_path):
    first, second, values, _ = shuffled(7)
    texts = [f"{MORE[a]} {MORE[b]}" for a, b in zip(first, second)]
    texts[3] = "ant bee two"
    np.savez(tmp_path / "a.npz", pair=texts, rdm=values)
    with pytest.raises(UserError, match="but 'ant bee two' is not two of the names of conditions; give"):
        load(f"{tmp_path}/a.npz", conditions=NAMES)


@pytest.mark.parametrize("kept", ["off the diagonal", "all", "one triangle and the diagonal"])
@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("kind", ["npz", "npy", "structured", "csv"])
def test_pairs_may_stand_there_in_both_orders(tmp_path, kept, words, kind):
    """F91: a full grid; its two values of a pair must agree, and its diagonal tells what it holds."""
    square = shuffled(6)[3]
    first, second = (side.ravel() for side in np.indices((6, 6)))
    rows = {"off the diagonal": first != second, "all": first >= 0, "one triangle and the diagonal": first >= second}
    order = RANDOM.permutation(np.flatnonzero(rows[kept]))
    first, second = first[order], second[order]
    expected, path = square[np.triu_indices(6, 1)], tmp_path / f"a.{'npy' if kind == 'structured' else kind}"

    def read(values):
        one, other = (np.array(MORE)[side] if words else side for side in (first, second))
        if kind == "npz":
            np.savez(path, i=one, j=other, rdm=values)
        elif kind == "npy" and not words:
            np.save(path, np.stack([one, other, values], 1))
        elif kind == "csv":
            path.write_text("\n".join(["i,j,rdm", *(f"{a},{b},{d!r}" for a, b, d in zip(one, other, values.tolist()))]))
        else:
            np.save(path, np.array([*zip(one, other, values)], [("i", one.dtype), ("j", one.dtype), ("d", "f8")]))
        (found,) = load(str(path), conditions=NAMES)
        return found.matrices[0, 0, 0]

    np.testing.assert_allclose(read(square[first, second]), expected)
    if kept != "off the diagonal":
        np.testing.assert_allclose(read(1 - square[first, second]), expected)  # similarities
    if kept != "one triangle and the diagonal":
        values = square[first, second]
        values[np.flatnonzero(first < second)[0]] += 0.2
        with pytest.raises(UserError, match=r"differs from its mirror image|two numbers for"):
            read(values)


@pytest.mark.parametrize("write", ["mat5", "mat73"])
def test_a_struct_array_has_a_pair_in_each_element(tmp_path, write):
    """F89: s(k).name1, s(k).name2, s(k).d; without names of pairs its numbers are no triangle."""
    first, second, values, square = shuffled(6)

    def save(path, structs):
        if write == "mat5":
            savemat(path, {"s": np.array([tuple(one.values()) for one in structs], [(key, "O") for key in structs[0]])})
        else:
            with Matlab(path) as file:
                file.put("s", tuple({key: one if isinstance(one, str) else [[one]] for key, one in row.items()}
                                    for row in structs))  # fmt: skip
        return str(path)

    rows = [{"name1": MORE[a], "name2": MORE[b], "d": d} for a, b, d in zip(first, second, values.tolist())]
    (one,) = load(save(tmp_path / "a.mat", rows), conditions=NAMES)
    np.testing.assert_allclose(one.matrices[0, 0, 0], square[np.triu_indices(6, 1)])
    assert one.rows == "by name without ending (s/name1, s/name2)"
    rows = [{"subject": f"s{place}", "age": 20.0 + place} for place in range(15)]
    with pytest.raises(UserError, match="has no matrix of 6 conditions"):
        load(save(tmp_path / "b.mat", rows), conditions=NAMES)


def test_triplets_are_refused_as_what_they_are(tmp_path):
    """F90: a number beside them is no dissimilarity of two of them. A file's name beside a name is no third one."""
    names = [f"thing_{number:02d}.png" for number in range(6)]
    rows = [(*some, 1 + place % 3, 0.4) for place, some in enumerate(combinations([name[:-4] for name in names], 3))]
    (tmp_path / "a.csv").write_text(
        "\n".join(",".join(map(str, row)) for row in [("a", "b", "c", "choice", "RT"), *rows])
    )
    for inside in ("", ":choice"):
        with pytest.raises(UserError, match=r"names 3 conditions in each row \(a, b, c\): triplets .* are not read"):
            load(f"{tmp_path}/a.csv{inside}", conditions=names)
    pairs = [(one[:-4], one, two[:-4], two, at) for at, (one, two) in enumerate(combinations(names, 2))]
    refuse_triplets("b.csv", [("a", "A", "b", "B", "dist"), *(list(map(str, row)) for row in pairs)], names)
