"""Code of the user's own: seen when it runs, whatever imports it, and compiled from what its file holds."""

import hashlib
import os
import py_compile
import sys
import zipfile

import pytest

from cnnprobe.machine import own_code, python_files

SECOND = 10**9
"""In which every file was written."""
WAYS = {
    "module": "import apart\n    return apart.VALUE",
    "within": "from spread import within\n    return within.VALUE",
    "dynamic": "from importlib import import_module\n    return import_module('ap' + 'art').VALUE",
    "path": "from importlib import util\n    one = util.spec_from_file_location('any', LIB / 'apart.py')\n"
            "    made = util.module_from_spec(one)\n    one.loader.exec_module(made)\n    return made.VALUE",
    "thread": "from concurrent.futures import ThreadPoolExecutor\n    def get():\n        import apart\n"
              "        return apart.VALUE\n    return ThreadPoolExecutor(1).submit(get).result()",
}  # fmt: skip
"""Bodies of a function that needs code of another folder."""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder of a network, beside one of a library that it puts on the path."""
    (tmp_path / "net").mkdir()
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def written(path, text):
    """Write a file, and keep its bytecode, as if nothing had changed since."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {one: one.read_bytes() for one in path.parent.glob(f"__pycache__/{path.stem}.*.pyc")}
    path.write_text(text)
    os.utime(path, (SECOND, SECOND))
    py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    for one, content in kept.items():
        one.write_bytes(content)


def network(place, body, lib="lib"):
    """Write and run a network's file, whose `later` has a body."""
    start = f"import sys\nfrom pathlib import Path\nLIB = Path({str(place / lib)!r})\nsys.path.insert(0, str(LIB))\n"
    (place / "net/net.py").write_text(f"{start}def later():\n    {body}\n")
    return python_files.run(place / "net/net.py", "model.file")


@pytest.mark.parametrize("way", WAYS)
def test_what_a_function_imports_is_compiled_as_it_is_and_seen(place, way):
    """F100: bytecode of what it was, of the same second and size, stands beside it."""
    for value in (1, 2):
        written(place / "lib/apart.py", f"VALUE = {value}\n")
        written(place / "lib/spread/within.py", f"VALUE = {value}\n")
        module = network(place, WAYS[way])
        assert set(own_code.ran("model.file")) == {"cnnprobe_model_net"}
        assert module.later() == value
        name = {"within": "spread.within", "path": "any"}.get(way, "apart")
        seen = own_code.ran("model.file")[name]
        assert seen.path == place / "lib" / ("spread/within.py" if way == "within" else "apart.py")
        assert seen.sha256 == hashlib.sha256(f"VALUE = {value}\n".encode()).hexdigest()


@pytest.mark.parametrize("way", ["module", "within"])
def test_of_one_name_each_file_has_its_own(place, way):
    """F100: jobs of a sweep follow each other in one process; the second library is another folder."""
    for value in (1, 2):
        written(place / f"lib{value}/apart.py", f"VALUE = {value}\n")
        written(place / f"lib{value}/spread/within.py", f"VALUE = {value}\n")
        assert network(place, WAYS[way], f"lib{value}").later() == value
        sys.path.remove(str(place / f"lib{value}"))


def test_code_without_a_source_of_its_own_counts_by_its_file(place):
    """F100: in an archive, and compiled."""
    (place / "lib").mkdir()
    with zipfile.ZipFile(place / "lib/packed.zip", "w") as archive:
        archive.writestr("packed_one.py", "VALUE = 1\n")
    (place / "compiled.py").write_text("VALUE = 2\n")
    py_compile.compile(str(place / "compiled.py"), cfile=str(place / "lib/compiled_one.pyc"))
    body = "sys.path.insert(0, str(LIB / 'packed.zip'))\n    import packed_one, compiled_one\n"
    assert network(place, f"{body}    return packed_one.VALUE, compiled_one.VALUE").later() == (1, 2)
    files = {"packed_one": place / "lib/packed.zip", "compiled_one": place / "lib/compiled_one.pyc"}
    seen = own_code.ran("model.file")
    for name, file in files.items():
        assert (seen[name].path, seen[name].sha256) == (file, hashlib.sha256(file.read_bytes()).hexdigest())


def test_what_nobody_of_the_users_own_imports_is_nobodys(place):
    """What runs beside a network is none of its code."""
    written(place / "lib/apart.py", "VALUE = 1\n")
    network(place, "pass")
    __import__("apart")
    assert set(own_code.ran("model.file")) == {"cnnprobe_model_net"}
    del sys.modules["apart"]


def test_versions_are_those_of_packages_that_a_function_imports(place):
    """F100."""
    loaded = [name for name in sys.modules if name.partition(".")[0] == "yaml"]
    kept = {name: sys.modules.pop(name) for name in loaded}
    module = network(place, "import yaml\n    return yaml.__version__")
    version = module.later()
    sys.modules.update(kept)
    assert own_code.versions()["PyYAML"] == version


def test_files_of_an_import_are_found_without_running_them(place):
    """F100: those of packages that are installed are none."""
    (place / "lib/whole/part").mkdir(parents=True)
    for name in ("whole/__init__.py", "whole/part/__init__.py", "whole/part/one.py", "spread/deep/one.py"):
        (place / "lib" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "lib" / name).write_text("raise RuntimeError")
    sys.path.append(str(place / "lib"))
    where = place / "net"
    assert dict(own_code.found("whole.part.one.function", where)) == {
        "whole": place / "lib/whole/__init__.py",
        "whole.part": place / "lib/whole/part/__init__.py",
        "whole.part.one": place / "lib/whole/part/one.py",
    }
    assert dict(own_code.found("spread.deep.one", where)) == {"spread.deep.one": place / "lib/spread/deep/one.py"}
    for name in ("torch.nn", "json.decoder", "sys", "cnnprobe.machine", "not_there.one", ""):
        assert not list(own_code.found(name, where))
