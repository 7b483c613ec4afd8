"""An experiment of the user's own: a file that the command line names, and nobody else."""

import hashlib
import json
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from torch import nn

import cnnprobe as package
from cnnprobe.config import catalogue
from cnnprobe.errors import UserError
from cnnprobe.store import run_json

EXPERIMENT = '''
"""How bright the images are.

    cnnprobe bright-ness method.file=bright_ness.py scale=2
"""
from typing import Annotated
from pathlib import Path
import numpy as np
from matplotlib.figure import Figure
from cnnprobe.config.options import Range
from cnnprobe.instruments.images.batches import batches
from cnnprobe.store.tables import Advance, Column, Measurement, Rows, Table
from parts import factor

MOST = 9
Path("was-run").write_text("")

def compute(provided, *, scale: Annotated[float, Range(0, 10)] = 1.0, most: int = MOST, note: str | None = None):
    """Measure it.

    Args:
        scale: by which the brightness
            is multiplied.
        most: images that count.
    """
    images = Table("images", "image", len(provided.dataset), {"mean": Column("brightness")}, batch=4)
    def events():
        for batch in batches(provided.dataset, **(provided.computation.loading | {"batch_size": 4}),
                             start=provided.resumed.start):
            means = batch.images.mean((1, 2, 3)).cpu().numpy()
            yield Rows("images", int(batch.indices[0]), {"mean": factor(scale) * means})
            yield Advance(len(batch))
    return Measurement([images], events(), len(provided.dataset))

def draw(recording):
    figure = Figure()
    figure.subplots().plot(recording["images"]["mean"])
    yield "brightness", figure

def headline(recording):
    return {"brightness": float(recording["images"]["mean"].mean())}
'''
BARE = "def compute(provided): pass\n"
PARTS = "def factor(scale):\n    return scale\n"
IMAGES = ["model=convnet", "dataset=shapes", "dataset.count=8", "weights=random"]
MINE = ["bright-ness", "method.file=bright_ness.py"]
RUN = "outputs/bright-ness/convnet-shapes/v001"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the experiment and a file that it imports."""
    monkeypatch.chdir(tmp_path)
    Path("bright_ness.py").write_text(EXPERIMENT)
    Path("parts.py").write_text(PARTS)
    yield tmp_path
    catalogue.OWN.clear()


def stopped(folder):
    about = run_json.as_written(folder)
    (folder / "run.json").write_text(json.dumps(about | {"status": "interrupted"}))


def without_last_batch(folder):
    """Make a complete run one that was stopped before its last batch."""
    stopped(folder)
    with h5py.File(folder / "store.h5", "r+") as file:
        file["saved/images/done"][-1] = 0
        file.attrs.modify("complete", np.False_)


def test_a_file_is_a_command_with_options_of_its_own(cnnprobe, place):
    assert cnnprobe(*MINE, *IMAGES).status == 0
    once = package.open(RUN)["images"]["mean"]
    answer = cnnprobe(*MINE, *IMAGES, "scale=2")
    assert answer.status == 0 and "bright-ness: brightness " in answer.out
    twice = package.open(RUN.replace("v001", "v002"))["images"]["mean"]
    assert once.shape == (8,) and (twice == 2 * once).all() and once.std() > 0
    assert Path(RUN, "figures/brightness.png").is_file()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('yield "brightness"', 'yield "../brightness"', "'../brightness' cannot name a file in figures"),
        ('Table("images"', 'Table("../images"', "'..' cannot be a name in a store (table '../images')"),
    ],
)
def test_a_name_that_is_a_path_is_a_mistake_in_one_line(cnnprobe, place, old, new, words):
    """F102: of a figure, or of a table after which one is called."""
    Path("bright_ness.py").write_text(EXPERIMENT.replace(old, new))
    answer = cnnprobe(*MINE, *IMAGES)
    assert answer.status == 2 and words in answer.err and "Traceback" not in answer.err
    assert not list(place.rglob("brightness.png"))


def test_what_is_typed_is_checked_against_its_annotations(cnnprobe, place):
    answer = cnnprobe(*MINE, *IMAGES, "scale=11")
    assert (answer.status, answer.err) == (
        2,
        "cnnprobe bright-ness: scale must be a finite number, from 0 to 10, got 11\n",
    )
    assert "no option 'scal' in bright-ness; did you mean 'scale'?" in cnnprobe(*MINE, *IMAGES, "scal=1").err
    assert not Path("outputs").exists() and not Path("was-run").exists()
    assert "scale must be a finite number" in cnnprobe(*MINE, "-m", *IMAGES, "scale=11,12").err


def test_help_is_made_from_its_docstrings_without_running_it(cnnprobe, place):
    answer = cnnprobe(*MINE, "--help")
    assert answer.status == 0 and not Path("was-run").exists()
    assert "bright-ness: How bright the images are." in answer.out
    assert "cnnprobe bright-ness method.file=bright_ness.py scale=2" in answer.out
    lines = " ".join(answer.out.split())
    assert "scale=1.0 by which the brightness is multiplied" in lines
    assert "most=9 images that count" in lines and "note=null" in lines
    place.joinpath("bright_ness.py").write_text(BARE)
    assert "Examples" in answer.out and "Examples" not in cnnprobe(*MINE, "--help").out


@pytest.mark.parametrize(
    ("drawn", "said"),
    [
        ("return figure", "returned Figure"),
        ("yield figure", "yielded Figure"),
        ("yield 1, figure", "yielded (int, Figure)"),
        ("pass", "returned NoneType"),
    ],
)
def test_what_draw_hands_over_is_no_figure_with_a_name(cnnprobe, place, drawn, said):
    place.joinpath("bright_ness.py").write_text(EXPERIMENT.replace('yield "brightness", figure', drawn))
    answer = cnnprobe(*MINE, *IMAGES)
    assert answer.status == 2
    assert f"draw of bright-ness must yield pairs (name, figure), {said}" in answer.err


def test_a_sweep_has_a_row_for_each_value(cnnprobe, place):
    assert cnnprobe(*MINE, "-m", *IMAGES, "scale=1,3").status == 0
    rows = Path("outputs/bright-ness/convnet-shapes/sweep-001/runs.csv").read_text().splitlines()
    assert len(rows) == 3 and "scale" in rows[0] and "brightness" in rows[0]


def test_it_is_run_only_where_the_command_line_names_it(cnnprobe, place):
    """F102: of a run that anyone may have handed over."""
    assert cnnprobe(*MINE, *IMAGES).status == 0
    Path("was-run").unlink()
    stopped(Path(RUN))
    for words in (["--redraw", RUN], ["--resume", RUN], ["--rerun", RUN]):
        answer = cnnprobe("bright-ness", *words)
        assert answer.status == 2 and "an experiment of your own needs method.file=" in answer.err
    Path("other").mkdir()
    Path("other/bright_ness.py").write_text(EXPERIMENT)
    answer = cnnprobe("bright-ness", "method.file=other/bright_ness.py", "--resume", RUN)
    assert answer.status == 2 and "this would run the Python file bright_ness.py; if it is yours, add" in answer.err
    for words in (["check", RUN], ["status"], ["check", "all"]):
        cnnprobe(*words)
    assert not Path("was-run").exists()
    folder = Path("mine/experiment")
    folder.mkdir(parents=True)
    (folder / "one.yaml").write_text("# @package _global_\nmethod:\n  file: bright_ness.py\n")
    answer = cnnprobe("topk", "layer=conv1", "--config-dir", "mine", "experiment=one")
    assert answer.status == 2 and "a Python file is run only if the command line names it" in answer.err
    assert not Path("was-run").exists()


def test_a_run_whose_headline_cannot_be_written_has_failed(cnnprobe, place):
    """An array is no JSON; such a run was called killed."""
    bad = EXPERIMENT.replace('float(recording["images"]["mean"].mean())', 'recording["images"]["mean"]')
    Path("bright_ness.py").write_text(bad)
    assert cnnprobe(*MINE, *IMAGES).status == 1
    assert run_json.read(Path(RUN))["status"] == "failed"


@pytest.mark.parametrize("file", [["method.file=bright_ness.py"], ["method.file=bright_ness.py", "model=custom"]])
def test_what_a_run_needs_is_not_typed_again_to_repeat_it(cnnprobe, place, file):
    """F94: an option without a default, and the file of a network, which the run itself has."""
    Path("bright_ness.py").write_text(EXPERIMENT.replace("] = 1.0, most", "], most"))
    Path("net.py").write_text("from torch import nn\ndef build():\n    return nn.Conv2d(3, 2, 3)\n")
    network = ["model=custom", "model.file=net.py", "model.input_size=32"] if file[1:] else ["model=convnet"]
    made = cnnprobe("bright-ness", file[0], *network, *IMAGES[1:], "scale=2")
    assert made.status == 0, made.err
    folder = Path(f"outputs/bright-ness/{'custom' if file[1:] else 'convnet'}-shapes/v001")
    again = ["bright-ness", *file, *network[1:2]]
    for flag in ("--redraw", "--rerun", "--resume"):
        stopped(folder) if flag == "--resume" else None
        answer = cnnprobe(*again, flag, str(folder))
        assert answer.status == 0, answer.err
    both = [package.open(folder.with_name(name))["images"]["mean"] for name in ("v001", "v002")]
    assert (both[0] == both[1]).all()


@pytest.mark.parametrize("file", ["bright_ness.py", "parts.py"])
def test_a_run_does_not_go_on_with_other_code(cnnprobe, place, file):
    """F100: also not with another file that it imports."""
    assert cnnprobe(*MINE, *IMAGES).status == 0
    stopped(Path(RUN))
    assert cnnprobe(*MINE, "--resume", RUN).status == 0
    stopped(Path(RUN))
    Path(file).write_text(Path(file).read_text() + "# other\n")
    answer = cnnprobe(*MINE, "--resume", RUN)
    assert answer.status == 2 and f"experiment {file} changed" in answer.err
    answer = cnnprobe(*MINE, "--rerun", RUN)
    assert answer.status == 0 and f"experiment {file} changed" in answer.err
    assert cnnprobe(*MINE, "--redraw", RUN.replace("v001", "v002")).status == 0


@pytest.mark.parametrize("file", ["bright_ness.py", "parts.py"])
def test_each_job_of_a_sweep_runs_the_files_as_they_are_then(cnnprobe, place, file):
    """F100: and its digests are those of what ran, though the file is another one by the time they are written."""
    edited = f"with open({file!r}, 'a') as itself:\n    itself.write('TIMES *= 2\\n')\n"
    own = EXPERIMENT.replace("factor(scale) *", "factor(scale) * TIMES * parts.TIMES *")
    own = own.replace("MOST = 9\n", "MOST = 9\n" + edited)
    texts = {"bright_ness.py": f"{own}\nimport parts\nTIMES = 1\n", "parts.py": f"{PARTS}\nTIMES = 1\n"}
    for name, text in texts.items():
        Path(name).write_text(text)
    assert cnnprobe(*MINE, "-m", *IMAGES, "scale=1,1.0").status == 0
    runs = [Path(RUN), Path(RUN.replace("v001", "v002"))]
    first, second = (package.open(run)["images"]["mean"] for run in runs)
    assert np.allclose(second, 2 * first)
    for times, run in enumerate(runs):
        expected = hashlib.sha256((texts[file] + "TIMES *= 2\n" * times).encode()).hexdigest()
        assert run_json.read(run)["identity"][f"experiment {file}"] == expected


def test_from_python_a_file_is_run_as_it_is_then(place):
    """F100."""
    images = np.ones((4, 1, 8, 8), np.float32)
    for times in (1, 3):
        Path("bright_ness.py").write_text(EXPERIMENT.replace("factor(scale) *", f"{times} * factor(scale) *"))
        rows = list(package.measure("bright_ness.py", model=nn.Identity(), dataset=images))
        assert [row.mean for row in rows if row.table == "images"] == [times] * 4


def test_what_the_experiment_of_a_job_imports_is_no_code_of_the_network_of_the_next(cnnprobe, place):
    """F100: such a job could not be gone on with."""
    Path("net.py").write_text("from torch import nn\ndef build():\n    return nn.Conv2d(3, 2, 3)\n")
    network = ["model=custom", "model.file=net.py", "model.input_size=32"]
    assert cnnprobe(*MINE, "-m", *network, *IMAGES[1:], "scale=1,2").status == 0
    for _ in range(2):  # one after the other in this process
        assert cnnprobe(*MINE, *network, *IMAGES[1:]).status == 0
    runs = list(Path("outputs/bright-ness/custom-shapes").glob("v*"))
    assert len(runs) == 4
    for run in runs:
        assert [part for part in run_json.read(run)["identity"] if part.startswith("code")] == ["code net.py"]


def test_a_network_and_an_experiment_each_import_what_lies_beside_them(cnnprobe, place):
    """F100: under one name."""
    for name, start in (("net", 1), ("net/deep", 2)):
        Path(name).mkdir()
        Path(name, "parts.py").write_text(f"VALUE = {start}.0\n")
        Path(name, "net.py").write_text(
            "import torch, parts\nclass Net(torch.nn.Module):\n"
            "    def forward(self, x):\n        return x.mean((2, 3)) * parts.VALUE\n"
        )
        words = ["model=custom", f"model.file={name}/net.py", "model.function=Net", "model.input_size=32", *IMAGES[1:]]
        assert cnnprobe(*MINE, *words, f"name=n{start}").status == 0
        identity = run_json.read(Path(f"outputs/bright-ness/n{start}/v001"))["identity"]
        for part, file in (("code", Path(name, "parts.py")), ("experiment", Path("parts.py"))):
            assert identity[f"{part} parts.py"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert "code parts.py" in identity and not [part for part in identity if part.startswith("method's module")]


def test_what_a_job_finds_broken_is_its_failure(cnnprobe, place):
    """F15: a file that somebody is editing."""
    text = EXPERIMENT.replace("MOST = 9", "MOST = 9\nPath(__file__).write_text('def compute(:')")
    Path("bright_ness.py").write_text(text)
    answer = cnnprobe(*MINE, "-m", *IMAGES, "scale=1,2")
    assert answer.status == 2 and "1 of 2 jobs done" in answer.out
    assert "bright_ness.py:1: SyntaxError: " in answer.err and "Traceback" not in answer.err
    assert "failed" in answer.out and "bright_ness.py:1: SyntaxError: invalid syntax" in answer.out  # in the table


def test_what_a_job_asks_for_is_compared_with_the_file_as_it_is_then(cnnprobe, place):
    """F15: another option, or another range of it, than when the sweep was begun."""
    narrower = "own = Path(__file__)\nown.write_text(own.read_text().replace('Range(0, 1' + '0)', 'Range(0, 1)'))"
    Path("bright_ness.py").write_text(EXPERIMENT.replace("MOST = 9", f"MOST = 9\n{narrower}"))
    answer = cnnprobe(*MINE, "-m", *IMAGES, "scale=1,2")
    assert answer.status == 2 and "1 of 2 jobs done" in answer.out
    assert "a finite number, from 0 to 1, got 2" in answer.out


@pytest.mark.parametrize(
    "option", ["root", *(pytest.param(name, marks=pytest.mark.slow) for name in ("brain", "old_task", "tables"))]
)
@pytest.mark.parametrize("place_of", ["numbers.csv", "numbers/below/one.csv"])
def test_whatever_an_option_is_called_its_files_count(cnnprobe, place, option, place_of):
    """F100: no name of a package's option, and no folder, hides a file that an experiment of one's own reads."""
    words = [*IMAGES, f"{option}={Path(place_of).parts[0]}"]
    Path("bright_ness.py").write_text(EXPERIMENT.replace("note: str", f"{option}: str | list[str]"))
    Path(place_of).parent.mkdir(parents=True, exist_ok=True)
    Path(place_of).write_text("1")
    assert cnnprobe(*MINE, *words).status == 0
    stopped(Path(RUN))
    assert cnnprobe(*MINE, "--resume", RUN).status == 0
    stopped(Path(RUN))
    Path(place_of).write_text("2")
    answer = cnnprobe(*MINE, "--resume", RUN)
    assert answer.status == 2 and f"method.{option} {Path(place_of).parts[0]} changed" in answer.err, answer.err
    assert f"method.{option} {Path(place_of).parts[0]} changed" in cnnprobe(*MINE, "--rerun", RUN).err


def test_what_lies_behind_a_link_in_a_folder_counts(cnnprobe, place):
    """F100."""
    Path("bright_ness.py").write_text(EXPERIMENT.replace("note: str", "tables: str"))
    Path("numbers").mkdir()
    Path("elsewhere").mkdir()
    Path("elsewhere/one.csv").write_text("1")
    Path("numbers/linked").symlink_to(Path("elsewhere").resolve())
    assert cnnprobe(*MINE, *IMAGES, "tables=numbers").status == 0
    stopped(Path(RUN))
    Path("elsewhere/one.csv").write_text("2")
    answer = cnnprobe(*MINE, "--resume", RUN)
    assert answer.status == 2 and "v001 cannot go on: method.tables numbers changed" in answer.err


@pytest.mark.parametrize("where", ["compute", "events"])
def test_code_that_only_its_functions_import_is_part_of_it(cnnprobe, place, monkeypatch, tmp_path_factory, where):
    """F100: before there is a row, and between two of them; rows of other such code are kept apart, and a rerun tells.

    No text names the module, and the folder is put on the path where it is needed.
    """
    monkeypatch.setattr(sys, "path", list(sys.path))
    lib = tmp_path_factory.mktemp("lib")
    (lib / "gains.py").write_text("GAIN = 1\n")
    found = (
        f"def gain():\n    import sys\n    sys.path.insert(0, {str(lib)!r})\n    return __import__('gai' + 'ns').GAIN\n"
    )
    text = EXPERIMENT.replace("def compute", f"{found}\ndef compute")
    if where == "compute":
        text = text.replace("    def events", "    once = gain()\n    def events").replace("factor(scale) *", "once *")
    else:
        text = text.replace("factor(scale) *", "(gain() if batch.indices[0] else 1) *")
    Path("bright_ness.py").write_text(text)
    assert (answer := cnnprobe(*MINE, *IMAGES)).status == 0, answer.err
    about = run_json.read(Path(RUN))
    digest = hashlib.sha256((lib / "gains.py").read_bytes()).hexdigest()
    assert about["identity" if where == "compute" else "run_later"]["method's module gains"] == digest
    assert cnnprobe("check", RUN).status == 0
    first = cnnprobe(*MINE, "--rerun", RUN)
    assert first.status == 0 and "not the same run" not in first.err
    without_last_batch(Path(RUN))
    assert (answer := cnnprobe(*MINE, "--resume", RUN)).status == 0, answer.err
    assert package.open(RUN).complete and run_json.read(Path(RUN)).get("run_later") == about.get("run_later")
    without_last_batch(Path(RUN))
    (lib / "gains.py").write_text("GAIN = 3\n")
    before = package.open(RUN).path.read_bytes()
    answer = cnnprobe(*MINE, "--resume", RUN)
    assert answer.status == 2 and "v001 cannot go on: method's module gains changed since it was begun" in answer.err
    assert package.open(RUN).path.read_bytes() == before
    answer = cnnprobe(*MINE, "--rerun", RUN)
    assert answer.status == 0 and "not the same run as v001: method's module gains changed" in answer.err
    (lib / "gains.py").write_text("GAIN = 1\n")
    assert cnnprobe(*MINE, "--resume", RUN).status == 0


def test_a_folder_that_a_word_means_by_chance_costs_nothing(cnnprobe, place):
    """F100: neither the folder of all runs, nor a sign that is one too; runs come there all the time."""
    for word in ("note=.", "note=outputs"):
        assert cnnprobe(*MINE, *IMAGES, word).status == 0
        run = max(Path("outputs/bright-ness/convnet-shapes").glob("v*"))
        assert not [part for part in run_json.read(run)["identity"] if part.startswith("method.")]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("gone.py", None, "there is no file gone.py"),
        ("Mine.py", EXPERIMENT, "Mine.py cannot name a command; small letters, digits and _ can, then .py"),
        ("mine.txt", EXPERIMENT, "mine.txt cannot name a command"),
        ("topk.py", EXPERIMENT, "topk is a command of this package"),
        ("check.py", EXPERIMENT, "check is a command of this package"),
        ("other.py", EXPERIMENT, "other.py is the command other, not mine"),
        (
            "mine.py",
            BARE,
            "mine.py has no function draw, headline; an experiment has compute",
        ),
        ("mine.py", "def compute(:\n", "mine.py:1: SyntaxError: "),
        ("mine.py", EXPERIMENT.replace("most: int", "limit: int"), "mine.py: limit is an option of every run"),
        ("mine.py", EXPERIMENT.replace("most: int", "seed: int"), "mine.py: seed is an option of every run"),
        ("mine.py", EXPERIMENT.replace("note: str", "source: str"), "mine.py: source is a run, which is opened"),
        ("mine.py", EXPERIMENT.replace("most: int =", "most ="), "mine.py: most needs an annotation"),
        ("mine.py", EXPERIMENT.replace("most: int", "most: np.ndarray"), "mine.py: most needs an annotation"),
        ("mine.py", EXPERIMENT.replace("MOST = 9", "MOST = max(1, 9)"), "the default of most must be a plain value"),
        ("mine.py", EXPERIMENT.replace('Path("was-run")', "raise OSError('x')\n#"), "OSError: x"),
    ],
)
def test_a_file_that_is_none_is_told_in_one_line(cnnprobe, place, name, text, told):
    if text is not None:
        Path(name).write_text(text)
    answer = cnnprobe("mine", f"method.file={name}", *IMAGES)
    assert answer.status == 2, answer.err
    assert told in answer.err and len(answer.err.splitlines()) == 1
    assert not Path("outputs").exists()


def test_a_command_of_the_package_takes_no_file(cnnprobe, place):
    answer = cnnprobe("topk", "method.file=bright_ness.py", *IMAGES, "layer=conv1")
    assert answer.status == 2 and "topk is a command of this package" in answer.err


def test_from_python_the_file_stands_for_the_command(place):
    images = np.random.default_rng(0).random((6, 3, 8, 8), np.float32)
    rows = list(package.measure("bright_ness.py", model=nn.Identity(), dataset=images, scale=3))
    assert np.allclose([row.mean for row in rows], 3 * images.mean((1, 2, 3)))
    with pytest.raises(UserError, match="scale must be a finite number"):
        package.measure("bright_ness.py", model=nn.Identity(), dataset=images, scale=-1)
