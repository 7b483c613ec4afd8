import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cnnprobe.cli.completion import candidates, script
from cnnprobe.cli.main import main


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


HOSTILE = [
    "x;touch PWNED;.h5", "x$(touch PWNED).h5", "x`touch PWNED`.h5", "x|touch PWNED", "x&touch PWNED&", "x>PWNED",
    "x\ntouch PWNED\n", "x my photos", "x'touch PWNED'", 'x"touch PWNED"', "x\\touch PWNED", "x*", "x{a,b}", "x!1",
    "x#1", "x~", "x\x1b[31m", "x(1)", "xé 日本",
]  # fmt: skip
SHELL = """\
PS1='ready$ '
cnnprobe() { if [[ $1 == --completion ]]; then command cnnprobe "$@"; else printf '%s\\0' "$@" > got; fi; }
bind 'set enable-bracketed-paste off'
eval "$(command cnnprobe --completion bash)"
"""


class Typist:
    """Somebody at a bash in a terminal of their own.

    Args:
        folder: working directory; its file `rc` is read first.
    """

    def __init__(self, folder: Path):
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TERM": "dumb"}
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            os.execvpe("bash", ["bash", "--noprofile", "--rcfile", "rc", "-i"], environment)
        self.seen = b""

    def types(self, keys: str, until: Callable[[bytes], bool]) -> None:
        """Press keys, and wait for an answer."""
        self.seen = b""
        os.write(self.terminal, keys.encode())
        end = time.monotonic() + 20
        while not until(self.seen):
            assert time.monotonic() < end, f"no answer to {keys!r} but {self.seen!r}"
            if select.select([self.terminal], [], [], 0.05)[0]:
                self.seen += os.read(self.terminal, 65536)

    def leave(self) -> None:
        os.close(self.terminal)
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)


@pytest.mark.parametrize("opened", ["", '"'])
def test_names_of_strangers_arrive_whole_and_run_nothing(tmp_path, opened):
    """F102: Tab and Enter, for one name after the other."""
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    (tmp_path / "rc").write_text(SHELL)
    for number, name in enumerate(HOSTILE):
        (tmp_path / f"d{number}").mkdir()
        (tmp_path / f"d{number}" / name).touch()
    typist = Typist(tmp_path)
    try:
        typist.types("", lambda seen: b"ready$ " in seen)
        for number, name in enumerate(HOSTILE):
            got, begun = tmp_path / "got", f"d{number}/x"
            got.unlink(missing_ok=True)
            written = f"cnnprobe rsa reference={opened}{begun}"
            typist.types(f"{written}\t", lambda seen: len(seen) > len(written))  # noqa: B023
            typist.types("\n", lambda _: got.exists() and got.read_bytes().endswith(b"\0"))  # noqa: B023
            assert got.read_bytes().split(b"\0")[1].decode() == f"reference=d{number}/{name}", typist.seen
        assert not list(tmp_path.rglob("PWNED"))
    finally:
        typist.leave()


def test_in_a_word_with_quotes_the_name_of_a_run_does_nothing(tmp_path):
    """F102: candidates belong to what stands behind the last blank, and replace the whole word."""
    if not shutil.which("bash"):
        pytest.skip("no bash here")
    (tmp_path / "rc").write_text(SHELL)
    for place, name in (("gbp", 'z";touch PWNED;"'), ("record", "y'; touch PWNED; '")):
        (tmp_path / "outputs" / place / name / "v001").mkdir(parents=True)
    for opened in ('"foo outputs/gbp/z', "'foo outputs/record/y", "$'foo outputs/record/y", "a'b outputs/record/y"):
        typist = Typist(tmp_path)
        try:
            typist.types("", lambda seen: b"ready$ " in seen)
            written = f"cnnprobe check {opened}"
            typist.types(f"{written}\t", lambda seen: len(seen) > len(written))  # noqa: B023
            typist.types("\n", lambda seen: seen.endswith((b"> ", b"$ ")))
            assert not list(tmp_path.rglob("PWNED"))
        finally:
            typist.leave()


def test_no_shell_has_words_that_are_evaluated():
    """F102: zsh is not everywhere, so that its script is only looked at."""
    for shell in ("bash", "zsh"):
        assert "eval" not in script(shell)
        assert "compgen" not in script(shell)
        assert "-Q" not in script(shell)


def test_an_unknown_shell_is_told(capsys):
    assert main(["--completion", "fish"]) == 2
    assert "bash or zsh" in capsys.readouterr().err
