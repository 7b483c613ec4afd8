"""cam end to end: rows, truth, classes asked for, best images, resume."""

import json
import signal

import numpy as np
import pytest
import torch
from torch import nn

import cnnprobe as package
from cnnprobe.datasets import shapes
from cnnprobe.datasets.base.given import Given
from cnnprobe.errors import UserError
from cnnprobe.methods.cam.class_choice import asked_classes
from cnnprobe.store.reader import Recording
from cnnprobe.store.tables import Rows
from tests.runs.test_execute import child, contents, wait_for
from tests.support.calling import Unchecked
from tests.support.networks.gap import Deep, Pooled, pictures

IMAGES = pictures(10).numpy()


def run(model, shown=IMAGES, **options):
    return package.measure("cam", model=model, dataset=shown, **options)


def tables(measurement):
    found = {}
    for event in measurement.events:
        if isinstance(event, Rows):
            for name, values in event.columns.items():
                found.setdefault(event.table, {}).setdefault(name, []).append(values)
    found = {table: {name: np.concatenate(parts) for name, parts in own.items()} for table, own in found.items()}
    for table in measurement.tables:
        known = {name: column.values for name, column in table.columns.items() if column.values is not None}
        found.setdefault(table.name, {}).update(known)
    return found


def mapped(model, shown=IMAGES, **options):
    return tables(run(model, shown, **options))["images"]


class Labelled(Given):
    """Images with labels, and a mask for each."""

    def __init__(self, images, labels, masks=None, classes=("a", "b", "c", "d")):
        super().__init__(torch.as_tensor(images))
        self.labels, self.classes, self.masks = np.asarray(labels), tuple(classes), masks

    def truth(self, index):
        return {} if self.masks is None else {"cue": self.masks[index]}


def test_rows_are_the_classes_an_image_is_taken_for_most_probable_first():
    model = Pooled().eval()
    found = mapped(model, kind="cam", top_classes=3, batch_size=4)
    with torch.no_grad():
        logits = model(torch.from_numpy(IMAGES))
    assert found["image"].tolist() == np.repeat(np.arange(10), 3).tolist()
    assert found["class"].tolist() == logits.argsort(1, descending=True)[:, :3].flatten().tolist()
    assert found["rank"].tolist() == [0, 1, 2] * 10
    shares = logits.softmax(1).sort(1, descending=True).values[:, :3]
    assert np.allclose(found["probability"], shares.flatten(), atol=1e-6)
    assert np.allclose(found["evidence"], found["logit"], atol=1e-5)
    assert found["map"].shape == (30, 12, 12)


@pytest.mark.parametrize("kind", ["cam", "gradcam", "guided-gradcam", "layercam", "scorecam", "cccam"])
def test_results_do_not_depend_on_the_batch(kind):
    model = Pooled().eval()
    one, other = (mapped(model, kind=kind, top_classes=2, batch_size=size) for size in (3, 10))
    assert one.keys() == other.keys() and ("guided" in one) == (kind == "guided-gradcam")
    for name, values in one.items():
        if values.dtype.kind == "f":
            assert np.allclose(values, other[name], atol=1e-6, equal_nan=True), name
        else:
            assert np.array_equal(values, other[name]), name


def test_the_class_of_the_label_is_mapped_too_where_it_is_not_among_the_top():
    model = Pooled().eval()
    with torch.no_grad():
        order = model(torch.from_numpy(IMAGES)).argsort(1, descending=True).numpy()
    labels = np.where(np.arange(10) % 2, order[:, 0], order[:, 3])
    found = mapped(model, Labelled(IMAGES, labels), top_classes=2)
    classes = found["class"].reshape(10, 3)
    assert classes[:, 2].tolist() == [-1 if n % 2 else label for n, label in enumerate(labels)]
    assert found["rank"].reshape(10, 3)[0, 2] == 3
    blank = found["class"] < 0
    assert np.isnan(found["map"][blank]).all() and np.isnan(found["probability"][blank]).all()
    assert not found["silent"][blank].any()
    assert mapped(model, Labelled(IMAGES, labels), top_classes=2, own_class=False)["class"].shape == (20,)
    other = Labelled(IMAGES, labels, classes=("a", "b"))  # classes of something else
    assert mapped(model, other, top_classes=2)["class"].shape == (20,)


def test_classes_asked_for_by_index_or_name_and_images_by_number():
    model = Pooled().eval()
    named = Labelled(IMAGES, [0] * 10)
    found = mapped(model, named, class_=["c", 0], images=[7, "1:3"])
    assert found["image"].tolist() == [7, 7, 1, 1, 2, 2] and found["class"].tolist() == [2, 0] * 3
    whole = mapped(model, named, class_="c")
    assert np.allclose(found["map"][::2], whole["map"][[7, 1, 2]], atol=1e-6)
    assert mapped(model, named, **{"class": 3}, images=0)["class"].tolist() == [3]


def test_the_best_images_of_a_class_are_those_of_the_largest_logit():
    model = Pooled().eval()
    with torch.no_grad():
        order = model(torch.from_numpy(IMAGES))[:, 2].argsort(descending=True)
    found = mapped(model, class_=2, images="best:4", batch_size=3)
    assert found["image"].tolist() == order[:4].tolist()
    assert (np.diff(found["logit"]) <= 0).all()
    assert mapped(model, class_=2, images="best:99")["image"].tolist() == order.tolist()


class Ended(Pooled):
    """Scores with a large part in common, and what stands behind them."""

    def __init__(self, end=None):
        super().__init__()
        self.out.weight.data += 5
        self.end = end or nn.Identity()

    def forward(self, images):
        return self.end(super().forward(images))


@pytest.mark.parametrize("kind", ["gradcam", "layercam", "scorecam", "cccam"])
@pytest.mark.parametrize(
    "end", [nn.Softmax(1), nn.LogSoftmax(1), nn.Sigmoid()], ids=["softmax", "log-softmax", "sigmoid"]
)
def test_behind_a_softmax_of_its_own_scores_and_order_of_images_are_those_before_it(kind, end):
    """F86: also where all scores of an image are shifted alike, which a softmax does not tell."""
    options = {"class_": 1, "images": "best:5", "kind": kind, "layer": "conv1", "batch_size": 3}
    plain, ended = (mapped(model.eval(), **options) for model in (Ended(), Ended(end)))
    with torch.no_grad():
        scores = Ended().eval()(torch.from_numpy(IMAGES))
    order = scores[:, 1].argsort(descending=True)[:5]
    assert order.tolist() != scores.softmax(1)[:, 1].argsort(descending=True)[:5].tolist()
    for found in (plain, ended):
        assert found["image"].tolist() == order.tolist()
        assert np.allclose(found["logit"], scores[order, 1], atol=1e-4)
    if kind == "gradcam" or (kind == "cccam" and isinstance(end, nn.Softmax | nn.LogSoftmax)):
        assert np.allclose(ended["map"], plain["map"], atol=1e-4)


def test_a_map_of_nothing_that_speaks_for_the_class_is_marked():
    model = Pooled().eval()
    model.out.weight.data[1] = -model.out.weight.data[1].abs()
    found = mapped(model, class_=[1, 2])
    assert found["silent"][0::2].all() and (found["map"][0::2] <= 0).all()


def test_an_image_that_makes_the_network_overflow_is_told(caplog):
    """F48."""
    images = IMAGES.copy()
    images[4] = np.nan
    shown = Unchecked(torch.from_numpy(images))
    found = mapped(Pooled().eval(), shown, top_classes=1, kind="gradcam")
    assert found["class"][4] == found["rank"][4] == -1
    assert np.isnan(found["map"][4]).all() and np.isfinite(found["map"][[0, 9]]).all()
    assert "not finite for 1 images, first image 4" in caplog.text


def test_maps_of_a_detector_point_at_the_object():
    """The summary is the plain mean of the rows of the own class; chance stands beside."""
    random = np.random.default_rng(0)
    images = random.random((24, 3, 32, 32)).astype(np.float32) * 0.1
    masks = np.zeros((24, 32, 32), bool)
    labels = np.arange(24) % 2
    for image, mask, label in zip(images, masks, labels):
        top, left = random.integers(0, 24, 2)
        image[label, top : top + 8, left : left + 8] += 0.9
        mask[top : top + 8, left : left + 8] = True
    model = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model[0].weight.data[:], model[0].bias.data[:] = 0, -0.5
    for channel in (0, 1):
        model[0].weight.data[channel, channel, 1, 1] = 1
    found = tables(run(model, Labelled(images, labels, masks, ("a", "b")), kind="cam", batch_size=7))
    rows, table = found["images"], found["localisation"]
    own = rows["class"] == np.repeat(labels, 2)
    assert table["class"].tolist() == [-1, 0, 1] and table["images"].tolist() == [24, 12, 12]
    assert table["judged"].tolist() == [24, 12, 12]
    assert table["pointing"].tolist() == [1, 1, 1] and (table["pointing_low"] > 0.6).all()
    assert table["iou"][0] == pytest.approx(rows["iou"][own].mean(), abs=1e-6) and table["iou"][0] > 0.95
    assert table["energy"][0] > 0.98 and table["energy_chance"][0] == pytest.approx(64 / 1024)
    assert (table["localised"] == 1).all()
    assert table["pointing_chance"][0] == pytest.approx(rows["pointing_chance"][own].mean(), abs=1e-6)


@pytest.mark.parametrize("lost", ["judged", "skipped"])
def test_a_batch_of_which_nothing_is_known_any_more_is_mapped_again(lost):
    """F100: its images were missing in the summary, though their rows were there."""
    masks = np.zeros((10, *IMAGES.shape[2:]), bool)
    masks[:, 2:9, 2:9] = True
    shown = Labelled(IMAGES, np.arange(10) % 4, masks if lost == "judged" else None)
    given = {"model": Pooled().eval(), "shown": shown, "kind": "cam", "batch_size": 4, "top_classes": 1}
    facts: dict = {}
    whole = tables(run(**given, facts=facts))
    assert sorted(facts[lost]) == ["0", "4", "8"]
    del facts[lost]["4"]
    per = len(whole["images"]["class"]) // 10
    finished = {"images": frozenset((0, 4 * per, 8 * per)), "pictures": frozenset((0, 4, 8))}
    again = tables(run(**given, facts=facts, finished=finished))
    assert len(again["images"]["class"]) == 4 * per and facts[lost].keys() >= {"4"}
    if lost == "judged":
        assert again["localisation"]["images"].tolist() == whole["localisation"]["images"].tolist()
        assert np.array_equal(again["localisation"]["energy"], whole["localisation"]["energy"], equal_nan=True)


def test_maps_without_evidence_are_counted_and_in_no_mean():
    """F86: a class whose map is negative everywhere points nowhere; it is not localised."""
    images, masks = np.full((6, 3, 32, 32), 0.1, np.float32), np.zeros((6, 32, 32), bool)
    images[:4, 0, 8:16, 8:16], masks[:, 8:16, 8:16] = 1, True
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    model[0].weight.data[:], model[0].bias.data[:] = 0, -0.5
    model[0].weight.data[0, 0] = 1  # of the last two images every value is below 0
    found = tables(run(model, Labelled(images, np.zeros(6, np.int64), masks, ("a", "b")), kind="cam"))["localisation"]
    assert found["images"].tolist() == [6, 6] and found["judged"].tolist() == [4, 4]
    assert found["pointing"][:2].tolist() == [1, 1] and found["localised"][0] == pytest.approx(4 / 6)


def train_on_templates(model, images, labels):
    optimiser = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(250):
        some = torch.arange(64) + 64 * (step % 8)
        loss = nn.functional.cross_entropy(model(images[some]), labels[some])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def test_a_network_that_learned_two_patches_points_at_them():
    """5.T5: the class is which template is there, its place is random; chance is about 0.2."""
    generator = torch.Generator().manual_seed(0)
    templates = torch.randn(2, 1, 8, 8, generator=generator)
    images = 0.5 + 0.05 * torch.randn(600, 1, 32, 32, generator=generator)
    labels, masks = torch.arange(600) % 2, np.zeros((600, 32, 32), bool)
    for n in range(600):
        top, left = torch.randint(0, 25, (2,), generator=generator).tolist()
        images[n, :, top : top + 8, left : left + 8] += 0.3 * templates[labels[n]]
        masks[n, top : top + 8, left : left + 8] = True
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 7, padding=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2)
    )
    with torch.no_grad():  # half of the channels begin at either template, else some networks learn only one of them
        model[0].weight += 0.1 * templates[..., :7, :7].repeat_interleave(6, 0)
    train_on_templates(model, images, labels)
    model.eval()
    held = Labelled(images[512:], labels[512:].numpy(), masks[512:], ("a", "b"))
    with torch.no_grad():
        assert (model(images[512:]).argmax(1) == labels[512:]).float().mean() > 0.95
    for kind in ("cam", "gradcam"):
        table = tables(run(model, held, kind=kind))["localisation"]
        assert table["pointing"][0] > 0.95 and table["pointing_chance"][0] < 0.22
        assert table["pointing_low"][0] > table["pointing_chance"][0] + 0.3


def test_shapes_hand_out_their_masks():
    dataset = shapes.build(size=32, count=16, split="test", seed=0, contrast=0.15, noise=0.02)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 8)).eval()
    found = tables(run(model, dataset, top_classes=2))
    truth = found["pictures"]["truth"]
    assert np.array_equal(truth[3], dataset.truth(3)["cue"])
    assert found["images"]["energy_chance"][0] == pytest.approx(dataset.truth(0)["cue"].mean())
    assert "localisation" not in tables(run(model, dataset, evaluate=False))


def test_weights_and_means_of_cccam_are_stored(caplog):
    labels = np.arange(10) % 3
    found = tables(run(Deep().eval(), Labelled(IMAGES, labels), kind="cccam", draws=50, batch_size=4))
    assert "no image is of 1 of the 4 classes: they have no weights, and their maps are NaN" in caplog.text
    assert found["classes"]["class"].tolist() == [0, 1, 2] and found["classes"]["images"].tolist() == [4, 3, 3]
    rows = found["images"]
    own = rows["class"] == np.repeat(labels, 4)
    mean = rows["map"][own & (rows["class"] == 1)].mean(0)
    assert np.allclose(found["classes"]["mean_map"][1], mean, atol=1e-6)
    assert np.isnan(rows["map"][rows["class"] == 3]).all()  # no image of it, no weights


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"class_": 4}, "the network has classes 0 to 3, got class=4"),
        ({"class_": "cat"}, "no class 'cat'"),
        ({"images": [10]}, "there are images 0 to 9, got 10"),
        ({"images": "0:11"}, "there are images 0 to 9, got 0:11"),
        ({"images": "best:3"}, "images=best:3 are those of one class; say class=…"),
        ({"images": "some"}, "images must be all, numbers, a range"),
        ({"pages": 3, "images": [1]}, "pages=3: that image is not among those mapped"),
        ({"layer": "conv9"}, "no layer 'conv9'"),
        ({"layer": "all"}, "cam reads one layer"),
        ({"kind": "eigencam"}, "kind must be cam, gradcam"),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    with pytest.raises(UserError) as error:
        run(Pooled().eval(), **options)
    assert said in str(error.value)


def test_a_number_is_a_name_where_classes_are_called_by_numbers(caplog):
    """F92: folders 1, 2, 3: 1 is the first output, which is said, and 0 is none."""
    assert asked_classes([1, "3"], ("1", "2", "3"), 3) == (0, 2)
    told = "class={0} is the class called {0}, output {1} of the network"
    assert [record.getMessage() for record in caplog.records] == [told.format(1, 0), told.format(3, 2)]
    with pytest.raises(UserError, match=r"no class '0'.* classes: 1, 2, 3"):
        asked_classes([0, 1], ("1", "2", "3"), 3)
    caplog.clear()
    assert (
        asked_classes([0, 1], ("0", "1"), 2) == asked_classes([0, 1], ("cat", "dog"), 2) == (0, 1)
        and not caplog.records
    )


def test_a_class_whose_name_another_has_is_refused():
    """F92: ImageNet's crane, the bird, was taken for the machine as well."""
    names = ("crane", "dog", "crane")
    with pytest.raises(UserError, match=r"^2 classes are called 'crane': 0, 2; write the index of one$"):
        asked_classes("crane", names, 3)
    assert asked_classes([2, "dog"], names, 3) == (2, 1)
    with pytest.raises(UserError, match=r"^2 classes are called '2': 1, 2; give each a name of its own$"):
        asked_classes(2, ("1", "2", "2"), 3)


def test_signals_are_refused():
    model = nn.Sequential(nn.Conv1d(2, 3, 5), nn.Flatten(), nn.Linear(78, 2)).eval()
    with pytest.raises(UserError, match="cam maps images"):
        run(model, np.random.default_rng(0).random((4, 2, 30), np.float32))


def test_the_ranking_of_another_run_is_taken(cnnprobe, pictures, tmp_path):
    words = ["model=convnet", "dataset=folder", f"dataset.root={pictures}", "batch_size=8"]
    assert cnnprobe("record", "layer=logits", *words).status == 0
    assert cnnprobe("cam", "class=1", "images=best:5", *words).status == 0
    answer = cnnprobe("cam", "class=1", "images=best:5", "source=record/convnet-folder/v001", *words)
    assert answer.status == 0, answer.err
    folder = tmp_path / "outputs/cam/convnet-folder"
    assert contents(folder / "v001") == contents(folder / "v002")
    assert cnnprobe("cam", "source=record/convnet-folder/v001", *words).status == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gradcam", "cccam"])
def test_a_run_that_was_stopped_goes_on_to_the_same_store(cnnprobe, tmp_path, kind):
    """Bit for bit, the summary of the images that were finished before included."""
    words = ["cam", f"kind={kind}", "model=convnet", "dataset=shapes", "dataset.count=400", "batch_size=4"]
    words += ["device.threads=1", "draws=20"]
    process = child(tmp_path, *words)
    folder = tmp_path / "outputs/cam/convnet-shapes"

    def begun():
        store = folder / "v001" / "store.h5"
        return store.exists() and json.loads((folder / "v001/run.json").read_text())["facts"].get("judged")

    wait_for(begun)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert cnnprobe("cam", "--resume", str(folder / "v001")).status == 0
    assert cnnprobe(*words).status == 0
    assert contents(folder / "v001") == contents(folder / "v002")


def test_figures_and_the_table_that_is_printed(cnnprobe, tmp_path):
    words = ["cam", "model=convnet", "dataset=shapes", "dataset.count=24", "batch_size=8", "top_classes=2"]
    answer = cnnprobe(*words, "kind=guided-gradcam")
    assert answer.status == 0, answer.err
    assert "mean over classes" in answer.out and "chance of pointing" in answer.out
    folder = tmp_path / "outputs/cam/convnet-shapes/v001"
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert {"predictions", "guided", "localisation"} <= names
    assert Recording(folder / "store.h5")["images"].attributes["kind"] == "guided-gradcam"
    assert cnnprobe(*words, "kind=cccam", "class=3").status == 0
    names = {path.stem for path in (tmp_path / "outputs/cam/convnet-shapes/v002/figures").iterdir()}
    assert "classes" in names and any(name.startswith("class_3") for name in names)
