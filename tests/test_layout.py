"""The structure: imports go one way, heavy libraries stay where they belong, every part has its YAML and its test."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cnnprobe"
FILES = sorted(PACKAGE.rglob("*.py"))

MAY_IMPORT = {
    # part: the parts of cnnprobe it may import; a folder counts as one part
    "errors": set(),
    "version": set(),
    "words": {"errors"},
    "screen": {"errors"},
    "options": {"errors"},
    "files": set(),
    "records": set(),
    "containers": {"errors"},
    "protocol": {"errors"},
    "catalogue": {"errors", "options"},
    "completion": {"errors", "catalogue"},
    "foreign_yaml": {"errors"},
    "schema": {"errors", "catalogue"},
    "help": {"catalogue", "options", "words", "foreign_yaml"},
    "figures": {"errors"},
    "unfinished": {"errors", "files", "kinds", "version"},
    "findings": set(),
    "engine": {"errors", "options", "protocol", "records", "unfinished", "findings"},
    "models": {"errors", "options", "files", "kinds", "protocol", "findings"},
    "datasets": {"errors", "options", "containers", "signals"},
    "methods": {"errors", "options", "protocol", "records", "engine", "figures", "unfinished"},
    "provenance": {"version"},
    "signals": set(),
    "shortage": {"errors", "engine"},
    "terminal": {"errors", "screen"},
    "kinds": set(),
    "store_schema": {"kinds"},
    "run_json": {"kinds"},
    "runs": {"errors", "files", "run_json"},
    "store_layout": {"records"},
    "reading": {"errors", "containers", "store_layout", "store_schema"},
    "store": {"errors", "files", "records", "store_layout", "reading"},
    "matching": {"errors", "containers"},
    "volumes": {"errors", "containers", "matching"},
    "drawing": {"errors", "files", "figures", "methods", "reading", "volumes"},
    "training_state": {"errors", "records", "models"},
    "reference_pairs": {"errors", "containers", "engine", "matching"},
    "reference_files": {"errors", "containers", "engine", "matching", "reference_pairs"},
    "reference_tables": {"errors", "containers", "engine", "matching", "reference_pairs"},
    "resuming": {"run_json", "reading", "runs", "training_state", "unfinished"},
    "references": {
        "errors", "containers", "engine", "origin", "reference_files", "reference_tables", "reading", "runs",
    },
    "named_weights": {"run_json", "errors", "catalogue", "foreign_yaml", "runs", "models"},
    "old_task": {
        "run_json", "errors", "catalogue", "foreign_yaml", "identity", "named_weights", "preparation", "protocol",
        "runs", "schema",
    },
    "preparation": {
        "errors", "catalogue", "named_weights", "engine", "models", "datasets", "protocol", "schema",
    },
    "companions": {"engine", "old_task", "preparation", "references", "volumes"},
    "identity": {"errors", "files", "reading", "runs"},
    "origin": {
        "errors", "catalogue", "files", "foreign_yaml", "identity", "named_weights", "reading", "run_json", "runs",
        "schema",
    },
    "under_way": {
        "catalogue", "files", "methods", "provenance", "reading", "records", "runs", "terminal", "unfinished",
    },
    "compose": {"errors", "catalogue", "words", "foreign_yaml", "schema"},
    "run": {
        "errors", "options", "catalogue", "files", "records", "run_json", "runs", "reading", "store", "drawing",
        "methods", "companions", "engine", "identity", "under_way", "origin", "preparation", "provenance", "resuming",
        "shortage", "signals", "terminal", "training_state", "unfinished",
    },
    "sweep": {
        "errors", "files", "catalogue", "compose", "drawing", "foreign_yaml", "run", "runs", "signals", "sweep_job",
        "sweep_table", "terminal", "words",
    },
    "sweep_job": {
        "run_json", "errors", "files", "catalogue", "preparation", "provenance", "run", "runs", "schema", "shortage",
        "signals",
        "sweep_table", "terminal",
    },
    "sweep_table": {"errors", "files", "kinds", "terminal"},
    "requests": {
        "errors", "compose", "files", "foreign_yaml", "named_weights", "reading", "run", "run_json", "runs", "drawing",
        "schema", "screen",
        "sweep", "terminal", "words",
    },
    "upkeep": {
        "errors", "catalogue", "files", "figures", "identity", "run_json", "runs", "reading", "records", "screen",
        "store", "provenance", "sweep", "sweep_job", "sweep_table", "terminal", "models", "engine", "preparation",
        "version", "words",
    },
    "cli": {
        "version", "words", "screen", "errors", "catalogue", "help", "completion", "requests", "shortage", "signals",
        "upkeep",
    },
    "__init__": {
        "runs", "reading", "catalogue", "methods", "datasets", "engine", "errors", "options", "models", "protocol",
        "version",
    },
    "__main__": {"cli"},
}  # fmt: skip

ONLY_IN = {
    "hydra": {"compose", "sweep", "sweep_job"},
    "omegaconf": {"compose", "sweep", "sweep_job"},
    "h5py": {"store_layout", "store", "reading", "references", "datasets", "containers"},
    "matplotlib": {"figures"},
    "nibabel": {"containers"},
    "rich": {"terminal"},
    "torch": {"engine", "findings", "models", "datasets", "methods", "preparation", "training_state", "upkeep"},
    "torchvision": {"models", "datasets", "upkeep"},
}


def part_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, bool]]:
    """Return every imported module with whether it is imported as the file is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    late = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name, id(node) not in late) for name in names]
    return found


def ours(path: Path) -> set[str]:
    """Return the parts of cnnprobe a file imports."""
    parts = set()
    for name, _ in imports(path):
        if name.startswith("cnnprobe."):
            part = name.split(".")[1]
            if (PACKAGE / part).is_dir() or (PACKAGE / f"{part}.py").is_file():
                parts.add(part)
    return parts - {part_of(path)}


def test_every_part_is_in_the_picture():
    assert {part_of(path) for path in FILES} == set(MAY_IMPORT)
    assert len(FILES) > 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    assert ours(path) <= MAY_IMPORT[part_of(path)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_texts_go_to_the_terminal_through_one_function(path):
    """F102."""
    calls = [node.func for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    said = {ast.unparse(call) for call in calls} & {
        "print",
        "traceback.print_exc",
        "sys.stdout.write",
        "sys.stderr.write",
    }
    assert not said or path.name == "screen.py"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_lines_to_be_pasted_are_quoted(path):
    """F102: what goes on with a run is said by `runs.command_for`, and a file of a run stands in quotes."""
    text = path.read_text(encoding="utf-8")
    bare = re.findall(r"--(?:resume|rerun|redraw|\{flag\}) \{(?!shlex)|add [^\"]*model\.file=\{", text)
    assert not bare


def test_the_picture_has_no_circle():
    arrows = dict(MAY_IMPORT)
    order = []
    while arrows:
        free = [part for part, targets in arrows.items() if targets <= set(order)]
        assert free, f"a circle among {sorted(arrows)}"
        order += free
        arrows = {part: targets for part, targets in arrows.items() if part not in free}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_stay_where_they_belong(path):
    for name, _ in imports(path):
        library = name.split(".")[0]
        assert part_of(path) in ONLY_IN.get(library, {part_of(path)}), f"{path} imports {library}"


def test_torchvision_is_imported_only_when_it_is_needed():
    early = [path for path in FILES for name, at_once in imports(path) if name.startswith("torchvision") and at_once]
    assert early == []


def test_no_method_imports_another():
    for path in (PACKAGE / "methods").glob("*.py"):
        assert not [name for name, _ in imports(path) if name.startswith("cnnprobe.methods.")]


@pytest.mark.parametrize("group", ["method", "model", "dataset"])
def test_every_yaml_has_its_python_file_and_its_test(group):
    names = [path.stem.replace("-", "_") for path in (ROOT / "configs" / group).glob("*.yaml")]
    assert len(names) >= 4
    for name in names:
        assert (PACKAGE / f"{group}s" / f"{name}.py").is_file()
        assert (ROOT / "tests" / f"{group}s" / f"test_{name}.py").is_file()


def test_every_method_has_its_yaml():
    names = {path.stem for path in (PACKAGE / "methods").glob("*.py")} - {"__init__"}
    assert names == {path.stem for path in (ROOT / "configs" / "method").glob("*.yaml")}


def test_tests_mirror_the_package():
    """Nine of ten source files have a test of the same name."""
    sources = [path for path in FILES if path.stem not in ("__init__", "__main__")]
    mirrored = [
        path
        for path in sources
        if (ROOT / "tests" / path.relative_to(PACKAGE).parent / f"test_{path.stem}.py").is_file()
    ]
    assert len(mirrored) / len(sources) >= 0.9, sorted(
        str(p.relative_to(PACKAGE)) for p in set(sources) - set(mirrored)
    )


def test_files_and_functions_stay_readable():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, f"{path} has two subjects"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                signature = node.body[0].lineno - node.lineno
                lines = node.end_lineno - node.lineno - signature - len(doc.splitlines())
                assert lines <= 70, f"{path}: {node.name} does not fit on a screen"


def test_no_path_of_a_machine_stands_in_the_project():
    places = [*FILES, *(ROOT / "configs").rglob("*.yaml"), *(ROOT / "benchmarks").rglob("*"), ROOT / "README.md"]
    for path in places:
        if path.is_file() and path.suffix in (".py", ".yaml", ".md"):
            assert not re.search(r"(?<![\w~])/(home|root|work|tmp|mnt)/", path.read_text(encoding="utf-8")), path
