"""Dissimilarities out of tables: matrices with names on two sides, pairs with several numbers, similarities by name."""

import numpy as np
import pytest
from scipy.spatial.distance import squareform

from cnnprobe.errors import UserError
from cnnprobe.references import load

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
    with pytest.raises(UserError, match="two numbers for"):
        read(tmp_path / "a.csv", rows)


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
