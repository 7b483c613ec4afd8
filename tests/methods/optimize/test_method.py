"""Preferred images from end to end: what is stored, compared, refused, resumed and drawn."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe as package
from cnnprobe.datasets import shapes
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import batches
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.activations import activations
from cnnprobe.methods.optimize import method as optimize
from cnnprobe.models import convnet
from cnnprobe.store.tables import Phase, Rows
from tests.support.networks import planted


def network():
    torch.manual_seed(1)
    return convnet.build(num_classes=8, written="class", input_size=32).eval()


def some_images(count=12):
    return shapes.build(size=32, count=count, split="test", seed=1, contrast=0.15, noise=0.02)


FAST = {"layer": "conv3", "units": [0, 3, 5, 6], "steps": 6, "top_images": 3}


def measurement(**options):
    given = {"model": network(), "dataset": some_images()} | FAST | options
    return package.measure("optimize", **given)


def joined(made, table=None):
    """Join the columns of a table, known and measured."""
    table = table or made.tables[0].name
    known = next(one for one in made.tables if one.name == table).columns
    found = {name: [column.values] for name, column in known.items() if column.values is not None}
    for event in made.events:
        if isinstance(event, Rows) and event.table == table:
            for name, values in event.columns.items():
                assert values.dtype == known[name].dtype, name
                assert values.shape[1:] == tuple(known[name].shape), name
                found.setdefault(name, []).append(values.copy())
    return {name: np.concatenate(parts) for name, parts in found.items()}


def pixels(images):
    return torch.cat([batch.images for batch in batches(images, batch_size=4, device="cpu", workers=0)])


def maps(model, images, layer="conv3"):
    with torch.no_grad():
        images = torch.as_tensor(images)
        return activations(model, find(model, layer, tuple(images.shape[1:])), images)[layer]


def test_responses_are_those_of_the_network_to_the_stored_images():
    model, images = network(), some_images()
    found = joined(measurement(model=model, dataset=images))
    answers = maps(model, found["image"]).flatten(2)
    units = found["unit"]
    np.testing.assert_allclose(found["response"], answers.amax(2)[range(4), units], rtol=1e-4)
    np.testing.assert_allclose(found["objective"], answers.mean(2)[range(4), units], rtol=1e-4)
    natural = maps(model, pixels(images)).flatten(2).amax(2)[:, units].numpy()
    order = np.argsort(-natural, axis=0, kind="stable")[:3].T
    np.testing.assert_array_equal(found["natural_image"], order)
    np.testing.assert_allclose(found["best_natural"], natural.max(0), rtol=1e-5)
    np.testing.assert_allclose(found["gain"], 100 * (found["response"] / natural.max(0) - 1), rtol=1e-3, atol=1e-3)
    pictures = (pixels(images) * 255).round().byte().numpy()
    np.testing.assert_array_equal(found["picture"][2, 1], pictures[order[2, 1]])
    assert np.isfinite(found["trace"]).all() and found["trace"].shape == (4, 6)
    assert (found["image"] >= 0).all() and (found["image"] <= 1).all()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"objective": "neuron", "position": [1, 2]}, ["0", "3", "5", "6"]),
        ({"objective": "contrast"}, ["0", "3", "5", "6"]),
        ({"objective": "group", "groups": [[0, 3], [5]], "pooling": "min"}, ["0 + 3", "5"]),
        ({"objective": "group"}, ["0 + 3 + 5 + 6"]),
        ({"objective": "direction", "direction": [1.0]}, ["direction 0"]),
        ({"objective": "layer"}, ["conv3"]),
        ({"objective": "class", "layer": None, "units": [7, 2], "classes": tuple("abcdefgh")}, ["h", "c"]),
        ({"objective": "class", "layer": None, "units": [7, 2], "classes": ("a", "b")}, ["7", "2"]),
    ],
)
def test_every_objective_climbs_and_is_compared_with_the_best_natural_image(options, names):
    model = network()
    if options["objective"] == "direction":
        options = options | {"direction": np.eye(1, _channels(model)).tolist()[0]}
    found = joined(measurement(model=model, **({"steps": 40} | options)))
    assert list(found["name"]) == names
    assert (found["best_step"] > 0).all()
    assert np.isfinite(found["best_natural"]).all()
    climbed = found["trace"][:, -5:].mean(1) > found["trace"][:, 0]
    assert climbed.all()


def _channels(model):
    return maps(model, torch.zeros(1, 3, 32, 32)).shape[1]


def test_the_best_natural_image_of_a_group_is_that_of_a_plain_loop():
    model, images = network(), some_images()
    found = joined(measurement(model=model, dataset=images, objective="group", groups=[[0, 3], [5, 6]], pooling="min"))
    means = maps(model, pixels(images)).flatten(2).mean(2).numpy()
    for row, group in enumerate([[0, 3], [5, 6]]):
        least = means[:, group].min(1)
        assert found["natural_image"][row].tolist() == np.argsort(-least, kind="stable")[:3].tolist()
        assert found["best_natural"][row] == pytest.approx(least.max(), rel=1e-5)
    assert found["members"].tolist() == [[0, 3], [5, 6]]


def test_presets_and_starts_stand_beside_the_image_that_is_kept():
    made = measurement(preset=["yosinski-3", "lucid"], starts=2, units=[0, 3])
    found = joined(made)
    assert found["variants"].shape == (2, 2, 2, 3, 32, 32)
    assert made.tables[0].attributes["presets"] == ["yosinski-3", "lucid"]
    for row in range(2):
        kept = found["variants"][row, 0, found["start"][row]]
        np.testing.assert_array_equal(kept, found["image"][row])
        assert found["variant_response"][row, 0, found["start"][row]] == found["response"][row]
    alone = joined(measurement(preset="lucid", units=[3]))
    np.testing.assert_allclose(alone["image"][0], found["variants"][1, 1, 0], atol=1e-5)


def test_the_batch_changes_nothing():
    one, other = (joined(measurement(batch_size=size)) for size in (2, 64))
    for name in ("image", "response", "trace"):
        np.testing.assert_allclose(one[name], other[name], atol=1e-5 * np.nanmax(np.abs(one[name])), err_msg=name)
    np.testing.assert_array_equal(one["natural_image"], other["natural_image"])


def test_only_the_units_asked_for_climb_and_they_are_the_same():
    every, some = joined(measurement(units="all")), joined(measurement(units=[5, 0]))
    np.testing.assert_allclose(some["image"], every["image"][[5, 0]], atol=1e-5)


def test_best_and_worst_are_the_ends_by_gain():
    """The rows are those of a run of all units; a stopped run does not rank again."""
    every = joined(measurement(units="all"))
    gain = np.where(np.isfinite(every["gain"]), every["gain"], np.nan)
    order = np.argsort(-gain, kind="stable")[: np.isfinite(gain).sum()]
    made = measurement(units=["worst:1", "best:2"])
    found = joined(made)
    expected = [order[-1], *order[:2]]
    assert found["unit"].tolist() == every["unit"][expected].tolist()
    for name in ("image", "response", "gain", "natural_image", "trace"):
        np.testing.assert_allclose(found[name], every[name][expected], rtol=1e-4, atol=1e-5, err_msg=name)
    again = measurement(units=["worst:1", "best:2"], facts={"ranked": dict(made.facts["ranked"])})
    phases = [event.name for event in again.events if isinstance(event, Phase)]
    assert not any(name.startswith("ranking units") for name in phases)


@pytest.mark.parametrize("options", [{"natural": False}, {"objective": "group"}])
def test_ranking_needs_natural_images_of_units(options):
    with pytest.raises(UserError, match="ranks units by their gain over natural images"):
        measurement(units="best:2", **options)


def test_what_is_finished_is_not_done_again():
    """The other batches are the same bit for bit."""
    whole = joined(measurement(batch_size=2))
    made = measurement(batch_size=2, finished={"units/conv3": frozenset([0])})
    rest, phases = {}, []
    for event in made.events:
        if isinstance(event, Rows) and event.table == "units/conv3":
            rest[event.start] = event.columns
        phases += [event] if isinstance(event, Phase) else []
    assert list(rest) == [2]
    for name, values in rest[2].items():
        np.testing.assert_array_equal(values, whole[name][2:], err_msg=name)
    assert (phases[-1].total, phases[-1].counts) == (2 * 6, "steps")


def test_a_unit_that_never_answers_is_told_and_the_others_are_there(caplog):
    """F52."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    model[0].bias.data = torch.tensor([1.0, 1.0, -1e9, 1.0])
    made = measurement(model=model, layer="conv1", units="all")
    found = joined(made)
    assert found["state"].tolist() == [0, 0, made.tables[0].attributes["states"].index("no gradient"), 0]
    assert "conv1, unit 2: no gradient from 5 starts" in caplog.text
    assert np.isnan(found["image"][2]).all() and np.isnan(found["response"][2]) and found["best_step"][2] == -1
    assert np.isfinite(found["image"][[0, 1, 3]]).all()
    strayed = joined(measurement(model=model, layer="conv1", units=[0, 1], steps=60, lr=1e6))
    assert (strayed["state"] == 1).all() and (strayed["restarts"] > 0).all()
    assert "conv1, unit 0: diverged, restarted with lr" in caplog.text


def test_natural_images_need_not_be_looked_for():
    made = measurement(natural=False)
    found = joined(made)
    assert np.isnan(found["best_natural"]).all() and np.isnan(found["gain"]).all()
    assert "picture" not in found
    assert not any(isinstance(event, Phase) and event.name == "ranking" for event in measurement(natural=False).events)


def test_signals_have_preferred_signals():
    signals = np.random.default_rng(0).normal(size=(6, 2, 64)).astype(np.float32) * 10
    model = planted.signals().eval()
    found = joined(package.measure("optimize", model=model, dataset=signals, layer="conv1", steps=6, top_images=2))
    assert found["image"].shape == (4, 2, 64)
    assert found["image"].min() < 0 and found["image"].max() > 1
    assert found["picture"].dtype == np.float32
    np.testing.assert_array_equal(found["picture"][1, 0], signals[found["natural_image"][1, 0]])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layer": None}, "needs layer=…; layers of the model: conv1"),
        ({"diversity": 1.0}, "starts must be 2 or more"),
        ({"objective": "neuron", "position": [99, 0]}, "position=.* is not on the map of conv3, which is"),
        ({"objective": "direction"}, "needs direction=…"),
        ({"objective": "direction", "direction": [1.0, 2.0]}, "direction must have .* finite numbers"),
        ({"objective": "direction", "direction": "nowhere.npy"}, "nowhere.npy cannot be read"),
        ({"objective": "group", "groups": [[0, 9999]]}, "has units 0 to"),
        ({"objective": "group", "groups": [[0, 1]], "group_weights": [[1.0]]}, "a weight for each of its members"),
        ({"decay": 0.1}, "change pixels, and preset standard has parametrisation=fourier"),
        ({"preset": "lucidd"}, "did you mean 'lucid'"),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(options, words):
    with pytest.raises(UserError, match=words):
        measurement(**options)


class Shown(dict):
    """Columns of a layer and its attributes, as they are read from a store."""

    has = dict.__contains__

    def __init__(self, made):
        super().__init__(joined(made))
        self.name, self.attributes = made.tables[0].name, made.tables[0].attributes
        self.rows, self.row_count = self["unit"], len(self["unit"])


class Recording(dict):
    """Layers by name."""

    attributes = {"model": "net", "weights": "w", "dataset": "images"}  # noqa: RUF012

    def tables(self, _):
        return sorted(self)

    def in_order(self):
        return sorted(self.values(), key=lambda table: table.attributes["order"])


def test_figures_and_words_come_from_the_store_alone():
    made = measurement(preset=["standard", "maco"], starts=2)
    recording = Recording(**{"units/conv3": Shown(made)})
    figures = dict(optimize.draw(recording))
    assert list(figures) == ["conv3", "conv3_beside", "conv3_presets", "conv3_progress"]
    assert "preferred images of conv3 of net (weights: w)" in " ".join(figures["conv3"].get_suptitle().split())
    found = optimize.headline(recording)
    assert (found["layers"], found["images"]) == (1, 4)
    gains = recording["units/conv3"]["gain"]
    assert found["median response / best natural"] == pytest.approx(1 + np.median(gains) / 100)
    assert optimize.summary(recording)["failed"] == ["0"]


def test_a_layer_without_any_image_is_drawn_as_such():
    """F81."""
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()
    model[0].bias.data[:] = -1e9
    recording = Recording(**{"units/conv1": Shown(measurement(model=model, layer="conv1", units="all", starts=2))})
    figures = dict(optimize.draw(recording))
    assert "conv1" in figures
    assert optimize.headline(recording) == {"layers": 1, "images": 0, "failed": 2}
    assert optimize.summary(recording)["response"] == ["-"]


@pytest.mark.parametrize("objective", ["stretch", "one-hot"])
def test_units_of_a_second_network_are_driven_through_the_first(objective):
    """4.T8: both share their first layer; the mapped units of the second answer more than to any natural image."""

    torch.manual_seed(3)
    shared = nn.Conv2d(1, 8, 5)
    shared.weight.data -= shared.weight.data.mean((1, 2, 3), keepdim=True)
    first = nn.Sequential(shared, nn.ReLU(), nn.Conv2d(8, 3, 3)).eval()
    second = nn.Sequential(shared, nn.ReLU(), nn.Conv2d(8, 4, 1), nn.ReLU()).eval()
    second[2].bias.data[:] = 0.2
    noise = torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    natural = 0.2 + 0.6 * nn.functional.interpolate(noise, (12, 12), mode="bilinear")
    options = {"model": first, "dataset": natural, "layer": "conv1", "units": [0, 3, 1], "preset": "simonyan"}
    options |= {"brain": SimpleNamespace(model=second, size=(1, 12, 12)), "brain_layer": "conv2", "steps": 80}
    made = measurement(objective=objective, **options)
    found = joined(made)
    assert found["unit"].tolist() == [0, 3, 1]
    with torch.no_grad():
        answers = second(torch.from_numpy(found["image"])).mean((2, 3)).numpy()[range(3), [0, 3, 1]]
        best = second(natural).mean((2, 3)).numpy().max(0)[[0, 3, 1]]
    np.testing.assert_allclose(found["brain_response"], answers, rtol=1e-4)
    np.testing.assert_allclose(found["brain_best_natural"], best, rtol=1e-4)
    if objective == "stretch":
        assert (answers > best).all()
        np.testing.assert_allclose(found["stretch_gain"], 100 * (answers / best - 1), rtol=1e-3)
    else:
        assert (found["one_hot"] > found["one_hot_natural"]).all()
    assert "conv1_control" in dict(
        optimize.draw(Recording(**{"units/conv1": Shown(measurement(objective=objective, **options))}))
    )


def test_images_during_learning_are_those_of_each_moment():
    from cnnprobe.instruments.network.snapshots import Moment

    early, final = network(), network()
    for parameter in early.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    moments = [Moment(f"epoch={n:03d}", n, net.state_dict) for n, net in enumerate((early, final))]
    before = {name: value.clone() for name, value in final.state_dict().items()}
    moments[1] = Moment("epoch=001", 1, lambda: before)
    made = measurement(model=final, moments=moments)
    found = joined(made)
    then, now = joined(measurement(model=early)), joined(measurement())
    np.testing.assert_allclose(found["learned_image"][:, 0], then["image"], atol=1e-4)
    np.testing.assert_allclose(found["learned_image"][:, 1], now["image"], atol=1e-4)
    np.testing.assert_allclose(found["image"], now["image"], atol=1e-4)
    crossed = maps(network(), then["image"]).flatten(2).amax(2)[range(4), found["unit"]]
    np.testing.assert_allclose(found["learned_final"][:, 0], crossed, rtol=1e-3)
    np.testing.assert_allclose(found["learned_response"][:, 0], then["response"], rtol=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in final.state_dict().items())
    figures = dict(optimize.draw(Recording(**{"units/conv3": Shown(measurement(model=final, moments=moments))})))
    assert {"conv3_learning", "learning_frequency", "learning_half_times"} <= set(figures)


def test_a_brain_is_a_run_of_train(cnnprobe, pictures, tmp_path):
    root = ["model=convnet", "dataset=folder", f"dataset.root={pictures}", "batch_size=8"]
    assert cnnprobe("train", *root, "epochs=1", "precision=float32").status == 0
    asked = ["optimize", *root, "weights=random", "layer=conv3", "objective=stretch", "brain_layer=conv2", "steps=4"]
    answer = cnnprobe(*asked, "brain=train/convnet-folder/v001", "units=[0,1]")
    assert answer.status == 0, answer.err
    recording = package.open(tmp_path / "outputs/optimize/convnet-folder/v001")
    assert list(recording["units/conv3"]["name"]) == ["conv2 0", "conv2 1"]
    assert np.isfinite(recording["units/conv3"]["brain_best_natural"]).all()
    about = json.loads((tmp_path / "outputs/optimize/convnet-folder/v001/run.json").read_text())
    assert "train/convnet-folder/v001" in about["built_from"]
    assert "brain=RUN, a run of train" in cnnprobe(*asked).err
