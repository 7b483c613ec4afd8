from cnnprobe.cli import help
from cnnprobe.config import catalogue
from cnnprobe.config.words import parse


def test_the_overview_names_every_command_and_choice():
    page = help.overview()
    words = [
        *catalogue.commands(),
        *catalogue.upkeep(),
        *catalogue.choices("model"),
        *catalogue.choices("dataset"),
        "--resume",
    ]
    assert all(word in page for word in words)


def test_a_commands_page_has_options_with_defaults_types_and_examples():
    page = help.command(parse(["topk", "--help"]))
    assert "k=9" in page
    assert "max | mean | area" in page or all(word in page for word in ("max", "mean", "area"))
    assert "[from 1 to 1000]" in page
    assert "cnnprobe topk layer=conv1" in page
    assert "layer=…" in page
    assert "weights=auto" in page
    assert "model.variant=mousenet64" in page


def test_the_pages_of_upkeep_have_examples_and_options():
    for name in catalogue.upkeep():
        page = help.upkeep(name)
        assert page.startswith(f"cnnprobe {name}: ")
        assert f"\nExamples\n  cnnprobe {name}" in page
        assert "out=outputs" in page


def test_the_page_shows_the_options_of_the_model_asked_for():
    page = help.command(parse(["train", "--help", "model=squeezenet", "dataset=folder"]))
    assert "model.version=1.0" in page
    assert "dataset.root=null" in page
    assert "model.variant" not in page


def test_no_line_is_wider_than_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for name in catalogue.commands():
        lines = help.command(parse([name, "--help"])).splitlines()
        assert max(len(line) for line in lines if not line.startswith("  cnnprobe")) <= 80
    for name in catalogue.upkeep():
        assert max(map(len, help.upkeep(name).splitlines())) <= 80


def test_an_experiment_chooses_whose_options_are_shown():
    """F95: the page is about what would be run."""
    page = help.command(parse(["rsa", "--help", "experiment=kriegeskorte92"]))
    assert "experiment=kriegeskorte92: Does a network see 92 objects" in page
    assert "model=squeezenet: " in page and "dataset=folder: " in page and "model=mousenet: " not in page
    assert "model=vgg: " in help.command(parse(["rsa", "--help", "experiment=kriegeskorte92", "model=vgg"]))
