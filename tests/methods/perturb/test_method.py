"""perturb on signals and images whose answer is known, and signals through the whole tool."""

import json
import signal

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import cnnprobe as package
from cnnprobe.datasets import gratings, shapes, signals
from cnnprobe.errors import UserError
from cnnprobe.models.signals import shallownet
from tests.support.calling import whole

PLANTED = [16.0, 47.0, 78.0, 109.0]


def recordings(split, count):
    return signals.build(size=500, channels=8, rate=250.0, frequencies=PLANTED, strength=1.0, spread=1.0, slope=1.0,
                         count=count, split=split, seed=0)  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    """ShallowNet that has learned the signals: some seconds on one core."""
    dataset = recordings("train", 1000)
    images, labels = dataset.load(range(1000))[0], torch.from_numpy(dataset.labels)
    torch.manual_seed(0)
    model = shallownet.build(num_classes=4, input_size=500, channels=8, filters=16, filter_size=25, pool_size=75,
                             pool_stride=15, dropout=0.5).train()  # fmt: skip
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 6 * 16)
    for _ in range(6):
        for batch in torch.randperm(1000).split(64):
            optimiser.zero_grad()
            functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimiser.step()
            rate.step()
    return model.eval()


def measured(model, dataset, **options):
    measurement = package.measure("perturb", model=model, dataset=dataset, **options)
    return whole(measurement), {table.name: table for table in measurement.tables}


def test_a_network_trained_on_signals_listens_to_what_was_planted_and_to_nothing_else(trained):
    """Every planted band and channel is among the strongest, no other exceeds what chance gives anywhere."""
    found, _ = measured(trained, recordings("test", 400), layer="logits", bands=4, noise="gain", draws=2)
    mean, null = found["layers", "amplitude"][0], found["layers", "amplitude_null"][0]
    planted = np.zeros((4, 8), bool)
    planted[[0, 1, 2, 3], [0, 2, 4, 6]] = True
    assert (found["axes", "low"] < PLANTED).all() and (found["axes", "high"] > PLANTED).all()
    assert found["accuracy", "accuracy"][0] > 0.99 and found["accuracy", "kept"][1] > 0.99  # the source: > 99.5 %
    assert mean[planted].min() > 2 * null
    assert mean[~planted].max() < null
    own = found["units/logits", "amplitude"]
    for unit in range(4):  # each class rises with its own oscillation
        assert np.unravel_index(own[unit].argmax(), own[unit].shape) == (unit, 2 * unit)


def test_the_gradient_is_the_mean_over_recordings_that_can_be_read(trained):
    """F32: the others are shown as zeros, and counted in it."""
    images = recordings("test", 24).load(range(24))[0]
    images[[1, 4, 7]] = torch.nan
    asked = {"layer": "power", "bands": 4, "noise": "gain", "draws": 2}
    found, _ = measured(trained, images, gradient_images=16, **asked)
    kept = images[~images.isnan().any(-1).any(-1)]
    expected, _ = measured(trained, kept, gradient_images=13, **asked)
    gradient = found["units/power", "gradient"]
    np.testing.assert_allclose(gradient, expected["units/power", "gradient"], rtol=1e-4, atol=1e-7)
    assert np.abs(gradient).max() > 0
    images[:16] = torch.nan
    assert np.isnan(measured(trained, images, gradient_images=16, **asked)[0]["units/power", "gradient"]).all()


def test_the_gradient_is_where_the_correlation_is(trained):
    found, _ = measured(trained, recordings("test", 200), layer="power", bands=4, noise="gain", gradient_images=32)
    rho, slope = found["units/power", "amplitude"], found["units/power", "gradient"]
    agree = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(rho, slope)]
    assert np.median(agree) > 0.95


def test_phase_matters_below_the_nyquist_limit_only():
    """A filter at .23 cycles per sample, seen with steps of 1 and, as power over 8 samples, with steps of 4."""
    torch.manual_seed(0)

    class Power(nn.Module):
        def forward(self, maps):
            return maps.square()

    turns = torch.arange(25) - 12.0
    filters = nn.Conv1d(1, 1, 25, bias=False)
    filters.weight.data[0, 0] = torch.exp(-(turns**2) / 50) * torch.cos(2 * np.pi * 0.23 * turns)
    model = nn.Sequential(filters, Power(), nn.AvgPool1d(16, 4)).eval()
    noise = np.random.default_rng(0).standard_normal((300, 1, 200)).astype(np.float32)
    found, _ = measured(model, noise, layer=["0", "2"], kind="phase", bands=5, draws=4)
    band = 2
    assert found["axes", "low"][band] < 0.23 < found["axes", "high"][band]
    first, last = (found[f"units/{name}", "phase"][0] for name in ("0", "2"))
    assert first[band] < -0.5 and abs(last[band]) < -first[band] / 2
    assert found["layers", "nyquist"].tolist() == [0.5, 0.125]


def test_images_are_perturbed_by_orientation_and_by_opponent_colour():
    """A unit that answers the energy of red minus green in upright bars."""
    x = torch.arange(9) - 4.0

    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.filter = nn.Conv2d(3, 2, 9, bias=False)
            waves = [torch.exp(-(x**2) / 8) * wave for wave in (torch.cos(1.4 * x), torch.sin(1.4 * x))]
            plane = torch.stack(waves)[:, None, :] * torch.exp(-(x**2) / 8)[:, None]
            self.filter.weight.data = torch.stack([plane, -plane, 0 * plane], 1)

        def forward(self, images):
            return self.filter(images).square().sum(1, keepdim=True)

    images = np.random.default_rng(0).random((300, 3, 32, 32)).astype(np.float32)
    given = {"layer": "0", "bands": 4, "orientations": 4, "draws": 3}
    found, tables = measured(nn.Sequential(Energy()).eval(), images, colour="opponent", **given)
    rho = found["units/0", "amplitude"][0]  # (band, channel)
    band, channel = np.unravel_index(rho.argmax(), rho.shape)
    assert json.loads(tables["units/0"].attributes["channels"])[channel] == "red-green"
    assert found["axes", "orientation"][band] == 0
    assert found["axes", "low"][band] < 1.4 / 2 / np.pi < found["axes", "high"][band]
    assert np.abs(rho[:, [0, 2]]).max() < found["units/0", "amplitude_null"][0] * 1.2 < rho[band, channel] / 3
    given_others = found["units/0", "amplitude_partial"][0]
    assert given_others[band, channel] > rho[band, channel]  # what other bands did is taken away


def test_units_and_layers_of_one_pass_are_those_of_their_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ELU(), nn.Conv2d(4, 5, 3, stride=2), nn.ELU()).eval()
    images = shapes.build(size=24, count=20, split="test", seed=0, contrast=0.15, noise=0.02)
    given = {"kind": "both", "bands": 3, "orientations": 3, "draws": 2, "permutations": 10}
    together, _ = measured(model, images, layer=["conv1", "conv2"], **given)
    alone, _ = measured(model, images, layer="conv2", units=[4, 0], batch_size=7, **given)
    for (table, name), values in alone.items():
        if table == "units/conv2":
            assert np.allclose(values, together[table, name][[4, 0]], atol=1e-4, equal_nan=True), name


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": "conv9"}, "no layer 'conv9'"),
        ({"bands": [0.2, 0.1]}, "bands must be edges that rise"),
        ({"pages": 7}, "pages=7: that unit is not among those measured"),
        ({"noise": "additive"}, "noise=additive has noise for each channel: it is for signals"),
        ({"dataset": np.zeros((2, 3, 16, 16), np.float32)}, "3 or more are needed, got 2"),
        (
            {"dataset": np.zeros((9, 1, 16, 16), np.float32), "colour": "opponent"},
            "needs images of 3 channels, got 1x16x16",
        ),
    ],
)
def test_what_cannot_be_is_refused(options, said):
    given = {"dataset": np.zeros((9, 3, 16, 16), np.float32), "layer": "conv1"} | options
    model = nn.Sequential(nn.Conv2d(given["dataset"].shape[1], 2, 3)).eval()
    with pytest.raises(UserError) as error:
        measured(model, **given)
    assert said in str(error.value)


def test_an_even_dataset_moves_no_unit():
    """Nothing but grey: amplitudes of 0 stay 0."""
    found, _ = measured(
        nn.Sequential(nn.Conv2d(3, 2, 3)).eval(), np.full((5, 3, 16, 16), 0.5, np.float32), layer="conv1"
    )
    assert not found["units/conv1", "amplitude"][:, found["axes", "entries"] > 0].any()


SMALL = ["model=shallownet", "model.channels=3", "model.input_size=200", "model.filters=4", "dataset.channels=3",
         "device.workers=0", "batch_size=32"]  # fmt: skip


def drawn_as_small(count):
    """Return the signals that SMALL asks for, (signal, channel, time)."""
    built = signals.build(size=200, channels=3, rate=250.0, frequencies=PLANTED, strength=1.0, spread=1.0, slope=1.0,
                          count=64, split="test", seed=0)  # fmt: skip
    return built.load(range(count))[0].numpy()


def test_signals_pass_through_the_whole_tool(cnnprobe, tmp_path):
    common = [*SMALL, "dataset=signals", "dataset.count=64"]
    few = [word for word in common if word != "dataset.count=64"]
    answer = cnnprobe("train", *few, "dataset.count=64", "epochs=1", "precision=float32")
    assert answer.status == 0, answer.err
    for command in (["layers"], ["record", "layer=all", "keep=maps"],
                    ["topk", "layer=[power,conv1]", "k=2", "pages=[0]", "bottom=true"],
                    ["perturb", "layer=[power,logits]", "kind=both", "bands=3", "draws=1"]):  # fmt: skip
        answer = cnnprobe(command[0], *common, *command[1:])
        assert answer.status == 0, answer.err
    with h5py.File(tmp_path / "outputs/record/shallownet-signals/v001/store.h5") as file:
        assert file["activations/power/maps"].attrs["axes"] == "image channel time"
        assert file["pictures/pixels"].attrs["axes"] == "image channel time"
        shown = file["pictures/pixels"][:3]
    assert np.allclose(shown, drawn_as_small(3), atol=1e-6)
    top = package.open(tmp_path / "outputs/topk/shallownet-signals/v001")["units/power"]
    assert np.allclose(top["picture"][0, 0], drawn_as_small(64)[top["image"][0, 0]], atol=1e-6)
    names = {path.name for path in (tmp_path / "outputs/topk/shallownet-signals/v001/figures").iterdir()}
    assert names == {f"{one}{end}.png" for one in ("power", "conv1") for end in ("", "_unit0")} | {
        "bottom_power.png", "bottom_conv1.png"}  # fmt: skip
    run = tmp_path / "outputs/perturb/shallownet-signals/v001"
    table = package.open(run)["units/power"]
    assert table["amplitude"].shape == (4, 3, 3) and table["phase"].shape == (4, 3)
    axes = package.open(run)["axes"]
    assert axes.attributes["unit"] == "Hz" and json.loads(axes.attributes["planted"])[1] == [1, 2, 47.0]
    names = {path.name for path in (run / "figures").iterdir()}
    assert names == {"power_units.png", "power_channels.png", "logits_units.png", "logits_channels.png", "depth.png"}
    assert "signals" in cnnprobe("perturb", "--help", "model=shallownet", "dataset=signals").out


def test_the_users_recordings_are_perturbed_too(cnnprobe, tmp_path):
    data = np.random.default_rng(0).standard_normal((30, 3, 240)).astype(np.float32)
    data[4, 0, 0] = np.nan
    np.savez(tmp_path / "mine.npz", x=data, labels=np.arange(30) % 2)
    common = [*SMALL[:4], "dataset=arrays", f"dataset.root={tmp_path / 'mine.npz'}", "batch_size=8", "device.workers=0"]
    answer = cnnprobe("train", *common, "epochs=1", "precision=float32")
    assert answer.status == 0, answer.err
    answer = cnnprobe("perturb", *common, "layer=power", "bands=3", "draws=2", "dataset.rate=100")
    assert answer.status == 0, answer.err
    assert "1 skipped" in answer.out and "cut to the 200 in their middle" in answer.err
    recording = package.open(tmp_path / "outputs/perturb/shallownet-arrays/v001")
    assert recording["axes"]["high"][-1] == 50
    assert np.isfinite(recording["units/power"]["amplitude"]).all()


@pytest.mark.slow
def test_a_stopped_run_ends_as_one_that_was_not(cnnprobe, tmp_path, monkeypatch):
    """Bit for bit; stopped at a row in the middle."""
    common = [*SMALL, "model.filters=12", "dataset=signals", "dataset.count=40", "weights=random",
              "layer=[power,conv1]", "bands=3", "draws=2", "permutations=5", "kind=both"]  # fmt: skip
    assert cnnprobe("perturb", *common).status == 0
    from cnnprobe.store import writer

    write, count = writer.Writer.write, 0

    def stopping(self, rows):
        nonlocal count
        write(self, rows)
        count += 1
        if count == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(writer.Writer, "write", stopping)
    assert cnnprobe("perturb", *common).status == 130
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "outputs/perturb/shallownet-signals"
    assert cnnprobe("perturb", "--resume", str(folder / "v002")).status == 0
    one, other = (package.open(folder / version) for version in ("v001", "v002"))
    for name in one.tables():
        for column in one[name].columns:
            assert np.array_equal(one[name][column], other[name][column],
                                  equal_nan=one[name][column].dtype.kind == "f"), (name, column)  # fmt: skip


def test_the_gratings_find_the_orientation_of_a_unit():
    """The same unit by perturbation of noise and by gratings: orientations mean the same in both."""
    y, x = np.mgrid[:13, :13] - 6
    turn = np.radians(45)
    wave = np.exp(-(x**2 + y**2) / 12) * np.cos(2 * np.pi * 0.25 * (x * np.cos(turn) + y * np.sin(turn)))
    model = nn.Sequential(nn.Conv2d(3, 1, 13), nn.ReLU()).eval()
    model[0].weight.data[0], model[0].bias.data[:] = torch.from_numpy(wave - wave.mean()).float(), 0
    noise = np.random.default_rng(0).random((200, 3, 32, 32)).astype(np.float32)
    found, _ = measured(model, noise, layer="1", bands=4, orientations=4, draws=4)
    best = int(found["units/1", "amplitude"][0, :, 0].argmax())
    stimuli = gratings.build(size=32, orientations=4, frequencies=[8.0], phases=4, contrasts=[1.0])
    answers = model(stimuli.load(range(16))[0]).mean((1, 2, 3)).view(4, 4).mean(1)
    assert found["axes", "orientation"][best] == 45 * int(answers.argmax()) == 45
