"""Python files of the user's own, as they are when they are run."""

import hashlib
import os
import py_compile

from cnnprobe.machine import own_code, python_files

AGE = 10**9
"""Second in which every file was written."""


def written(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    os.utime(path, (AGE, AGE))
    py_compile.compile(str(path), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)


def test_a_file_edited_within_a_second_is_run_as_it_is_now(tmp_path):
    """F100: bytecode of what it was, of the same second and size, stands beside it; so for all that it imports."""
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("")
    for value in (1, 2):
        written(tmp_path / "beside.py", f"VALUE = {value}\n")
        written(tmp_path / "package/within.py", f"VALUE = {value}\n")
        text = f"import beside\nfrom package import within\nVALUES = {value}, beside.VALUE, within.VALUE\n"
        written(tmp_path / "net.py", text)
        if value == 1:
            before = {path: path.read_bytes() for path in tmp_path.rglob("*.pyc")}
        for path, content in before.items():
            path.write_bytes(content)
        found = python_files.run(tmp_path / "net.py", "model.file").VALUES
        assert found == (value, value, value)


def test_what_ran_has_the_digest_of_what_was_compiled(tmp_path):
    """F100: a file that is edited while it runs, and one beside it."""
    texts = {"net.py": "import beside\nfrom pathlib import Path\n", "beside.py": "VALUE = 1\n"}
    texts["net.py"] += "for name in ('net.py', 'beside.py'):\n    Path(__file__).with_name(name).write_text('')\n"
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    python_files.run(tmp_path / "net.py", "model.file")
    found = {one.path.name: one.sha256 for one in own_code.ran("model.file").values()}
    assert found == {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}


def test_installed_packages_below_the_folder_are_imported_as_ever(tmp_path, monkeypatch):
    """A home folder holds whole installations, whose bytecode is kept."""
    installed = tmp_path / "venv/site-packages"
    installed.mkdir(parents=True)
    written(installed / "an_installed_one.py", "VALUE = 1\n")
    (kept,) = (installed / "__pycache__").iterdir()
    before = kept.read_bytes()
    written(installed / "an_installed_one.py", "VALUE = 2\n")
    kept.write_bytes(before)
    monkeypatch.syspath_prepend(str(installed))
    (tmp_path / "net.py").write_text("from an_installed_one import VALUE\n")
    assert python_files.run(tmp_path / "net.py", "model.file").VALUE == 1
    assert [one.path.name for one in own_code.ran("model.file").values()] == ["net.py"]
