"""The command line: what is understood, and what a mistake answers."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


PLACES = (
    "weights={}.pt",
    "--resume {}",
    "--config-dir {}",
    "dataset=folder dataset.root={}",
    "dataset=cifar10 dataset.root={}",
    "model=custom model.file={}.py",
)
NOBODY = [place.format("~nobody-here/x") for place in PLACES]
LONG = [place.format("a" * 300) for place in PLACES]

MISTAKES = [
    # command line, words the one line must hold
    (["rf-mpa"], "unknown command 'rf-mpa'"),
    (["tpok", "layer=conv1"], "unknown command 'tpok'; did you mean 'topk'"),
    (["layer=conv1"], "needs a command before it"),
    (["train", "lrr=1"], "no option 'lrr' in train; did you mean 'lr'"),
    (["train", "model.varint=x"], "no option 'model.varint' in model=mousenet; did you mean 'model.variant'"),
    (["train", "layer=conv3"], "no option 'layer' in train"),
    (["train", "model=mousnet"], "no model 'mousnet'; did you mean 'mousenet'"),
    (["train", "dataset=avatr"], "no dataset 'avatr'; did you mean 'avatar'"),
    (["train", "device=gpu"], "no device 'gpu'"),
    (["train", "+kk=3"], "no option 'kk' in train"),
    (["train", "++kk=3"], "no option 'kk' in train"),
    (["train", "experiment=mousenet-cifar"], "no experiment 'mousenet-cifar'; did you mean 'mousenet-cifar10'"),
    (["train", "lr=abc"], "lr must be a finite number, above 0, got 'abc'"),
    (["train", "lr=nan"], "lr must be a finite number, above 0, got nan"),
    (["train", "lr=inf"], "lr must be a finite number, above 0, got inf"),
    (["train", "epochs=0"], "epochs must be a whole number, 1 or more, got 0"),
    (["train", "epochs=3.7"], "epochs must be a whole number, 1 or more, got 3.7"),
    (["train", "epochs=null"], "epochs must be a whole number, 1 or more, got null"),
    (["train", "epochs=99999999999999999999999"], "epochs must be a whole number"),
    (["train", "optimizer=sgdd"], "optimizer must be sgd, adam or adamw, got 'sgdd'; did you mean 'sgd'"),
    (["train", "batch_size=0"], "batch_size must be a whole number, from 1 to 65536, got 0"),
    (["train", "limit=0"], "limit must be a whole number, 1 or more"),
    (["train", "epochs=1,2"], "epochs got two values; for a sweep add -m"),
    (["topk", "layer=conv1,conv2"], "layer got two values; for a sweep add -m, for a list write layer=[conv1,conv2]"),
    (["topk", "layer=conv1", "units=[1,x]"], "units must be"),
    (["topk", "layer=conv1", "k=0"], "k must be a whole number, from 1 to 1000, got 0"),
    (["topk", "layer=conv1", "criterion=[max,men]"], "criterion must be"),
    (["layers", "model=convnet", "name=../../x"], "name may not contain '/'"),
    (["train", "name=.."], "name may not contain '/' or be '..'"),
    (["train", f"name={'x' * 300}"], "name is too long (300 bytes"),
    (["train", "word"], "'word' is no key=value"),
    (["topk", "layer=null"], "needs layer=…"),
    (["topk", "-m", "--cfg", "job", "layer=conv1"], "--multirun and --cfg do not go together"),
    (["topk", "--resume", "v001", "--rerun", "v001"], "--resume and --rerun do not go together"),
    (["--resume", "v001"], "--resume needs a command before it"),
    (["train", "dataset.split=test"], "leave out dataset.split"),
    (["train", "model=convnet", "dataset=gratings"], "has no images to hold out"),
    (["record", "dataset=tiles", "dataset.of=tiles"], "dataset.of names the dataset that is cut into tiles"),
    (["train", "--cfg", "jobb"], "--cfg takes job"),
    (["train", "--resume", "v007"], "no run 'v007'"),
    (["train", "--rerun", "train/x/v001"], "no run 'train/x/v001'"),
    (["train", "--config-dir", "nowhere"], "there is no folder nowhere"),
    (["train", "method=topk"], "the method is the command itself"),
    (["topk"], "needs layer=…; layers of mousenet: "),
    (["topk", "model=convnet", "layer=conv_3"], "did you mean 'conv3'"),
    (["topk", "model=convnet", "layer=zz*"], "zz*"),
    (["topk", "model=convnet", "layer=conv2", "units=[999]"], "conv2 has units 0 to 4"),
    (["topk", "model=convnet", "layer=conv2", "pages=[7]"], "pages=7"),
    (["topk", "layer=conv1", "weights=nothing.safetensors"], "there is no file nothing.safetensors"),
    (["topk", "layer=conv1", "weights=v009"], "no run 'v009'"),
    (["topk", "layer=conv1", "source=record/x/v001"], "no run 'record/x/v001'"),
    (["record", "dataset=folder", "dataset.root=nowhere"], "nowhere"),
    (["record", "dataset=cifar10", "dataset.root=nowhere"], "nowhere"),
    (["record", "model=custom"], "model.file"),
    (["record", "model=torchvision", "model.arch=resnet19"], "resnet19"),
    (["record", "model=mousenet", "model.variant=mousenet65"], "model.variant must be"),
    (["topk", "layer="], "no layer '' in the model; layers: "),
    (["topk", "layer=conv1", "units=3:1"], "units=3:1 of conv1 is empty"),
    (["topk", "--foo"], "no flag '--foo'; did you mean '--cfg'? flags: "),
    (["topk", "--resume", "latest"], "no run of topk in outputs was stopped"),
    (["layers", "-m", "seed=range(1000000000)"], "this sweep would have 1000000000 jobs, at most 10000"),
    (["layers", "-m", "seed=range(0,1,0)"], "seed=range(0,1,0): a range needs a step other than 0"),
    (["layers", "-m", "seed=range(0,1,1e-320)"], "seed=range(0,1,1e-320): a range without end"),
    *((["record", *choice.split()], "there is no home folder ~nobody-here on this machine") for choice in NOBODY),
    *((["record", *choice.split()], "File name too long") for choice in LONG),
    (["record", "model=alexnet", "dataset.size=32"], "alexnet needs images of at least 63 px, dataset gives 32"),
]


@pytest.mark.parametrize(("words", "told"), MISTAKES, ids=[" ".join(words)[:60] for words, _ in MISTAKES])
def test_a_mistake_is_one_line_and_status_2_and_leaves_nothing(cnnprobe, tmp_path, words, told):
    """F01, F02, F03, F04, F05, F07, F08, F14, F17, F22."""
    answer = cnnprobe(*words)
    lines = [line for line in answer.err.splitlines() if not line.startswith("warning: ")]
    assert answer.status == 2, answer.err
    assert len(lines) == 1, answer.err
    assert lines[0].startswith("cnnprobe")
    assert told in lines[0]
    assert "Traceback" not in answer.err
    assert not (tmp_path / "outputs").exists()


def test_a_folder_without_images_and_one_of_texts_are_told(cnnprobe, tmp_path):
    """F33."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    for i in range(3):
        (tmp_path / "texts" / f"{i}.png").write_text("hello")
    for folder in ("empty", "texts"):
        answer = cnnprobe("record", "dataset=folder", f"dataset.root={folder}", "model=convnet")
        assert answer.status == 2
        assert "no image" in answer.err
        assert answer.err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>404</html>", b"\x7fELF" + bytes(90), b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_checkpoint_is_told_so(cnnprobe, tmp_path, pictures, content):
    """F25."""
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(content)
        answer = cnnprobe(
            "topk", "model=convnet", "layer=conv1", f"weights={name}", "dataset=folder", f"dataset.root={pictures}"
        )
        assert (answer.status, answer.err.count("\n")) == (2, 1), answer.err
        assert name in answer.err


def test_a_place_that_cannot_be_written_is_told_before_any_work(cnnprobe, tmp_path, pictures):
    """F67, F14: `out` below a file; also as root."""
    (tmp_path / "file").write_text("x")
    for out in ("file", "file/below", "/proc/cnnprobe"):
        answer = cnnprobe("record", "model=convnet", "dataset=folder", f"dataset.root={pictures}", f"out={out}")
        assert answer.status == 2
        assert answer.err.splitlines()[-1].startswith("cnnprobe record: ")
        assert "choose another out=" in answer.err


def test_a_value_hydra_cannot_read_arrives_as_typed(cnnprobe, tmp_path, pictures):
    """F06: spaces, commas, parentheses, other alphabets."""
    hard = tmp_path / "日本語 é (1),b=2"
    hard.symlink_to(pictures, target_is_directory=True)
    answer = cnnprobe("record", "model=convnet", "dataset=folder", f"dataset.root={hard}", "--cfg", "job")
    assert answer.status == 0, answer.err
    assert str(hard) in answer.out


def run_python(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize(
    "words", [["--help"], ["topk", "--help"], ["train", "--help", "model=alexnet"], ["check", "--help"], ["tpok"]]
)
def test_help_and_slips_do_not_import_torch(words):
    code = (
        "import sys; from cnnprobe.cli.main import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'numpy', 'matplotlib', 'h5py', 'hydra'} & set(sys.modules); print('heavy:', heavy)"
    )
    assert "heavy: set()" in run_python("-c", code, *words).stdout


def test_composing_does_not_import_torch():
    code = (
        "import sys; from cnnprobe.config.words import parse; from cnnprobe.config import compose; "
        "compose.compose(parse(['topk', 'layer=conv1'])); print('torch' in sys.modules)"
    )
    assert run_python("-c", code).stdout.strip() == "False"


def test_the_module_runs_like_the_command():
    answer = run_python("-m", "cnnprobe", "--version")
    assert answer.returncode == 0
    assert answer.stdout.startswith("cnnprobe ")


def test_a_closed_pipe_is_silent():
    """F75: `cnnprobe --help | head`."""
    child = subprocess.Popen(
        [sys.executable, "-m", "cnnprobe", "topk", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    child.stdout.close()
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() in (0, 141)


def test_an_interrupt_while_things_are_imported_is_one_line(tmp_path):
    """F62."""
    begin = "import sys; from cnnprobe.cli.main import main; print('begun', flush=True); sys.exit(main(sys.argv[1:]))"
    child = subprocess.Popen(
        [sys.executable, "-c", begin, "record", "model=convnet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout.readline() == "begun\n"
    time.sleep(0.3)
    child.send_signal(2)
    _, err = child.communicate(timeout=240)
    assert child.returncode == 130
    assert "Traceback" not in err
    assert "interrupted" in err


def test_an_interrupt_while_the_program_itself_is_imported_is_silent(tmp_path):
    """F62: `cnnprobe --help`, regretted at once; one that comes later is heard as ever."""
    begin = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # it is ignored in the background of a shell
        "class Interrupting:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == sys.argv[1]:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "from cnnprobe.cli.main import main\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
        "sys.exit(main(['--help']))\n"
    )
    answer = run_python("-c", begin, "cnnprobe.runs.resource_errors")
    assert (answer.returncode, answer.stdout, answer.stderr) == (130, "", "")
    answer = run_python("-c", begin, "cnnprobe.cli.help")
    assert (answer.returncode, answer.stdout, answer.stderr) == (130, "", "cnnprobe: interrupted\n")
