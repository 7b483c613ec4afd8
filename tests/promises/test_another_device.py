"""What is measured on another device than the processor: on a pretend one the same bits, on a GPU the same numbers.

`CNNPROBE_TEST_DEVICE=cuda` asks for a GPU instead; `make test-device` sets it, and then all tests of the project that
leave the device open run there as well.
"""

import re

import pytest
import torch

import cnnprobe as package
from cnnprobe.config import catalogue
from cnnprobe.datasets import folder as folders
from cnnprobe.errors import UserError
from cnnprobe.instruments.images.batches import batches
from cnnprobe.machine import devices
from cnnprobe.machine.memory import free_memory
from cnnprobe.machine.precision import Precision, exact, repeatable
from cnnprobe.preparation import build as preparation
from tests.runs.test_execute import contents, name_of, words
from tests.runs.test_resource_errors import FAST, PROBES, alike
from tests.support import pretend
from tests.support.calling import agree, called, joined, network, plain, same_rows
from tests.support.described import COMMANDS
from tests.support.device import GPU, WHERE, missing
from tests.support.networks.zoo import HEAVY, built

LOW = 2e-3
"""Share by which numbers in bfloat16, or of a training in another memory layout, may differ: it is their rounding."""
VARIANTS = {
    "gbp": [
        *({"rule": rule} for rule in ("deconvnet", "gradient", "input-x-gradient")),
        {"rule": "smoothgrad", "samples": 3},
        {"rule": "integrated", "steps": 3},
        *({"target": target} for target in ("channel", "channel-abs")),
        {"target": "class", "layer": None},
        {"target": "group", "units": [0, 1], "layer": "conv1"},
        {"ranking": "low_share"},
    ],
    "cam": [
        *({"kind": kind} for kind in ("cam", "guided-gradcam", "layercam", "scorecam", "cccam")),
        {"images": "best:4", "class": 1},
    ],
    "optimize": [
        *({"preset": preset} for preset in ("lucid", "yosinski-1", "yosinski-4", "maco")),
        *({"objective": objective} for objective in ("neuron", "contrast", "layer")),
        {"objective": "class", "layer": None},
        {"objective": "group", "units": [0, 1]},
        {"objective": "direction", "direction": [1.0, 0.0, 0.0, 1.0, 0.0, 0.0], "layer": "conv1"},
        {"starts": 2, "diversity": 1.0},
        *({"parametrisation": "pixel", key: value} for key, value in (("blur", 1.0), ("small_norm", 0.1),
                                                                    ("small_contribution", 0.1))),
    ],
    "rf-map": [
        *({"filling": filling} for filling in ("mean", "zero", "blur")),
        *({"reading": reading} for reading in ("max", "mean", "anywhere")),
        {"precision": "bfloat16"},
        {"layer": "conv2", "memory": 0.001},
    ],
    "topk": [{"bottom": True}, {"crop": True}, {"criterion": "area", "quantile": 0.9}],
    "record": [{"dtype": "float16"}, {"layer": "all"}],
    "perturb": [{"kind": "phase"}, {"colour": "opponent"}, {"spacing": "octave"}, {"layer": "logits"}],
    "rsa": [
        *({"metric": metric} for metric in ("spearman", "euclidean", "cosine")),
        {"metric": "mahalanobis", "conditions": "class"},
    ],
    "tuning": [{"strength": "max"}, {"strength": "f1"}, {"subtract": True}, {"reading": "max"}],
    "train": [
        {"precision": "bfloat16"},
        {"precision": "tf32"},
        {"channels_last": True},
        {"optimizer": "sgd"},
        {"optimizer": "adam", "clip": 1.0},
        {"loss": "squared-error"},
        {"augment": ["resized-crop", "flip", "colour"]},
        {"balance": "draw"},
        {"balance": "loss", "label_smoothing": 0.1},
        {"preload": False},
    ],
    "transfer": [*({"mode": mode} for mode in ("probe", "partial", "scratch")), {"fraction": 0.5}],
}  # fmt: skip
SHORT = (("topk", {"criterion": "area", "quantile": 0.9}), ("gbp", {"rule": "smoothgrad", "samples": 3}),
         ("cam", {"kind": "cccam"}), ("train", {"precision": "bfloat16"}))  # fmt: skip
"""Variants that are tried each time; the others take a minute."""


@pytest.fixture(autouse=True)
def there_is_one():
    if missing():
        pytest.skip(missing())


def there(command, **changes):
    """Return what a command measures on the other device."""
    place = {} if command == "layers" else {"device": WHERE}
    return joined(called(command, network().to(WHERE), **place, **changes))


def same(one, other, rounded):
    """The same bits on a pretend device; the same numbers, up to a share, on a real one."""
    if GPU or rounded:
        agree(one, other, rounded or 1e-4)
    else:
        same_rows(one, other)


@pytest.mark.parametrize(
    "command", [pytest.param(c, marks=pytest.mark.slow if c == "transfer" else ()) for c in COMMANDS]
)
def test_every_command_measures_on_another_device_what_it_does_on_the_processor(command):
    """F97."""
    same(plain(command), there(command), 1e-3 if GPU and COMMANDS[command].learns else 0)


@pytest.mark.parametrize(
    ("command", "changes"),
    [
        pytest.param(
            command,
            changes,
            id="-".join([command, *map(str, changes.values())]),
            marks=() if (command, changes) in SHORT else pytest.mark.slow,
        )
        for command, several in VARIANTS.items()
        for changes in several
    ],
)
def test_so_does_every_kind_of_measurement(command, changes):
    """F97."""
    rounded = {"bfloat16", True} & set(map(str, changes.values())) if command == "train" else ()
    low = "bfloat16" in changes.values() or "channels_last" in changes
    same(joined(called(command, **changes)), there(command, **changes), LOW if low or rounded else 0)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in (*HEAVY, "squeezenet", "mousenet", "torchvision") else ())
        for name in catalogue.choices("model")
        if name != "custom"
    ],
)
def test_every_model_answers_the_same_there(name):
    """F97: every layer of it."""
    model, size = built(name)
    images = torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    given = {"dataset": images, "layer": "all", "batch_size": 2}
    here = joined(package.measure("record", model=model, **given))
    same(here, joined(package.measure("record", model=model.to(WHERE), device=WHERE, **given)), 0)


@pytest.mark.parametrize("name", ["avatar", "shapes", "gratings", "manufactured", "signals", "folder"])
def test_every_kind_of_images_comes_to_it_whole(name, pictures):
    """F97: those held in memory are scaled there, those of files by the loader."""
    page = catalogue.page(catalogue.yaml_path("dataset", name))
    given = {key: entry.default for key, entry in page.entries.items()}
    given |= {"size": 24, "resize": 28, "channels": 3, "count": 6, "root": str(pictures)}
    given = {key: value for key, value in given.items() if key in page.entries}
    dataset = folders.build(**given) if name == "folder" else preparation.module("dataset", name).build(**given)
    for one, other in zip(batches(dataset, batch_size=4), batches(dataset, batch_size=4, device=WHERE), strict=True):
        assert other.images.device.type == torch.device(WHERE).type
        assert torch.allclose(one.images, other.images.cpu(), rtol=0, atol=1e-5 if GPU else 0)


@pytest.mark.parametrize(
    "command", [command if command in ("topk", "train") else pytest.param(command, marks=pytest.mark.slow)
                for command in COMMANDS]
)  # fmt: skip
def test_a_run_there_leaves_the_same_store_and_the_same_figures(cnnprobe, pictures, tmp_path, monkeypatch, command):
    """F97: from end to end, and drawn from what was stored."""
    if GPU:
        pytest.skip("a GPU rounds otherwise; the numbers are compared above")
    asked = words(command, pictures, "weights=random" * (command != "train"), "device.workers=0", "device.threads=1")
    asked = [word for word in asked if word]
    assert cnnprobe(*asked, "device=cpu").status == 0
    monkeypatch.setattr(devices, "chosen", lambda name: WHERE)
    answer = cnnprobe(*asked)
    assert answer.status == 0, answer.err
    first, second = (tmp_path / "outputs" / command / name_of(command) / name for name in ("v001", "v002"))
    assert f'"device": "{WHERE}"' in (second / "run.json").read_text()
    assert contents(first) == contents(second)
    drawn = sorted(path.name for path in first.glob("figures/**/*.png"))
    assert drawn == sorted(path.name for path in second.glob("figures/**/*.png"))
    timed = ("learning.png",)
    for path in first.glob("figures/**/*.png"):
        if path.name not in timed:
            assert path.read_bytes() == (second / path.relative_to(first)).read_bytes(), path.name


def test_a_run_that_was_stopped_there_goes_on_there(cnnprobe, pictures, tmp_path, monkeypatch):
    """F97: and ends as one that was never stopped."""
    import signal

    from cnnprobe.store.writer import Writer

    monkeypatch.setattr(devices, "chosen", lambda name: WHERE)
    asked = words("train", pictures, "epochs=3", "device.workers=0", "device.threads=1")
    real, written = Writer.write, []

    def stopping(writer, rows):
        real(writer, rows)
        written.append(rows.table)
        if written == ["epochs"]:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Writer, "write", stopping)
    assert cnnprobe(*asked).status == 143
    monkeypatch.setattr(Writer, "write", real)
    assert cnnprobe("train", "--resume", "latest").status == 0
    assert cnnprobe(*asked).status == 0
    folder = tmp_path / "outputs/train" / name_of("train")
    assert contents(folder / "v001") == contents(folder / "v002")
    last = [(folder / version / "weights/last.safetensors").read_bytes() for version in ("v001", "v002")]
    assert last[0] == last[1]


# ---- memory of its own -----------------------------------------------------------------------------------------------


def test_free_memory_is_that_of_the_device(monkeypatch):
    """F97."""
    if GPU:
        assert free_memory(WHERE) == pytest.approx(torch.cuda.mem_get_info()[0], rel=0.2)
        return
    monkeypatch.setattr(pretend.ROOM, "free", 12345)
    assert free_memory(WHERE) == 12345
    assert free_memory("cpu") != 12345


@pytest.mark.parametrize("command", [c if c in FAST[:2] else pytest.param(c, marks=pytest.mark.slow) for c in PROBES])
def test_where_its_memory_is_short_every_command_goes_on_in_parts(cnnprobe, pictures, tmp_path, monkeypatch, command):
    """F97: nothing larger than three images of the first layer fits, and little is said to be free."""
    if GPU:
        pytest.skip("a GPU's memory cannot be made short")
    monkeypatch.setattr(devices, "chosen", lambda name: WHERE)
    asked = words(command, pictures, "weights=random", "device.workers=0", "device.threads=1")
    assert cnnprobe(*asked).status == 0
    monkeypatch.setattr(pretend.ROOM, "free", 2**20)
    real = torch.nn.Conv2d.forward

    def narrow(self, images):
        if len(images) > 3 and self.in_channels != 3:
            raise torch.OutOfMemoryError(f"{WHERE} out of memory. Tried to allocate 2.00 GiB")
        return real(self, images)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", narrow)
    answer = cnnprobe(*asked)
    assert answer.status == 0, answer.err
    assert re.search(r"does not fit in memory, going on with [123]$", answer.err, re.MULTILINE), answer.err
    package_folder = tmp_path / "outputs" / command / name_of(command)
    alike(package.open(package_folder / "v001"), package.open(package_folder / "v002"))


# ---- the pretend device itself, and what a GPU is asked for ----------------------------------------------------------


def test_devices_do_not_mix_and_numpy_wants_the_processor():
    one = torch.ones(3, device=WHERE)
    with pytest.raises(RuntimeError, match="device"):
        one + torch.ones(3)
    with pytest.raises((RuntimeError, TypeError)):
        one.numpy()
    assert (one + torch.tensor(1.0)).cpu().tolist() == [2.0] * 3  # a number may come from anywhere


def test_products_on_a_gpu_are_whole_float32_and_the_same_every_time(monkeypatch):
    """F97: torch would shorten the factors of convolutions to 10 bits, for whoever asks for nothing."""
    seen = {}

    def look():
        seen["conv"] = torch.backends.cudnn.conv.fp32_precision
        seen["rnn"] = torch.backends.cudnn.rnn.fp32_precision
        seen["strict"] = torch.are_deterministic_algorithms_enabled()

    before = torch.backends.cudnn.conv.fp32_precision, torch.are_deterministic_algorithms_enabled()
    with repeatable(exact("cuda")):
        look()
    assert seen == {"conv": "ieee", "rnn": "ieee", "strict": True}
    with repeatable(Precision(torch.device("cuda"), False, True, torch.contiguous_format)):
        look()
    assert seen["conv"] == seen["rnn"] == "tf32"
    assert (torch.backends.cudnn.conv.fp32_precision, torch.are_deterministic_algorithms_enabled()) == before


@pytest.mark.here
@pytest.mark.parametrize(
    ("asked", "count", "got"),
    [
        ("auto", 0, "cpu"),
        ("auto", 2, "cuda"),
        ("cpu", 2, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda:1"),
        ("cuda", 0, "no CUDA device here, asked for device=cuda; device=cpu or device=auto"),
        ("cuda:1", 0, "no CUDA device here, asked for device=cuda:1"),
        ("cuda:1", 1, "device=cuda:1 is not here; there is cuda:0"),
        ("cuda:4", 4, "device=cuda:4 is not here; there are cuda:0 to cuda:3"),
        ("mps", 1, "no device 'mps'; there are auto, cpu, cuda and, of several GPUs one, cuda:1"),
    ],
)
def test_a_device_is_there_or_told(monkeypatch, asked, count, got):
    """F97."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if " " not in got:
        assert devices.chosen(asked) == got
        return
    with pytest.raises(UserError, match=re.escape(got)):
        devices.chosen(asked)


@pytest.mark.parametrize("words_", [["device=cuda:7"], ["-m", "device=cuda:7,cuda:8"]])
def test_one_of_several_gpus_is_asked_for_in_one_word(cnnprobe, words_):
    """F97: also in a sweep."""
    answer = cnnprobe("record", *words_)
    assert (answer.status, answer.out.count("Traceback"), answer.err.count("Traceback")) == (2, 0, 0)
    assert "device=cuda:7" in answer.err
