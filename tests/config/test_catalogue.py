import pytest

from cnnprobe.config import catalogue
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
