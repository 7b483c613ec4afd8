"""Dissimilarities out of tables: matrices with names on two sides, pairs with several numbers, similarities by name."""

import h5py
import numpy as np
import pytest
from scipy.io import savemat
from scipy.spatial.distance import pdist, squareform

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.references.named import load
from tests.support.files.matlab_files import Matlab

NAMES = [f"{word}.png" for word in ("ant", "bee", "cat", "dog", "eel", "fox")]
STEMS = [name[:-4] for name in NAMES]
COUNT = len(NAMES)
PAIRS = np.random.default_rng(0).uniform(0.1, 1, COUNT * (COUNT - 1) // 2).round(6)
SQUARE = squareform(PAIRS)
LIKE = np.corrcoef(np.random.default_rng(1).normal(size=(COUNT, 9))).round(6)


def read(path, rows, inside=""):
    path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    (one,) = load(f"{path}{inside}", conditions=NAMES)
    return one


def pairs_of(*squares, head=("distance",)):
    rows = [[STEMS[a], STEMS[b], *(one[a, b] for one in squares)] for a in range(COUNT) for b in range(a)]
    return [["left", "right", *head], *rows]


def test_names_on_top_in_another_order_than_in_front(tmp_path):
    """F90: a matrix, not features."""
    down, along = np.random.default_rng(2).permutation(COUNT), np.random.default_rng(3).permutation(COUNT)
    rows = [["", *(STEMS[b] for b in along)]] + [[STEMS[a], *(SQUARE[a, b] for b in along)] for a in down]
    one = read(tmp_path / "rdm.csv", rows)
    np.testing.assert_allclose(one.matrices[0, 0, 0], PAIRS)
    assert one.rows == "by name without ending (column 1)" and one.taken == "stimulus stimulus"
    rows[1][1] = rows[2][2] = rows[3][3] = 7.5
    with pytest.raises(UserError, match=r"mirror image|on its diagonal"):
        read(tmp_path / "rdm.csv", rows)


@pytest.mark.parametrize("kept", [lambda a, b: a > b, lambda a, b: a < b, lambda a, b: a >= b])
def test_one_triangle_between_names(tmp_path, kept):
    rows = [["", *STEMS]] + [[STEMS[a], *(SQUARE[a, b] if kept(a, b) else "" for b in range(COUNT))]
                             for a in range(COUNT)]  # fmt: skip
    np.testing.assert_allclose(read(tmp_path / "rdm.csv", rows).matrices[0, 0, 0], PAIRS)


def test_of_several_numbers_the_distance_is_taken_or_none(tmp_path):
    """F90: what comes first behind the names may be a reaction time."""
    other = squareform(PAIRS[::-1])
    one = read(tmp_path / "a.csv", pairs_of(other, SQUARE, head=("rt", "distance")))
    np.testing.assert_allclose(one.matrices[0, 0, 0], PAIRS)
    rows = pairs_of(other, SQUARE, head=("rt", "rating"))
    with pytest.raises(UserError, match="several numbers for each pair: rt, rating; say which"):
        read(tmp_path / "b.csv", rows)
    np.testing.assert_allclose(read(tmp_path / "b.csv", rows, ":rating").matrices[0, 0, 0], PAIRS)


def test_subjects_in_front_of_pairs_are_no_stimuli(tmp_path):
    """Subject and first stimulus are no pair, whose values would all be missing."""
    both = [[STEMS[a], STEMS[b], SQUARE[a, b]] for a in range(COUNT) for b in range(COUNT) if a != b]
    rows = [["subject", "left", "right", "distance"], *(["sub-1", *row] for row in both)]
    np.testing.assert_allclose(read(tmp_path / "a.csv", rows).matrices[0, 0, 0], PAIRS)
    rows += [["sub-2", *row[:2], row[2] * 2] for row in both]
    one = read(tmp_path / "a.csv", rows)
    np.testing.assert_allclose(one.matrices[:, 0, 0], [PAIRS, 2 * PAIRS])


def test_pairs_with_a_number_for_each_subject_are_subjects(tmp_path, caplog):
    """F90: in any order of the rows, one pair missing; another column than that of subjects is named."""
    rows = pairs_of(SQUARE)[1:]
    long = [
        [f"s{n}", *row[:2], round(row[2] * (n + 1), 6), n, place] for n in range(3) for place, row in enumerate(rows)
    ]
    long = [long[at] for at in np.random.default_rng(5).permutation(len(long)) if long[at][:3] != ["s1", *rows[0][:2]]]
    head = ["participant_id", "image1", "image2", "dissimilarity", "rater", "row"]
    one = read(tmp_path / "a.csv", [head, *long])
    expected = np.stack([PAIRS, 2 * PAIRS, 3 * PAIRS])
    order = list(dict.fromkeys(row[0] for row in long))
    expected = expected[[int(word[1]) for word in order]]
    expected[order.index("s1"), [set(rows[0][:2]) == {STEMS[a], STEMS[b]} for a, b in zip(*UPPER)]] = np.nan
    np.testing.assert_allclose(one.matrices[:, 0, 0], expected, rtol=1e-5)
    assert one.axes == ("subject",) and "1 of 45 pairs have no value" in caplog.text
    with pytest.raises(UserError, match=r"has two numbers for \w+ and \w+; column 'task' tells them apart: give one"):
        read(tmp_path / "a.csv", [["task", *head[1:]], *long])
    with pytest.raises(UserError, match=r"has two numbers for \w+ and \w+; average repeats first"):
        read(tmp_path / "a.csv", [head, *(["t", *row[1:4], 1, row[5]] for row in long)])


@pytest.mark.parametrize("diagonal", [np.nan, 0.0])
def test_what_is_called_a_similarity_is_not_taken_for_a_distance(tmp_path, diagonal):
    """F90: correlations whose diagonal was left out or set to 0."""
    given = LIKE.copy()
    np.fill_diagonal(given, diagonal)
    for word in ("similarity", "RSM", "corr", "mean_correlation"):
        np.savez(tmp_path / "a.npz", **{word: given})
        with pytest.raises(UserError, match=f"{word} is called a similarity"):
            load(f"{tmp_path}/a.npz", conditions=NAMES)
        with pytest.raises(UserError, match=f"{word} is called a similarity"):
            read(tmp_path / "pairs.csv", pairs_of(LIKE, head=(word,)))
    for word in ("rdm", "correlation_distance", "dissimilarity", "region"):
        np.savez(tmp_path / "a.npz", **{word: given})
        assert len(load(f"{tmp_path}/a.npz:{word}", conditions=NAMES)) == 1


@pytest.mark.parametrize("word", ["similarity", "RSM", "corr", "mean_correlation", "r"])
def test_what_is_called_a_similarity_and_has_a_diagonal_of_0_is_told(tmp_path, word, caplog):
    """F90: it may be a correlation distance, or a correlation whose diagonal was set to 0."""
    np.savez(tmp_path / "a.npz", **{word: SQUARE})
    (one,) = load(f"{tmp_path}/a.npz", conditions=NAMES)
    np.testing.assert_array_equal(one.matrices[0, 0, 0], PAIRS)
    assert f"{word} is called a similarity and has 0 on its diagonal" in caplog.text
    np.savez(tmp_path / "b.npz", **{f"{word}_distance": SQUARE})
    caplog.clear()
    load(f"{tmp_path}/b.npz", conditions=NAMES)
    assert "called" not in caplog.text


@pytest.mark.parametrize("word", ["r0", "R12", "r_1", "sub-01_r2"])
def test_an_r_with_a_number_is_no_correlation(tmp_path, word, caplog):
    """F90: runs, raters and regions are numbered so."""
    np.save(tmp_path / f"{word}.npy", SQUARE)
    (one,) = load(f"{tmp_path}/{word}.npy", conditions=NAMES, order="lexical")
    np.testing.assert_array_equal(one.matrices[0, 0, 0], PAIRS)
    assert "similarity" not in caplog.text


@pytest.mark.parametrize("word", ["similarity", "mean_similarity_ratings", "corr", "mean correlation", "r"])
def test_what_is_called_a_similarity_and_has_no_diagonal_is_refused(tmp_path, word):
    """F90: of any range; a matrix with one is turned, and of one whose diagonal is 0 a warning says what it is."""
    ratings = np.abs(LIKE) * 80 if "similarity" in word else np.abs(LIKE)
    np.savez(tmp_path / "a.npz", **{word: squareform(ratings, checks=False)})
    gaps = ratings.copy()
    np.fill_diagonal(gaps, np.nan)
    np.savez(tmp_path / "b.npz", **{word: gaps})
    for name in ("a.npz", "b.npz"):
        with pytest.raises(UserError, match=f"{word} is called a similarity, .* store 1 - similarity, or call it a"):
            load(f"{tmp_path / name}", conditions=NAMES)
    with pytest.raises(UserError, match=f"{word} is called a similarity, .* store 1 - similarity, or call it a"):
        read(tmp_path / "pairs.csv", pairs_of(ratings, head=(word,)))


def test_features_in_front_of_the_names_are_told(tmp_path, caplog):
    rows = [["size", "image", "weight"], *([a * a, STEMS[a], 2.0 * a] for a in range(COUNT))]
    one = read(tmp_path / "features.csv", rows)
    upper = np.triu_indices(COUNT, 1)
    np.testing.assert_allclose(one.matrices[0, 0, 0], 2.0 * (upper[1] - upper[0]))
    assert "passed over size, in front of the names (image)" in caplog.text
    with pytest.raises(UserError, match="some in several rows"):
        read(tmp_path / "features.csv", [*rows, [1, STEMS[0], 3]])


def test_the_features_that_are_compared_are_named_and_words_among_them_are_told(tmp_path, caplog):
    """F90: a number that stands for a category counts as a feature, and is seen to."""
    rows = [["image", "kind", "category", "weight"], *([STEMS[a], "animal", a % 2, 2.0 * a] for a in range(COUNT))]
    one = read(tmp_path / "features.csv", rows)
    assert one.taken == "features category, weight"
    assert "passed over kind: no numbers" in caplog.text


UPPER = np.triu_indices(COUNT, 1)
NUMBERED = sorted(f"{number}.png" for number in range(12))
SHUFFLED = np.random.default_rng(5).permutation(12)
POINTS = np.random.default_rng(6).normal(size=(12, 3)).round(6)
APART = np.linalg.norm(POINTS[:, None] - POINTS[None], axis=-1)


def read_numbered(path, rows):
    path.write_text("\n".join(",".join(map(str, row)) for row in rows) + "\n")
    (one,) = load(str(path), conditions=NUMBERED)
    return one


@pytest.mark.parametrize("cut", [None, -4])
def test_a_running_number_does_not_speak_against_the_names_beside_it(tmp_path, cut):
    """F89: a head, an index or a trial number of 0 to 11 beside images 0.png to 11.png in another order."""
    names = [NUMBERED[place][:cut] for place in SHUFFLED]
    expected = APART[np.triu_indices(12, 1)]
    square = APART[np.ix_(SHUFFLED, SHUFFLED)]
    rows = [["", *range(12)], *([name, *row] for name, row in zip(names, square))]
    one = read_numbered(tmp_path / "pandas.csv", rows)
    np.testing.assert_allclose(one.matrices[0, 0, 0], expected)
    assert one.rows.endswith("(column 1)")
    for begin, title in ((0, ""), (1, "trial")):
        rows = [[begin + at, name, *POINTS[place]] for at, (name, place) in enumerate(zip(names, SHUFFLED))]
        one = read_numbered(tmp_path / "features.csv", [[title, "image", "a", "b", "c"], *rows])
        np.testing.assert_allclose(one.matrices[0, 0, 0], expected)
        assert one.rows.endswith("(image)") and one.taken == "features a, b, c"


def test_two_columns_of_names_in_different_orders_are_refused(tmp_path):
    """F89: neither is a running number, and neither is nearer to the names."""
    rows = [[place, SHUFFLED[-at - 1], *POINTS[place]] for at, place in enumerate(SHUFFLED)]
    with pytest.raises(UserError, match="image and before both name the images, in different orders"):
        read_numbered(tmp_path / "a.csv", [["image", "before", "a", "b", "c"], *rows])


def cells_of(square, text):
    return [["", *STEMS], *([STEMS[a], *map(text, row)] for a, row in enumerate(square))]


def test_stars_and_a_long_minus_are_no_gaps(tmp_path, caplog):
    """F90: 3.21* and U+2212 were no numbers, and NaN."""
    one = read(tmp_path / "a.csv", cells_of(SQUARE, lambda value: f"{value}{'*' if value > 0.5 else ''}"))
    np.testing.assert_allclose(one.matrices[0, 0, 0], PAIRS)
    assert f"stars behind {(SQUARE > 0.5).sum()} numbers are left out" in caplog.text
    one = read(tmp_path / "b.csv", cells_of(LIKE * 1e-3, lambda value: f"{value:.6e}".replace("-", "\u2212")))
    np.testing.assert_allclose(one.matrices[0, 0, 0], 1e-3 - 1e-3 * LIKE[UPPER], atol=1e-9)
    assert "no value" not in caplog.text


@pytest.mark.parametrize("kind", ["matrix", "triangle", "pairs", "features"])
def test_a_cell_that_is_no_number_is_refused_and_empty_ones_are_counted(tmp_path, caplog, kind):
    """F90: what is missing is said, and so is what cannot be read."""
    for cell in ("", "n/a", "-", "0.5?"):
        if kind == "matrix":
            rows = cells_of(SQUARE, str)
            rows[1][3] = rows[3][1] = cell
        elif kind == "triangle":
            rows = [list(PAIRS)]
            rows[0][1] = cell
        elif kind == "pairs":
            rows = pairs_of(SQUARE)
            rows[2][2] = cell
        else:
            rows = [["image", "size"], *([name, place * 1.5] for place, name in enumerate(STEMS))]
            rows[1][1] = cell
        if cell == "0.5?":
            with pytest.raises(UserError, match=r"row \d, column .* is '0.5\?', which is no number"):
                read(tmp_path / "a.csv", rows)
            continue
        caplog.clear()
        missing = np.isnan(read(tmp_path / "a.csv", rows).matrices).sum()
        assert missing == (COUNT - 1 if kind == "features" else 1)
        assert f"{missing} of {len(PAIRS)} pairs have no value" in caplog.text


def test_a_comma_between_thousands_is_no_point(tmp_path):
    """F90: 1,234 beside 990 and 850."""
    times = np.array([850, 990, 1234, 1100, 2500, 730.0])
    rows = [["image", "time"], *([name, f'"{value:,.0f}"'] for name, value in zip(STEMS, times))]
    one = read(tmp_path / "a.csv", rows)
    np.testing.assert_allclose(one.matrices[0, 0, 0], np.abs(times[UPPER[0]] - times[UPPER[1]]))
    rows = [["image", "time"], *([name, f'"{value + 1000:,.0f}"'] for name, value in zip(STEMS, times))]
    with pytest.raises(UserError, match=r"1,850 may be 1.850 or 1850; write a point"):
        read(tmp_path / "a.csv", rows)
    for other, factor in (("0,5", 1e-3), ("0.5", 1)):  # another column tells
        beside = [[*rows[0], "other"], *([*row, f'"{other}"'] for row in rows[1:])]
        one = read(tmp_path / "a.csv", beside)
        np.testing.assert_allclose(one.matrices[0, 0, 0], factor * np.abs(times[UPPER[0]] - times[UPPER[1]]))
    rows[1][1] = '"0,85"'
    rows[2][1] = "1.5"
    with pytest.raises(UserError, match=r"has 0,85 and 1.5"):
        read(tmp_path / "a.csv", rows)


GROUPED = (("3.070,05", "3.070", "850,5"), ("3 070,05", "3 070", "850,5"), ("3\u202f070,05", "3\u202f070", "850,5"),
           ("3'070.05", "3'070", "850.5"))  # fmt: skip


@pytest.mark.parametrize("words", GROUPED)
def test_other_marks_between_thousands(tmp_path, words, caplog):
    """F90: 3.070,05 was passed over as a word, and another column was taken."""
    values, cells = [3070.05, 3070, 850.5], ["rate", *words * 2]
    rows = [["image", "rate"], *([name, cell] for name, cell in zip(STEMS, cells[1:]))]
    rows = [[*row, beside] for row, beside in zip(rows, ("other", 1, 2, 3, 4, 5, 6))]
    (tmp_path / "a.csv").write_text("".join(";".join(map(str, row)) + "\n" for row in rows))
    (one,) = load(f"{tmp_path}/a.csv:rate", conditions=NAMES)
    times = np.array(values * 2)
    np.testing.assert_allclose(one.matrices[0, 0, 0], np.abs(times[UPPER[0]] - times[UPPER[1]]), rtol=1e-6)
    assert "passed over" not in caplog.text


def test_a_point_that_may_be_either_is_refused(tmp_path):
    """F90: beside 3.070,05 a 3.07 has another point, and a column of 1.500 alone may have either."""

    def written(some):
        rows = ["image;rate;other", *(f"{name};{cell};{beside}" for name, (cell, beside) in zip(STEMS, some))]
        (tmp_path / "a.csv").write_text("\n".join(rows))
        load(f"{tmp_path}/a.csv", conditions=NAMES)

    with pytest.raises(UserError, match=r"row 3, column rate is 3.07, and others have '.' between thousands, as 3.070"):
        written([("3.070,05", 1), ("3.07", 2)] * 3)
    with pytest.raises(UserError, match=r"row 2, column rate is 1.500, which may be a point for the decimals or"):
        written([("1.500", "3.070,05"), ("1.750", "25")] * 3)
    with pytest.raises(UserError, match=r"row 2, column rate is 1.500"):
        written([("1.500", "2,5")] * 6)


@pytest.mark.parametrize("others", [0, 2])
def test_the_first_pair_is_no_head(tmp_path, others):
    """F90: a table of pairs without a head, with and without pairs of other stimuli."""
    words = [*STEMS, "gnu", "hen"][: COUNT + others]
    square = squareform(np.random.default_rng(9).uniform(0.1, 1, len(words) * (len(words) - 1) // 2).round(6))
    rows = [[words[a], words[b], square[a, b]] for a in range(len(words)) for b in range(a + 1, len(words))]
    one = read(tmp_path / "a.csv", rows)
    np.testing.assert_allclose(one.matrices[0, 0, 0], square[UPPER])
    assert one.rows.endswith("(column 1, column 2: column 3)")


@pytest.mark.parametrize("place", [1, 4, COUNT + 1])
def test_a_column_beside_a_matrix_does_not_make_it_features(tmp_path, caplog, place):
    """F90: distances between rows of distances are none."""
    rows = cells_of(SQUARE, str)
    for at, row in enumerate(rows):
        row.insert(place, at % 2 if at else "animacy")
    one = read(tmp_path / "a.csv", [*rows, ["mean", *[0.5] * (COUNT + 1)]])
    np.testing.assert_allclose(one.matrices[0, 0, 0], PAIRS)
    assert "passed over animacy, the row mean, beside the square matrix" in caplog.text


def test_names_with_underscores_are_no_numbers(tmp_path):
    """F90: Python reads 1_2 as 12."""
    names = [f"{a}_{b}" for a in (1, 2) for b in (1, 2, 3)]
    rows = [["image", "size"], *([name, place**2] for place, name in enumerate(names))]
    (tmp_path / "a.csv").write_text("\n".join(",".join(map(str, row)) for row in [rows[0], *rows[:0:-1]]))
    (one,) = load(f"{tmp_path}/a.csv", conditions=[f"{name}.png" for name in names])
    size = np.arange(6) ** 2
    np.testing.assert_allclose(one.matrices[0, 0, 0], np.abs(size[UPPER[0]] - size[UPPER[1]]))
    pairs = [["left", "right", "distance"]]
    pairs += [[names[a], names[b], SQUARE[a, b]] for a in range(6) for b in range(a)]
    (tmp_path / "b.csv").write_text("\n".join(",".join(map(str, row)) for row in pairs))
    (one,) = load(f"{tmp_path}/b.csv", conditions=[f"{name}.png" for name in names])
    np.testing.assert_allclose(one.matrices[0, 0, 0], PAIRS)


def rows_of_features(path, kind):
    """Write names and two features in rows of one array; return the path and the distances of the named rows."""
    values = np.random.default_rng(4).normal(size=(COUNT + 1, 2))
    order = np.random.default_rng(5).permutation(COUNT + 1)
    names = [*STEMS, "gnu"]
    array = np.array([(names[at], *values[at]) for at in order], [("name", "U5"), ("x", "f8"), ("y", "f8")])
    path = path.with_suffix({"h5": ".h5", "mat5": ".mat", "mat73": ".mat"}.get(kind, f".{kind}"))
    if kind == "npy":
        np.save(path, array)
    elif kind == "npz":
        np.savez(path, table=array)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["table"] = array.astype([("name", "S5"), ("x", "f8"), ("y", "f8")])
    elif kind == "mat5":
        savemat(path, {"table": array.astype([(key, "O") for key in ("name", "x", "y")])})
    else:
        with Matlab(path) as file:
            file.put("table", tuple({"name": str(a), "x": [[b]], "y": [[c]]} for a, b, c in array))
    return path, pdist(values[:COUNT])


@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "mat5", "mat73"])
def test_rows_of_an_array_that_name_the_images_are_features(tmp_path, kind):
    """F90: as those of a table."""
    path, expected = rows_of_features(tmp_path / "a", kind)
    (one,) = load(str(path), conditions=NAMES)
    np.testing.assert_allclose(one.matrices[0, 0, 0], expected)
    assert one.taken == "features x, y" and one.rows.startswith("by name without ending; 1 of its 7 rows")
    (one,) = load(f"{path}:{'x' if kind == 'npy' else 'table/x'}", conditions=NAMES)
    assert one.taken == "features x"
    with pytest.raises(UserError, match="has no matrix of 4 conditions"):
        load(str(path), conditions=[f"{name}.png" for name in ("owl", "pig", "ram", "sow")])


def test_rows_beside_another_array_are_no_features(tmp_path):
    """F90: it may be what was meant."""
    table = np.array([*zip(STEMS, range(COUNT))], [("name", "U5"), ("shown", "f8")])
    np.savez(tmp_path / "a.npz", stimuli=table, rdm=SQUARE[:5, :5])
    with pytest.raises(UserError, match="has no matrix of 6 conditions"):
        load(f"{tmp_path}/a.npz", conditions=NAMES)
    (one,) = load(f"{tmp_path}/a.npz:stimuli", conditions=NAMES)
    np.testing.assert_array_equal(one.matrices[0, 0, 0], pdist(np.arange(COUNT)[:, None]))
    np.savez(tmp_path / "a.npz", stimuli=table, rdm=SQUARE)
    (one,) = load(f"{tmp_path}/a.npz", conditions=NAMES)
    np.testing.assert_allclose(one.matrices[0, 0, 0], PAIRS)


def test_rows_of_an_array_with_gaps_are_told(tmp_path, caplog):
    """F90: what a mask covers is missing, and so are its pairs."""
    values = np.random.default_rng(6).normal(size=(COUNT, 2))
    rows = np.ma.array([*zip(STEMS, *values.T)], [("name", "U5"), ("x", "f8"), ("y", "f8")])
    rows["x"][2] = np.ma.masked
    rows.data["x"][2] = 1e9
    np.savez(tmp_path / "a.npz", data=rows.data, mask=rows.mask)
    (one,) = load(f"{tmp_path}/a.npz", conditions=NAMES)
    values[2] = np.nan
    np.testing.assert_allclose(one.matrices[0, 0, 0], pdist(values))
    assert "1 of 6 values are missing, as mask/x says" in caplog.text
    assert "a.npz: 5 of 15 pairs have no value and are left out" in caplog.text


@pytest.mark.parametrize("kind", ["features", "matrix"])
def test_two_images_of_one_row_are_named(tmp_path, kind):
    """F89: cat.png and cat.jpg for the row cat, where no name is in several rows."""
    rows = [["image", "a", "b"], *([name, n, n * n] for n, name in enumerate(STEMS))]
    rows = [["", *STEMS], *([name, *line] for name, line in zip(STEMS, SQUARE))] if kind == "matrix" else rows
    path = tmp_path / "a.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    with pytest.raises(UserError, match=r"'cat' fits several images, 'cat.png' and 'cat.jpg'"):
        load(str(path), conditions=[*NAMES, "cat.jpg"])
