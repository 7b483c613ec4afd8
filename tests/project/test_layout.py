"""The structure: imports go one way, heavy libraries stay where they belong, every part has its YAML and its test."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "cnnprobe"
FILES = sorted(PACKAGE.rglob("*.py"))
FOLDERS = sorted({path.parent for path in FILES})

MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in FILES}
"""Files by the name under which they are imported."""

ORDER = [
    ["errors"],
    ["machine"],
    ["config", "store", "plots"],
    ["datasets"],
    ["instruments"],
    ["models"],
    ["preparation"],
    ["methods"],
    ["runs"],
    ["upkeep"],
    ["cli"],
    ["__init__", "__main__"],
]
"""Parts of the package, lower ones first: a part may import those of the rows before its own, and nothing else."""

INSIDE = {
    "instruments": [
        ["network"], ["fields", "gradients", "images", "windows", "statistics"], ["layers", "ranking"], ["outputs"],
    ],
    "store": [["containers"], ["*"]],
    "models": [["weights"], ["foreign"], ["parts"], ["*"]],
    "datasets": [["base"], ["rendering"], ["*"]],
}  # fmt: skip
"""The same inside parts that have folders; "*" are the files beside them."""

REPEATS = {"transfer": {"train", "rf_map", "optimize"}}
"""The one experiment that is made of others, and those others."""

MOST = 16
"""Entries of a folder."""

ONLY_IN = {
    "hydra": {"config", "runs"},
    "omegaconf": {"config", "runs"},
    "h5py": {"store", "methods/rsa", "datasets"},
    "matplotlib": {"plots", "methods/*/*figure*", "methods/contract"},
    "nibabel": {"store"},
    "rich": {"machine"},
    "torch": {
        "machine", "instruments", "models", "datasets", "methods", "preparation", "runs/checkpoints",
        "upkeep",
    },
    "torchvision": {"models", "datasets", "preparation", "upkeep"},
}  # fmt: skip


TABLES, TABLES_FROM = {"Table", "Rows", "TableView"}, ("cnnprobe.store.tables", "cnnprobe.store.reader")
"""Classes with the names of columns as their parameter, and where they are imported from."""


def inside(path: Path) -> tuple[str, ...]:
    """Return a file as the words that name it: `store/reader.py` as ("store", "reader")."""
    return path.relative_to(PACKAGE).with_suffix("").parts


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports(path: Path) -> list[tuple[str, bool]]:
    """Return every imported module with whether it is imported as the file is loaded."""
    tree = parsed(path)
    late = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, id(node) not in late) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [(name, id(node) not in late) for name in names]
    return found


@cache
def ours(path: Path) -> set[Path]:
    """Return the files of cnnprobe that a file imports, at once or late."""
    found = set()
    for name, _ in imports(path):
        words = name.split(".")
        modules = (".".join(words[:end]) for end in range(len(words), 0, -1))
        found.add(next((MODULES[module] for module in modules if module in MODULES), path))
    return found - {path}


def rank(order: list[list[str]], part: str) -> int:
    """Return the row of a part; that of "*" for what has none of its own."""
    rows = {name: place for place, row in enumerate(order) for name in row}
    return rows[part] if part in rows else rows["*"]


def test_every_part_is_in_the_picture():
    parts = {inside(path)[0] for path in FILES}
    assert sorted(part for row in ORDER for part in row) == sorted(parts)
    assert len(FILES) > 300


def test_imports_go_one_way():
    for own, theirs in ((inside(path), inside(other)) for path in FILES for other in ours(path)):
        if theirs[0] != own[0]:
            assert rank(ORDER, theirs[0]) < rank(ORDER, own[0]), f"{'/'.join(own)} imports {'/'.join(theirs)}"
        elif own[0] in INSIDE and own[1] != theirs[1]:
            here, there = rank(INSIDE[own[0]], own[1]), rank(INSIDE[own[0]], theirs[1])
            beside = here == there == rank(INSIDE[own[0]], "*") if ["*"] in INSIDE[own[0]] else False
            assert there < here or beside or theirs[1] == "__init__", f"{'/'.join(own)} imports {'/'.join(theirs)}"


def test_no_file_is_in_a_circle():
    arrows = {path: ours(path) for path in FILES}
    while arrows:
        free = {path for path, targets in arrows.items() if not targets & arrows.keys()}
        assert free, f"a circle among {sorted('/'.join(inside(path)) for path in arrows)}"
        arrows = {path: targets for path, targets in arrows.items() if path not in free}


def test_no_experiment_imports_another():
    """But for the one that is made of others."""
    for path in (PACKAGE / "methods").rglob("*.py"):
        own = inside(path)
        for other in (inside(target) for target in ours(path)):
            if other[0] == "methods" and other[1] not in (own[1], "__init__", "contract"):
                assert other[1] in REPEATS.get(own[1], ()), f"{'/'.join(own)} imports {'/'.join(other)}"


def test_a_folder_is_taken_in_at_one_look():
    for folder in FOLDERS:
        entries = [one.name for one in folder.iterdir() if one.name not in ("__init__.py", "__pycache__")]
        assert len(entries) <= MOST, sorted(entries)


def test_texts_go_to_the_terminal_through_one_function():
    """F102."""
    forbidden = {"print", "traceback.print_exc", "sys.stdout.write", "sys.stderr.write"}
    for path in FILES:
        calls = [node.func for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]
        assert path.name == "screen.py" or not {ast.unparse(call) for call in calls} & forbidden, path


def test_lines_to_be_pasted_are_quoted():
    """F102: what goes on with a run is said by `folders.command_for`, and a file of a run stands in quotes."""
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        bare = re.findall(r"--(?:resume|rerun|redraw|\{flag\}) \{(?!shlex)|add [^\"]*model\.file=\{", text)
        assert not bare, path


def test_libraries_stay_where_they_belong():
    for own, name in ((path.relative_to(PACKAGE), name) for path in FILES for name, _ in imports(path)):
        file, places = own.with_suffix(""), ONLY_IN.get(name.split(".")[0])
        allowed = places is None or any(part.match(place) for part in (file, *file.parents) for place in places)
        assert allowed, f"{own} imports {name}"


def test_torchvision_is_imported_only_when_it_is_needed():
    early = [path for path in FILES for name, at_once in imports(path) if name.startswith("torchvision") and at_once]
    assert early == []


def home(group: str, name: str) -> Path:
    """Return the file of a method, model or dataset: one of its name, here or in a folder of its subject, or
    `method.py` in a folder of its name."""
    folder = PACKAGE / f"{group}s"
    found = [path for path in folder.rglob(f"{name}.py") if path.parent.parent in (PACKAGE, folder)]
    return found[0] if len(found) == 1 else folder / name / f"{group}.py"


def test_of(path: Path) -> Path:
    """Return where the test of a file lies."""
    return ROOT / "tests" / path.relative_to(PACKAGE).parent / f"test_{path.stem}.py"


test_of.__test__ = False


@pytest.mark.parametrize("group", ["method", "model", "dataset"])
def test_every_yaml_has_its_python_file_and_its_test(group):
    names = [path.stem.replace("-", "_") for path in (ROOT / "configs" / group).glob("*.yaml")]
    assert len(names) >= 4
    for name in names:
        assert home(group, name).is_file()
        assert test_of(home(group, name)).is_file()


def test_every_method_has_its_yaml():
    entries = [
        path for path in (PACKAGE / "methods").iterdir() if path.stem not in ("__init__", "__pycache__", "contract")
    ]
    assert {path.stem for path in entries} == {path.stem for path in (ROOT / "configs" / "method").glob("*.yaml")}


def test_tests_mirror_the_package():
    """Nine of ten source files have a test of the same name."""
    sources = [path for path in FILES if path.stem not in ("__init__", "__main__")]
    missing = [path for path in sources if not test_of(path).is_file()]
    assert len(missing) / len(sources) <= 0.1, sorted("/".join(inside(path)) for path in missing)


def test_files_and_functions_stay_readable():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 400, f"{path} has two subjects"
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                signature = node.body[0].lineno - node.lineno
                lines = node.end_lineno - node.lineno - signature - len(doc.splitlines())
                assert lines <= 70, f"{path}: {node.name} does not fit on a screen"


def test_annotations_of_tables_name_their_columns():
    """So that a misspelt column is an error of the type checker, and not only of a run."""
    bare = []
    for path in FILES:
        nodes = list(ast.walk(parsed(path)))
        places = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module in TABLES_FROM]
        names = {alias.asname or alias.name for node in places for alias in node.names} & TABLES
        stated = [getattr(node, key, None) for node in nodes for key in ("annotation", "returns")]
        parts = [part for one in stated if one is not None for part in ast.walk(one)]
        told = {id(part.value) for part in parts if isinstance(part, ast.Subscript)}
        wrong = [part for part in parts if isinstance(part, ast.Name) and part.id in names and id(part) not in told]
        bare += [f"{path.relative_to(ROOT)}:{part.lineno}: {part.id}" for part in wrong]
    assert not bare, "\n".join(bare)


def test_no_path_of_a_machine_stands_in_the_project():
    places = [*FILES, *(ROOT / "configs").rglob("*.yaml"), *(ROOT / "benchmarks").rglob("*"), ROOT / "README.md"]
    places += [path for path in (ROOT / "docs").rglob("*") if "_build" not in path.parts]
    for path in places:
        if path.is_file() and path.suffix in (".py", ".yaml", ".md"):
            assert not re.search(r"(?<![\w~])/(home|root|work|tmp|mnt)/", path.read_text(encoding="utf-8")), path
