"""References as they were measured: square or triangles, subjects, sessions, time, region."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from cnnprobe.errors import UserError
from cnnprobe.methods.rsa.references.given import categorical, reference

RANDOM = np.random.default_rng(0)
N, PAIRS = 5, 10


def squares(*shape):
    found = np.empty((*shape, N, N))
    for place in np.ndindex(*shape):
        found[place] = squareform(RANDOM.random(PAIRS))
    return found


def triangles(matrices):
    return matrices[(..., *np.triu_indices(N, 1))]


def test_one_matrix_square_or_as_its_upper_triangle():
    matrix = squares()
    for given in (matrix, triangles(matrix)):
        found = reference("brain", given, N)
        assert found.matrices.shape == (1, 1, 1, PAIRS) and np.allclose(found.matrices[0, 0, 0], triangles(matrix))
        assert found.axes == () and np.isnan(found.times).all() and found.regions == ("",)


def test_subjects_stay_and_sessions_are_averaged():
    given = squares(3, 2)
    given[0, 1] = np.nan  # a session that is missing
    found = reference("brain", given, N)
    assert found.matrices.shape == (3, 1, 1, PAIRS)
    assert np.allclose(found.matrices[1, 0, 0], triangles(given[1]).mean(0))
    assert np.allclose(found.matrices[0, 0, 0], triangles(given[0, 0]))
    (name, parts), = found.parts()  # fmt: skip
    assert name == "brain" and np.allclose(parts, found.matrices[:, 0, 0])


def test_axes_are_put_in_order_by_their_names():
    given = squares(2, 4, 3, 2)  # region, time, subject, session
    named = {"axes": ["region", "time", "subject", "session"], "times": np.arange(4) * 10.0, "regions": ["V1", "IT"]}
    found = reference("brain", given, N, **named)
    assert found.matrices.shape == (3, 4, 2, PAIRS)
    for subject, time, region in np.ndindex(3, 4, 2):
        own = triangles(given[region, time, subject]).mean(0)
        assert np.allclose(found.matrices[subject, time, region], own)
    assert found.times.tolist() == [0, 10, 20, 30] and found.regions == ("V1", "IT")
    parts = dict(found.parts())
    assert list(parts) == ["brain: V1", "brain: IT"]
    assert np.allclose(parts["brain: IT"], found.matrices[:, :, 1].mean(1))


def test_times_and_regions_have_numbers_where_they_have_no_names():
    found = reference("brain", squares(2, 3), N, axes=["region", "time"])
    assert found.times.tolist() == [0, 1, 2] and found.regions == ("region 0", "region 1")


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ((6, 6), {}, "brain has 6 conditions (6, 6), the dataset gives 5 conditions"),
        ((15,), {}, "brain has 6 conditions (15,), the dataset gives 5"),
        ((7,), {}, "brain has the shape (7,), the dataset gives 5"),
        ((2, 3, 4, 5, 5), {}, "has 3 axes before the conditions; say what they are, e.g. reference_axes="),
        ((2, 5, 5), {"axes": ["subjcts"]}, "no axis 'subjcts' in brain; did you mean 'subject'?"),
        ((2, 5, 5), {"axes": ["subject", "time"]}, "has 1 axes before the conditions, got subject, time"),
        ((2, 5, 5), {"axes": ["time"], "times": np.arange(3)}, "brain has 2 places along time, but 3 names for them"),
    ],
)
def test_what_does_not_fit_is_told(shape, options, words):
    given = np.zeros(shape)
    with pytest.raises(UserError) as told:
        reference("brain", given, N, **options)
    assert words in str(told.value)


def test_as_many_subjects_as_conditions_may_be_responses_of_cells():
    """F91: 5 x 10 are distances of five subjects, or five stimuli shown to ten cells."""
    values = RANDOM.random((N, PAIRS))
    for given in (values, values.T):
        with pytest.raises(UserError, match=r"may be distances of pairs for each of 5 subjects, or responses of cells"):
            reference("firing rates", given, N)
    for name, options in (("rates", {"axes": ["subject", "pair"]}), ("rates", {"paired": True}), ("RDMs", {})):
        assert np.array_equal(reference(name, values, N, **options).matrices[:, 0, 0], values)
    timed = reference("rates", values, N, times=np.arange(N))
    assert timed.axes == ("time",)
    assert reference("rates", values[:4], N).axes == ("subject",)


def test_a_matrix_that_is_not_symmetric_is_refused():
    given = squares()
    given[0, 1] += 0.1
    with pytest.raises(UserError, match="brain is no dissimilarity matrix: it differs from its mirror image"):
        reference("brain", given, N)


def test_conditions_of_one_class_are_alike():
    found = categorical(np.array([0, 0, 1, -1, 1])).matrices[0, 0, 0]
    expected = pdist(np.array([[0.0], [0], [1], [0], [1]]), "cityblock")
    known = np.ones((N, N), bool)
    known[3] = known[:, 3] = False
    assert np.array_equal(found, np.where(triangles(known), expected, np.nan), equal_nan=True)
