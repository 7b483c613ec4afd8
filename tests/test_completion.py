import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnnprobe.cli import main
from cnnprobe.completion import candidates


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cnnprobe to", ["topk"]),
        ("cnnprobe topk cri", ["criterion="]),
        ("cnnprobe topk model=mo", ["mousenet"]),
        ("cnnprobe topk criterion=m", ["max", "mean"]),
        ("cnnprobe topk crop=t", ["true"]),
        ("cnnprobe topk model=squeezenet model.ver", ["model.version="]),
        ("cnnprobe nothing x", []),
    ],
)
def test_words_are_completed(line, expected):
    assert candidates(line) == expected


def test_check_is_completed_with_the_runs_there_are(tmp_path, monkeypatch):
    (tmp_path / "outputs/topk/a-b/v001").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert candidates("cnnprobe doc") == ["doctor"]
    assert candidates("cnnprobe doctor o") == ["out="]
    assert candidates("cnnprobe check outputs/t") == ["outputs/topk/a-b/v001"]
    assert candidates("cnnprobe check --r") == []


def test_bash_completes_with_the_script(tmp_path):
    """The script that `--completion bash` prints, in a real bash."""
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    folder = Path(sys.executable).parent
    script = (
        f'export PATH="{folder}:$PATH"; eval "$(cnnprobe --completion bash)"; '
        "COMP_LINE='cnnprobe topk model=mo'; COMP_POINT=${#COMP_LINE}; COMP_WORDS=(cnnprobe topk model = mo); "
        "_cnnprobe; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    answer = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "mousenet", answer.stderr


def test_an_unknown_shell_is_told(capsys):
    assert main(["--completion", "fish"]) == 2
    assert "bash or zsh" in capsys.readouterr().err
