import ast

import pytest

from cnnprobe.config import catalogue, options
from cnnprobe.errors import UserError


def test_a_page_has_summary_examples_defaults_and_remarks(tmp_path):
    path = tmp_path / "method" / "lesion.yaml"
    path.parent.mkdir()
    path.write_text(
        "# @package _global_\n# Silence units.\n#   cnnprobe lesion layer=conv1\n\nlayer: ???\nmethod:\n"
        "  name: lesion\n  share: 0.5  # of the units\n"
    )
    page = catalogue.page(path)
    assert page.summary == "Silence units."
    assert page.examples == ["cnnprobe lesion layer=conv1"]
    assert page.entries["share"] == catalogue.Entry(0.5, "of the units")
    assert list(page.root) == ["layer"]


def test_broken_yaml_is_told_with_file_and_line(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\nb: [1, 2\n")
    with pytest.raises(UserError, match=r"x\.yaml:3: not YAML"):
        catalogue.page(path)


def test_commands_are_those_that_work():
    assert set(catalogue.commands()) >= {"train", "layers", "record", "topk"}
    assert all(sentence and not sentence.endswith(".") for sentence in catalogue.commands().values())


def test_commands_of_upkeep_are_the_files_that_run():
    assert set(catalogue.upkeep()) == {"doctor", "check", "status"}
    assert all(sentence and not sentence.endswith(".") for sentence in catalogue.upkeep().values())


def test_a_command_may_have_a_dataset_of_its_own():
    assert catalogue.defaults("record") == {"model": "mousenet", "dataset": "avatar", "device": "auto"}
    assert catalogue.defaults("tuning")["dataset"] == "manufactured"


def test_facts_and_descriptions_are_those_of_the_whole_file(tmp_path, monkeypatch):
    """Ours are read above the first function alone; a file of one's own may state them anywhere, with a type."""
    for command in catalogue.commands():
        path = catalogue.source("method", command)
        assert catalogue.description("method", command) == ast.get_docstring(ast.parse(path.read_text()))
    own = tmp_path / "mine.py"
    own.write_text("def compute(provided):\n    yield\n\nBUILT_FROM: tuple = ('topk',)\nMOMENTS: bool = True\n")
    monkeypatch.setitem(catalogue.OWN, "mine", own)
    assert catalogue.fact("mine", "BUILT_FROM", ()) == ("topk",) and catalogue.fact("mine", "MOMENTS", False) is True
    own = tmp_path / "text.py"
    own.write_text('"""What a text says.\n\ndef is a word.\n"""\nORDER = 3\n')
    assert ast.get_docstring(options.head(own)).startswith("What a text says.")


def test_choices_in_folders_of_their_subject_are_found_by_name():
    assert catalogue.module_of("model", "deep4net") == "cnnprobe.models.signals.deep4net"
    assert catalogue.module_of("dataset", "tiny-imagenet") == "cnnprobe.datasets.published.tiny_imagenet"
    assert catalogue.module_of("model", "unet") == "cnnprobe.models.unet"
    assert "filter_size" in catalogue.options("model", "shallownet")
