import os
import re
import subprocess
import sys

import pytest

from cnnprobe.machine import provenance


def test_versions_name_what_results_depend_on():
    found = provenance.versions()
    assert {"python", "cnnprobe", "torch", "numpy", "h5py"} <= set(found)
    assert all(re.match(r"\d+\.\d+", version) for version in found.values())


def test_peak_memory_is_in_bytes():
    assert 10 * 2**20 < provenance.peak_memory() < 2**40


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell it apart")
def test_peak_memory_is_not_that_of_the_process_that_began_it():
    held = bytearray(b"x") * 400_000_000
    words = [sys.executable, "-c", "from cnnprobe.machine.provenance import peak_memory; print(peak_memory())"]
    told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert 10 * 2**20 < int(told) < len(held)


def test_the_commit_is_a_hash_or_unknown():
    commit = provenance.commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}\+?", commit)


def test_looking_for_the_commit_writes_nothing_into_the_checkout(tmp_path, monkeypatch):
    """Whatever ends us or git there would leave a lock behind that stops git."""
    file = tmp_path / "cnnprobe" / "machine" / "version.py"
    file.parent.mkdir(parents=True)
    file.write_text("")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    os.utime(file, (1, 1))  # so that git would bring its index up to date
    before = (tmp_path / ".git/index").read_bytes()
    monkeypatch.setattr(provenance.version, "__file__", str(file))
    assert re.fullmatch(r"[0-9a-f]{40}", provenance.commit())
    assert (tmp_path / ".git/index").read_bytes() == before
