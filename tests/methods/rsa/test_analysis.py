"""The whole analysis on a network whose layers are known, against brute force; controls, classes, dead layers."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import pdist, squareform
from torch import nn

from cnnprobe.datasets.base.given import Given
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import activations
from cnnprobe.instruments.statistics.dissimilarity import upper
from cnnprobe.machine.computation import Computation
from cnnprobe.methods.rsa.analysis import MatrixAnalysis
from cnnprobe.methods.rsa.comparing.noise_ceiling import noise_ceiling
from cnnprobe.methods.rsa.references.given import PIXELS, reference
from cnnprobe.store.tables import Rows
from tests.support.networks.gap import pictures
from tests.support.networks.turning import Turning

IMAGES = pictures(14, 16)
LAYERS = ["conv1", "conv2", "conv3"]


def network():
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 8, 5), nn.ReLU(), nn.Conv2d(8, 6, 5, stride=2), nn.ReLU(), nn.Conv2d(6, 9, 3), nn.Flatten()
    ).eval()


class Labelled(Given):
    def __init__(self, images, labels, classes=("a", "b", "c", "d")):
        super().__init__(images)
        self.labels, self.classes = np.asarray(labels), classes


def analysis(model, dataset=None, references=None, **options):
    dataset = Given(IMAGES) if dataset is None else dataset
    given = {"axes": None, "controls": (), "by_class": False, "metric": "correlation", "comparison": "spearman"}
    given |= {"draws": 40, "over": "conditions", "permutations": 60} | options
    own = {"batch_size": 5, "seed": 3} | {key: given.pop(key) for key in ("batch_size", "seed") if key in given}
    given["computation"] = Computation(**own)
    layers = find(model, given.pop("layer", LAYERS), dataset.size)
    return MatrixAnalysis(model, layers, dataset, references, **given)


def tables(made):
    """Return what is stored, by table and column, checking that it was laid out so."""
    laid = {table.name: table for table in made.tables()}
    found = {name: {} for name in laid}
    for event in made.events():
        if isinstance(event, Rows):
            for name, values in event.columns.items():
                assert np.asarray(values).shape[1:] == laid[event.table].columns[name].shape, name
                found[event.table].setdefault(name, []).append(values)
    for name, table in laid.items():
        found[name] = {column: np.concatenate(parts) for column, parts in found[name].items()}
        found[name] |= {column: c.values for column, c in table.columns.items() if c.values is not None}
        assert set(found[name]) == set(table.columns)
        assert all(len(values) == table.rows for values in found[name].values())
    return found


def patterns(model, images=IMAGES):
    return {name: a.flatten(1).double().numpy() for name, a in activations(model, find(model, LAYERS, (3, 16, 16)),
                                                                           images).items()}  # fmt: skip


def brain(model, layer="conv2", subjects=5, noise=0.4):
    """Noisy copies of a layer's matrix."""
    own = pdist(patterns(model)[layer], "correlation")
    return own + noise * own.std() * np.random.default_rng(0).normal(size=(subjects, len(own)))


def test_matrices_and_comparisons_are_those_of_scipy():
    model = network()
    subjects = brain(model)
    found = tables(analysis(model, references=[reference("brain", subjects, 14)]))
    layers = found["layers"]
    for row, (name, values) in enumerate(patterns(model).items()):
        expected = pdist(values, "correlation")
        assert layers["name"][row] == name and layers["features"][row] == values.shape[1]
        assert np.allclose(upper(layers["rdm"][row]), expected, atol=1e-5)
        own = np.mean([stats.spearmanr(expected, subject).statistic for subject in subjects])
        assert np.isclose(layers["similarity"][row, 0], own, atol=1e-3)
    assert layers["similarity"][:, 0].argmax() == 1  # where it was planted
    assert np.allclose([layers["noise_lower"][0, 0], layers["noise_upper"][2, 0]], noise_ceiling(subjects, "spearman"))
    assert layers["similarity"][1, 0] > layers["noise_lower"][1, 0] and layers["p"][1, 0] == 1 / 61
    assert (layers["similarity_low"] <= layers["similarity_high"]).all()
    assert np.allclose(layers["p_corrected"][:, 0], stats.false_discovery_control(layers["p"][:, 0]))


def test_differences_are_between_layers_and_from_controls():
    model = network()
    made = analysis(model, references=brain(model), controls=("pixels", "random"), comparison="pearson")
    found = tables(made)
    layers, differences = found["layers"], found["differences"]
    assert layers["kind"].tolist() == ["layer"] * 3 + ["random"] * 3 + ["pixels"]
    assert [differences["kind"].tolist().count(kind) for kind in ("layers", "random", "pixels")] == [3, 3, 3]
    first, second = differences["first"], differences["second"]
    expected = layers["similarity"][first] - layers["similarity"][second]
    assert np.allclose(differences["difference"], expected)
    same = differences["kind"] == "random"
    assert (layers["name"][first[same]] == layers["name"][second[same]]).all()
    planted = np.flatnonzero((first == 1) & (differences["kind"] != "layers"))
    assert (differences["low"][planted] > 0).all() and (differences["p"][planted] <= 2 * 1 / 41 + 1e-9).all()
    pixels = pdist(IMAGES.flatten(1).double().numpy(), "correlation")
    assert np.allclose(upper(layers["rdm"][6]), pixels, atol=1e-5)


def test_random_weights_are_others_and_the_network_keeps_its_own():
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = tables(analysis(model, controls=("random",)))["layers"]["rdm"]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for row in range(3):
        assert not np.allclose(found[row], found[row + 3], atol=1e-2)
    again = tables(analysis(model, controls=("random",)))["layers"]["rdm"]
    other = tables(analysis(model, controls=("random",), seed=4))["layers"]["rdm"]
    assert np.array_equal(found, again) and not np.allclose(found[3:], other[3:], atol=1e-3)


def test_pixels_are_a_reference_too():
    found = tables(analysis(network(), references=[PIXELS]))
    pixels = pdist(IMAGES.flatten(1).double().numpy(), "correlation")
    assert np.allclose(upper(found["references"]["rdm"][0]), pixels, atol=1e-5)
    own = stats.spearmanr(upper(found["layers"]["rdm"][0]), pixels).statistic
    assert np.isclose(found["layers"]["similarity"][0, 0], own, atol=1e-3)


def test_classes_are_the_reference_where_nothing_is_asked_for():
    labels = np.arange(14) % 3
    found = tables(analysis(network(), Labelled(IMAGES, labels)))
    assert found["references"]["name"].tolist() == ["labels"]
    assert np.array_equal(found["references"]["rdm"][0], labels[:, None] != labels)
    assert "references" not in tables(analysis(network()))


def test_classes_as_conditions_have_the_matrix_of_their_mean_patterns():
    model, labels = network(), np.array([1, 1, 1, 1, 3, 3, 3, 3, 0, 0, 0, 0, -1, 0])
    found = tables(analysis(model, Labelled(IMAGES, labels), by_class=True))
    conditions = found["conditions"]
    assert conditions["name"].tolist() == ["a", "b", "d"] and conditions["images"].tolist() == [5, 4, 4]
    assert found["pictures"]["pixels"].shape == (3, 3, 16, 16)
    assert np.array_equal(found["pictures"]["pixels"][2], (IMAGES[4] * 255).round().byte().numpy())
    values = patterns(model)["conv2"]
    means = np.stack([values[labels == label].mean(0) for label in (0, 1, 3)])
    assert np.allclose(found["layers"]["rdm"][1], squareform(pdist(means, "correlation")), atol=1e-5)
    crossnobis = tables(analysis(model, Labelled(IMAGES, labels), by_class=True, metric="crossnobis"))["layers"]["rdm"]
    assert np.isfinite(crossnobis).all() and abs(crossnobis).max() > 0


def test_a_dead_layer_has_no_similarity_and_says_so(caplog):
    """F53: NaN with the reason, never 0 or 1."""
    model = network()
    subjects = brain(model)
    model[2].weight.data[:], model[2].bias.data[:] = 0, 0
    found = tables(analysis(model, references=subjects))
    layers = found["layers"]
    assert "conv2: no correlation for 14 of 14 patterns (constant, not finite or unreadable)" in caplog.text
    assert "conv3: all pairs of patterns are equally unlike; it has no similarity to anything (NaN)" in caplog.text
    assert layers["undefined"].tolist() == [0, 14, 0] and (layers["rdm"][2] == 0).all()
    assert np.isnan(layers["rdm"][1]).all() and np.isnan(layers["embedding"][1]).all()
    for name in ("similarity", "similarity_low", "p", "p_corrected"):
        assert np.isnan(layers[name][1:]).all() and np.isfinite(layers[name][0]).all(), name
    apart = (found["differences"]["first"] == 1) | (found["differences"]["second"] == 1)
    assert np.isnan(found["differences"]["p"][apart]).all()


def test_an_image_that_cannot_be_read_is_left_out():
    class Broken(Given):
        def load_source(self, indices):
            images, readable = super().load_source(indices)
            return images, readable & (np.asarray(indices) != 4)

    subjects = brain(network())
    found = tables(analysis(network(), Broken(IMAGES), references=subjects))
    assert found["stimuli"]["skipped"].tolist() == [number == 4 for number in range(14)]
    keep = np.delete(np.arange(14), 4)
    smaller = upper(squareform_stack(subjects)[:, keep][:, :, keep])
    rest = tables(analysis(network(), Given(IMAGES[keep]), references=smaller))
    assert np.allclose(found["layers"]["similarity"], rest["layers"]["similarity"], atol=1e-6)
    assert np.allclose(found["layers"]["p"], rest["layers"]["p"])


def squareform_stack(values):
    return np.stack([squareform(one) for one in values])


def test_embeddings_of_layers_lie_like_that_of_the_reference():
    found = tables(analysis(network(), references=brain(network(), noise=0.01)))
    points, like = found["layers"]["embedding"][1], found["references"]["embedding"][0]
    assert np.linalg.norm(points - like) < 0.2 * np.linalg.norm(like)


THREE = np.arange(14) % 3
FEW = [0, 1, 2] + [0, 1] * 5 + [2]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dataset": Given(IMAGES[:2])}, "rsa needs 3 or more stimuli, given gives 2"),
        (
            {"dataset": Labelled(IMAGES, THREE % 2), "by_class": True},
            "3 or more classes with images, given gives 2",
        ),
        ({"metric": "crossnobis"}, "metric=crossnobis needs repeats: conditions=class takes the images of a class"),
        ({"metric": "spearman", "dataset": Labelled(IMAGES, THREE), "by_class": True}, "ranks single patterns"),
        (
            {"metric": "crossnobis", "dataset": Labelled(IMAGES, FEW), "by_class": True},
            "metric=crossnobis needs 4 or more images of a class, 'c' has 2",
        ),
        ({"references": np.zeros((5, 5))}, "reference 0 has 5 conditions (5, 5), the dataset gives 14"),
        (
            {"references": ["brain.h5"]},
            "takes arrays and what cnnprobe.methods.rsa.references.named.load returns, got 'brain.h5'",
        ),
    ],
)
def test_what_has_no_meaning_is_refused(options, words):
    with pytest.raises(UserError) as told:
        analysis(network(), **options)
    assert words in str(told.value)


def test_a_module_is_like_itself_turned_and_not_like_noise():
    """Units of a population along time, mixed by a rotation, have the same distances; independent ones have others."""
    model, images = Turning(planes=2, steps=8).eval(), pictures(24, 12)
    rates = activations(model, find(model, "rates", (3, 12, 12)), images)["rates"].double().numpy()
    random = np.random.default_rng(0)
    turned = np.einsum("iut,uv->ivt", rates, np.linalg.qr(random.standard_normal((12, 12)))[0])
    noise = [random.standard_normal(rates.shape) for _ in range(20)]
    given = [reference(f"{place}", pdist(one.reshape(24, -1)), 24) for place, one in enumerate([turned, *noise])]
    options = {"layer": "rates", "metric": "euclidean", "draws": 100, "permutations": 99}
    layers = tables(analysis(model, Given(images), given, **options))["layers"]
    low, own, high = (layers[name][0] for name in ("similarity_low", "similarity", "similarity_high"))
    assert own[0] > 0.9999 and layers["p"][0, 0] == 0.01
    assert ((low < 0) & (high > 0))[1:].sum() >= 17 and abs(own[1:].mean()) < 0.1  # 95 % intervals
