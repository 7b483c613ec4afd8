"""What a command line asks of the runner."""

import json

import pytest

from cnnprobe.cli.main import main


def test_a_repeated_run_takes_no_other_options(cnnprobe):
    answer = cnnprobe("topk", "--resume", "v001", "k=4")
    assert answer.status == 2
    assert "a run is repeated with its own options" in answer.err


def test_a_run_of_another_command_is_not_resumed(cnnprobe, tmp_path):
    folder = tmp_path / "outputs/record/a-b/v001"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"command": "record", "status": "interrupted"}')
    (folder / "config.yaml").write_text("{}")
    answer = cnnprobe("topk", "--resume", str(folder))
    assert answer.status == 2
    assert "is a run of record, not of topk" in answer.err


def test_a_run_without_a_configuration_is_told(cnnprobe, tmp_path):
    folder = tmp_path / "outputs/record/a-b/v001"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    answer = cnnprobe("record", "--rerun", str(folder))
    assert answer.status == 2
    assert "there is no file" in answer.err and "config.yaml" in answer.err


@pytest.fixture(scope="module")
def out(tmp_path_factory, sketched):
    """A run called t, and a run of record."""
    folder = tmp_path_factory.mktemp("out")
    words = ["record", "model=convnet", "dataset=shapes", "dataset.count=8", "weights=random", "layer=conv1", "name=t"]
    assert main([*words, f"out={folder}"]) == 0
    return folder


@pytest.mark.parametrize("flag", ["rerun", "resume", "redraw"])
@pytest.mark.parametrize("typed", ["model=squeezenet", "dataset=avatar", "name=zzz"])
def test_words_that_say_which_run_is_meant_are_refused_where_it_is_another(cnnprobe, out, flag, typed):
    """F100: they were dropped without a word where the run was found without them."""
    answer = cnnprobe("record", f"--{flag}", "record/t/v001", typed, f"out={out}")
    own = {"model": "convnet", "dataset": "shapes", "name": "t"}[typed.split("=")[0]]
    assert answer.status == 2
    assert f"record/t/v001 has {typed.split('=')[0]}={own}, asked for {typed}" in answer.err
    assert [path.name for path in (out / "record/t").glob("v*")] == ["v001"]


@pytest.mark.parametrize("typed", ["weights=published", "dataset.download=true", "model.file=net.py"])
def test_words_that_let_a_repeated_run_do_something_are_refused_where_it_does_not(cnnprobe, out, typed):
    """F100."""
    answer = cnnprobe("record", "--rerun", "record/t/v001", typed, f"out={out}")
    assert answer.status == 2
    assert answer.err.strip().endswith(f"asked for {typed}")


def test_words_that_say_which_run_is_meant_find_it(cnnprobe, out):
    assert cnnprobe("record", "--redraw", "v001", "name=t", "model=convnet", "dataset=shapes", f"out={out}").status == 0


def test_a_run_that_was_handed_over_is_done_once_more_below_outputs(cnnprobe, tmp_path):
    """F102: not where its configuration says, which may be anywhere; it has no place of its own any more."""
    assert cnnprobe("layers", "model=convnet", "dataset=shapes", "dataset.count=3").status == 0
    given = tmp_path / "given/run"
    given.parent.mkdir()
    (tmp_path / "outputs").rename(tmp_path / "away")
    (tmp_path / "away/layers/convnet-shapes/v001").rename(given)
    text = (given / "config.yaml").read_text()
    assert "\nout: outputs\n" in f"\n{text}"
    (given / "config.yaml").write_text(text.replace("out: outputs", f"out: {tmp_path}/elsewhere"))
    answer = cnnprobe("layers", "--rerun", str(given))
    assert answer.status == 0, answer.err
    assert not (tmp_path / "elsewhere").exists() and (tmp_path / "outputs/layers/convnet-shapes/v001").is_dir()


@pytest.mark.parametrize("words", [["name=p"], ["model=convnet", "dataset=shapes"]])
@pytest.mark.parametrize("asked", ["--resume latest", "--resume v001", "--rerun v001", "--redraw v001"])
def test_of_a_name_that_is_typed_no_run_of_another_is_taken(cnnprobe, tmp_path, asked, words):
    """F101: also where that other run was stopped last, or is the only one."""
    name = "p" if words == ["name=p"] else "convnet-shapes"
    for number, one in enumerate((name, "q"), 1):
        folder = tmp_path / f"outputs/topk/{one}/v00{number}"
        folder.mkdir(parents=True)
        about = {"command": "topk", "status": "interrupted", "ended": f"2026-01-0{number}T00:00:00+00:00"}
        (folder / "run.json").write_text(json.dumps(about))
    assert f"topk/{name}/v001/" in cnnprobe("topk", *asked.split(), *words).err
    (tmp_path / f"outputs/topk/{name}").rename(tmp_path / "outputs/topk/other")
    answer = cnnprobe("topk", *asked.split(), *words)
    assert answer.status == 2
    assert f"no run of topk called {name} in outputs was stopped" in answer.err or "no run 'v001'" in answer.err
