import re

from cnnprobe import provenance


def test_versions_name_what_results_depend_on():
    found = provenance.versions()
    assert {"python", "cnnprobe", "torch", "numpy", "h5py"} <= set(found)
    assert all(re.match(r"\d+\.\d+", version) for version in found.values())


def test_peak_memory_is_in_bytes():
    assert 10 * 2**20 < provenance.peak_memory() < 2**40


def test_the_commit_is_a_hash_or_unknown():
    commit = provenance.commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}\+?", commit)
