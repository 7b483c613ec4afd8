"""What the README says works."""

import re
from pathlib import Path

import pytest

from cnnprobe.config import catalogue, compose
from cnnprobe.config.words import parse

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (cnnprobe [^#\n]+?)\s*(?:#.*)?$", TEXT, flags=re.MULTILINE)


def test_there_are_five_commands_of_daily_use():
    assert len([line for line in COMMANDS if line.startswith("cnnprobe ")]) >= 5


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_composes(line):
    words = re.sub(r"=~/\S+", "=x", line).split()[1:]
    request = parse([word for word in words if word != "-m"])
    sweep = "-m" in words
    assert request.command in [*catalogue.commands(), *catalogue.upkeep(), *catalogue.upkeep()]
    if request.command in catalogue.upkeep():
        return
    if sweep:
        assert compose.overrides(request)
    else:
        compose.compose(parse([words[0], "layer=conv1"]) if "--resume" in words else request)


def test_every_command_model_and_dataset_is_named():
    for name in [
        *catalogue.commands(),
        *catalogue.upkeep(),
        *catalogue.choices("dataset"),
        *catalogue.choices("model"),
    ]:
        assert f"`{name}`" in TEXT or f"={name} " in TEXT, name


def test_the_tree_names_every_folder_of_the_package():
    tree = TEXT.partition("## The tree")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^      (\w+)/  ", tree, flags=re.MULTILINE))
    own = {path.parent.name for path in (ROOT / "cnnprobe").glob("*/__init__.py")}
    assert listed == own


def test_files_it_points_to_are_there():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXT):
        assert (ROOT / target).is_file(), target
