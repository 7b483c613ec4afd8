"""What README and the pages of docs/ say works."""

import importlib.util
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import cnnprobe as package
from cnnprobe.config import catalogue, compose, own_experiment
from cnnprobe.config.words import parse
from cnnprobe.store.layout import FORMAT_VERSION
from cnnprobe.store.tables import Column, Rows, Table
from cnnprobe.store.writer import Writer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [
    README,
    *sorted(path for path in DOCS.rglob("*.md") if path.relative_to(DOCS).parts[0] not in ("_build", "generated")),
]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
LARGEST = 10_000
"""Bytes of README."""
REPEATED = ("resume", "rerun", "redraw")


def commands(text: str) -> list[str]:
    """Return the command lines of a page: in blocks of four spaces or of `console`, and in code within a sentence."""
    blocks = re.findall(r"^```console\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    lines = re.findall(r"^    (cnnprobe .*)$", text, flags=re.MULTILINE)
    lines += [line for block in blocks for line in block.splitlines() if line.startswith("cnnprobe ")]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    lines += [line for line in re.findall(r"`(cnnprobe [^`]+)`", prose) if "COMMAND" not in line]
    return [re.sub(r"\s+#.*", "", line).strip() for line in lines]


LINES = sorted({line for text in TEXTS.values() for line in commands(text)})


def made(folder: Path) -> dict[str, str]:
    """Return the pages that are made from the configurations, by name."""
    about = importlib.util.spec_from_file_location("option_tables", DOCS / "option_tables.py")
    module = importlib.util.module_from_spec(about)
    about.loader.exec_module(module)
    return {path.name: path.read_text(encoding="utf-8") for path in module.write(folder)}


def anchors(text: str) -> set[str]:
    """Return the names that headings can be linked by."""
    heads = re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), flags=re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_there_are_five_commands_of_daily_use():
    assert len([line for line in commands(TEXTS["README.md"]) if line.startswith("cnnprobe ")]) >= 5


def test_readme_is_short():
    assert README.stat().st_size <= LARGEST


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder with the Python files that pages show, and the examples."""
    monkeypatch.chdir(tmp_path)
    for name, text in programs():
        (tmp_path / name).write_text(text)
    for path in (ROOT / "examples").glob("*.py"):
        shutil.copy(path, tmp_path)
    yield tmp_path
    catalogue.OWN.clear()


def programs() -> list[tuple[str, str]]:
    """Return the Python files that pages show, each begins with its name."""
    blocks = (
        block
        for text in TEXTS.values()
        for block in re.findall(r"^```python\n(# (\S+\.py)\n.*?)^```", text, re.S | re.M)
    )
    return [(name, text) for text, name in blocks]


def test_the_experiment_of_the_page_counts_the_images_that_leave_a_unit_silent(cnnprobe, files):
    words = [
        "silence",
        "method.file=silence.py",
        "model=convnet",
        "dataset=shapes",
        "dataset.count=20",
        "weights=random",
    ]
    assert cnnprobe(*words, "layer=conv2", "above=1").status == 0
    recorded = cnnprobe("record", *words[2:], "layer=conv2")
    assert recorded.status == 0
    silent = package.open("silence/convnet-shapes/v001")["units/conv2"]["silent"]
    highest = package.open("record/convnet-shapes/v001")["activations/conv2"]["max"]
    assert np.allclose(silent, (highest <= 1).mean(0)) and 0 < silent.mean() < 1
    assert cnnprobe("silence", "--redraw", "latest", "method.file=silence.py").status == 0


@pytest.mark.parametrize("line", LINES)
def test_every_command_composes(line, files):
    words = re.sub(r"=~/\S+", "=x", line).split()[1:]
    request = parse([word for word in words if word != "-m"])
    if "help" in request.flags and not request.command:
        return
    own_experiment.take(request)
    assert request.command in [*catalogue.commands(), *catalogue.OWN, *catalogue.upkeep()]
    if request.command in catalogue.upkeep() or "help" in request.flags:
        return
    if "-m" in words:
        assert compose.overrides(request)
    elif any(flag in request.flags for flag in REPEATED):
        compose.compose(parse([words[0], "layer=conv1"]))
    else:
        compose.compose(request)


def test_every_command_model_and_dataset_is_named():
    text = "\n".join(TEXTS.values())
    names = [*catalogue.commands(), *catalogue.upkeep(), *catalogue.choices("dataset"), *catalogue.choices("model")]
    for name in names:
        assert f"`{name}`" in text, name


@pytest.mark.parametrize("command", catalogue.commands())
def test_every_command_has_its_page_with_its_options_and_its_columns(command):
    text = TEXTS[f"docs/methods/{command}.md"]
    assert text.startswith(f"# `{command}`: ")
    assert f"```{{include}} ../generated/{command}.md" in text
    assert "../store-format.md#" in text
    assert f"](docs/methods/{command}.md)" in TEXTS["README.md"]
    assert f"\n{command} <methods/{command}>\n" in TEXTS["docs/index.md"]


def test_the_tree_names_every_folder_of_the_package():
    tree = TEXTS["docs/architecture.md"].split("```text\ncnnprobe/\n")[1].split("```")[0]
    own = {path.parent.name for path in (ROOT / "cnnprobe").glob("*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/  ", tree, flags=re.MULTILINE)) == own


def test_files_that_the_walk_names_are_there():
    names = re.findall(
        r"`([\w/]+\.py)`", TEXTS["docs/architecture.md"].split("## From the command line")[1].split("\n## ")[0]
    )
    assert len(names) > 15
    for name in names:
        assert list((ROOT / "cnnprobe").rglob(name)), name


@pytest.mark.parametrize("page", TEXTS)
def test_what_a_page_links_to_is_there(page, tmp_path):
    generated = made(tmp_path / "generated")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", TEXTS[page]):
        name, _, place = target.partition("#")
        path = ((ROOT / page).parent / name).resolve() if name else ROOT / page
        assert path.is_file(), target
        if place:
            assert place in anchors(path.read_text(encoding="utf-8")), target
    for name in re.findall(r"\{include\} (\S+)", TEXTS[page]):
        path = (ROOT / page).parent / name
        assert path.name in generated if path.parent.name == "generated" else path.is_file(), name


def test_the_index_has_every_page():
    trees = "".join(re.findall(r"^```{toctree}\n(.*?)^```", TEXTS["docs/index.md"], flags=re.DOTALL | re.MULTILINE))
    listed = re.findall(r"^(?:.* <)?([\w/-]+)>?$", trees, flags=re.MULTILINE)
    own = {path.relative_to(DOCS).with_suffix("").as_posix() for path in PAGES if path != README}
    assert sorted(listed) == sorted(own - {"index"})


def test_every_option_is_in_a_table(tmp_path):
    tables = made(tmp_path / "generated")
    for command in catalogue.commands():
        for key in catalogue.page(catalogue.yaml_path("method", command)).entries:
            assert f"| `{key}` | " in tables[f"{command}.md"]
    for group in ("model", "dataset"):
        for name in catalogue.choices(group):
            own = tables[f"{group}s.md"].split(f"### `{group}={name}`")[1].split("\n### ")[0]
            for key in catalogue.page(catalogue.yaml_path(group, name)).entries:
                assert f"| `{group}.{key}` | " in own
    for text in tables.values():
        for row in re.findall(r"^\|.*", text, flags=re.MULTILINE):
            assert len(re.findall(r"(?<!\\)\|", row)) == 5, row


def test_every_source_that_a_page_names_is_among_the_references(tmp_path):
    references = TEXTS["docs/references.md"].split("\n- ")
    named = {page: text for page, text in TEXTS.items() if page.startswith("docs/methods/")} | made(tmp_path / "made")
    found = re.compile(r"([A-ZÀ-Ž]\w[\w-]+)(?:, [A-Z][\w, ]+?)?(?: et al\.)?,? ((?:19|20)\d\d)\b")
    missing = [
        f"{page}: {name} {year}"
        for page, text in named.items()
        for name, year in found.findall(text)
        if name not in ("COCO", "October") and not any(name in line and year in line for line in references)
    ]
    assert not missing


def test_every_version_of_the_store_is_in_its_history():
    history = TEXTS["docs/store-format.md"].split("\n## Versions\n")[1].split("\n## ")[0]
    assert re.findall(r"^\| (\d+) \|", history, flags=re.MULTILINE) == [str(n + 1) for n in range(FORMAT_VERSION)]


def test_a_store_can_be_read_as_its_page_says(tmp_path):
    code = re.search(r"^```python\n(.*?)^```", TEXTS["docs/store-format.md"], flags=re.DOTALL | re.MULTILINE)[1]
    space: dict = {}
    exec(code, space)
    path = tmp_path / "store.h5"
    columns = {"unit": Column("channel", dtype="int64", values=np.arange(5)), "map": Column("", "y x", (2, 3))}
    writer = Writer.create(path, [Table("units/conv1", "unit", 5, columns, batch=2)], {"seed": 0})
    maps = np.random.default_rng(0).random((5, 2, 3), np.float32)
    for start in (0, 4):
        writer.write(Rows("units/conv1", start, {"map": maps[start : start + 2]}))
    writer.close()
    values, numbers = space["rows"](path, "units/conv1", "map")
    assert numbers.tolist() == [0, 1, 4] and np.array_equal(values, maps[numbers])
    assert space["rows"](path, "units/conv1", "unit")[0].tolist() == [0, 1, 2, 3, 4]
    content = bytearray(path.read_bytes())
    content[content.index(maps[1].tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(AssertionError, match="batch 0 of units/conv1 is damaged"):
        space["rows"](path, "units/conv1", "map")
