"""A stranger's YAML is data: nothing in it runs, nothing is read for it, and it never takes long."""

import json
import time
import tracemalloc
from contextlib import nullcontext

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from cnnprobe.config import compose, untrusted_yaml
from cnnprobe.config.words import parse
from cnnprobe.errors import UserError

HEAD = "# @package _global_\n"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcde", "bcdef")
)
BROKEN = [
    # text of a file, words the one line must hold
    ("a:\n\tb: 1", r"x.yaml:3: not YAML: found character '\t'"),
    ("a: [1", "x.yaml:2: not YAML: expected ',' or ']'"),
    ("seed: 1\nseed: 2", "duplicate key seed"),
    ("\ufeffseed: 3", "no option"),
    ("a: \0", "not YAML: special characters are not allowed"),
    ("5", "expected keys with values, got int"),
    ("- 1", "expected keys with values, got list"),
    ("seed: 1\n---\nseed: 2", "x.yaml:3: a second document begins"),
    ("seed: 2020-99-99", "not YAML: month must be in 1..12"),
    ("<<: *x", "not YAML: found undefined alias"),
    ("seed: 0x" + "f" * 6000, "x.yaml:2: not YAML: an integer of 24000 bits, at most 1000 may be"),
    ("seed: {a: 1}", "seed must be a whole number"),
    ("seeed: 1", "seeed"),
    ("model: 5", "model"),
]
ENDLESS = [
    (BOMB, "expands to more than 10000 values"),
    ("a: &a [*a]", "*a contains itself"),
    ("a: &a {b: *a}", "*a contains itself"),
    ("a: " + "[" * 2000 + "]" * 2000, "nested more than 40 deep"),
    ("a: " + "{a: " * 2000 + "}" * 2000, "nested more than 40 deep"),
    ("".join(f"a{i}: &a{i} [*a{i - 1}]\n" if i else "a0: &a0 [x]\n" for i in range(99)), "nested more than 40 deep"),
    ("a: [" + "1," * 100_000 + "]", "expands to more than 10000 values"),
    ("#" * 300_000, "too large for a configuration (limit 256 kB)"),
]


@pytest.mark.parametrize(
    "values", ["${" + "." * 60_000, "${oc.env:HOME," + " " * 60_000 + "x", "${" * 30_000, "${a" * 20_000]
)
def test_a_long_value_takes_no_longer_than_a_long_value(tmp_path, values):
    """F102: two parts of a pattern that could share it would need its square, and so hours for 250 kB."""
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/x.yaml").write_text(f'{HEAD}name: "{values}"\n')
    began = time.process_time()
    with pytest.raises(UserError, match="may not be used in a configuration file"):
        untrusted_yaml.check_folder(tmp_path)
    assert time.process_time() - began < 2


def test_a_list_that_hydra_would_read_for_hours_is_not_swept_over(tmp_path):
    """F102: 16 kB take it five seconds, 64 kB minutes."""
    (tmp_path / "experiment").mkdir()
    for count, told in ((1900, False), (2100, True)):
        listed = f"hydra: {{sweeper: {{params: {{method.units: '[{','.join('1' * count)}]'}}}}}}\n"
        (tmp_path / "experiment/x.yaml").write_text(HEAD + listed)
        with pytest.raises(UserError, match="has 4201 letters; at most 4000 are swept over") if told else nullcontext():
            untrusted_yaml.check_folder(tmp_path)


@pytest.fixture
def asked(cnnprobe, tmp_path):
    """Ask for a configuration that takes one file of the user's own."""

    def ask(text, *words, head=HEAD, group="experiment", command="record"):
        (tmp_path / "mine" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / group / "x.yaml").write_bytes((head + text).encode())
        model = [] if group == "model" else ["model=convnet"]
        return cnnprobe(command, *model, f"{group}=x", "--config-dir", "mine", *(words or ["--cfg", "job"]))

    return ask


def refused(answer, words):
    assert answer.status == 2, answer.err
    assert words in answer.err
    assert answer.err.count("\n") == 1
    assert answer.err.startswith("cnnprobe ")


@pytest.mark.parametrize(("text", "words"), BROKEN, ids=[repr(text[:20]) for text, _ in BROKEN])
def test_broken_yaml_is_told_with_its_file_and_line(asked, text, words):
    """F09."""
    refused(asked(text), words)


def test_a_choice_of_the_users_own_has_no_other_options(asked):
    """F08: a model of one's own folder is checked like ours."""
    text = "name: convnet\nwritten: class\ninput_size: 32\n"
    assert asked(text, head="", group="model").status == 0
    refused(asked(text + "fo: 3", head="", group="model"), "no option 'model.fo' in model=convnet")
    refused(asked("name: ../x", head="", group="model"), "no model '../x'")


def test_what_is_no_text_is_told(asked, tmp_path):
    """F09: binary content, a byte-order mark, a folder; an empty file changes nothing."""
    refused(asked("\ufeffseed: 3", head=""), "x.yaml:1: begins with a byte-order mark")
    (tmp_path / "mine/experiment/x.yaml").write_bytes(b"a: 1\nb: \xff\xfe")
    with pytest.raises(UserError, match=r"x.yaml:2: not YAML: not a text in UTF-8"):
        untrusted_yaml.read(tmp_path / "mine/experiment/x.yaml")
    with pytest.raises(UserError, match="is not a file"):
        untrusted_yaml.read(tmp_path / "mine")
    assert asked("").status == 0


@pytest.mark.parametrize(("text", "words"), ENDLESS, ids=[repr(text[:20]) for text, _ in ENDLESS])
def test_yaml_without_end_is_refused_at_once(asked, text, words):
    """F10: in little time, with little memory."""
    tracemalloc.start()
    begun = time.process_time()
    answer = asked(text)
    spent, (_, most) = time.process_time() - begun, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    refused(answer, words)
    assert most < 100e6
    assert spent < 10  # unfolded by OmegaConf it takes minutes


@pytest.mark.parametrize("text", ["seed: ${limit}\nlimit: ${seed}", "seed: ${nokey}", "seed: ${nope:1}", "seed: ${"])
def test_interpolations_that_lead_nowhere_are_one_line(asked, text):
    """F11: in a circle, to nothing, of a kind that does not exist, not closed."""
    answer = asked(text)
    assert (answer.status, answer.err.count("\n")) == (2, 1), answer.err


RUNS = {
    "os.system": "os.system",
    "builtins.open": "builtins.open",
    "torch.load": "torch.load",
    "exec": "builtins.exec",
    "local module": "evil.touch",
    "subprocess": "subprocess.run",
    "logging": "logging.FileHandler",
    "shutil": "shutil.copy",
}
PLACES = {
    "a block": "method:\n  {key}: {target}\n  _args_: [touch PWNED]",
    "the root": "{key}: {target}",
    "deep": "a: {{b: [{{{key}: {target}}}]}}",
    "an anchor as key": "seed: 0\na: [&k {key}]\nmodel:\n  *k : {target}",
    "a merged block": "a: &m\n  {key}: {target}\nmodel:\n  <<: *m",
    "a callback": "hydra:\n  callbacks:\n    x:\n      {key}: {target}",
}
OTHERS = [
    "hydra:\n  job_logging:\n    handlers:\n      x:\n        (): os.system\n        command: touch PWNED",
    "hydra:\n  job_logging:\n    version: 1\n    handlers:\n      x: {class: logging.FileHandler, filename: PWNED}",
    "hydra:\n  launcher:\n    setup: [touch PWNED]",
    'hydra:\n  launcher:\n    partition: "a\\ntouch PWNED"',
    "hydra:\n  run:\n    dir: ../PWNED",
    "hydra:\n  searchpath: [file:///tmp]",
    "hydra: 5",
    "hydra.callbacks.x:\n  a: 1",
    "hydra:\n  sweeper:\n    params:\n      hydra.callbacks.x._target_: os.system",
    "hydra:\n  sweeper:\n    params:\n      +hydra.launcher.setup: x",
    "hydra:\n  sweeper:\n    params:\n      model.file: evil.py",
    *(
        f"hydra:\n  sweeper:\n    params:\n      {json.dumps(key)}: {json.dumps(value)}"
        for key, value in [
            ("model.file=sort(evil.py,evil.py,reverse", "true)"),
            ("model.file ", "evil.py"),
            ("model@x", "custom"),
            ("model", "{file: evil.py}"),
            ("model", [{"file": "evil.py"}]),
            ("model", "sub/evil,convnet"),
            ("model", "../../evil"),
            ("device", "${oc.env:HOME}"),
            ("name", "$\\{oc.env:PATH}"),
            ("name", "${dataset.root}"),
        ]
    ),
    "hydra:\n  sweeper:\n    params: [model.file=evil.py]",
    "a: !!python/object/apply:os.system ['touch PWNED']",
    "a: !!python/name:os.system",
    "a: !evil x",
    "a: !!binary aGVsbG8=",
    "model:\n  file: evil.py",
    "defaults:\n  - override /hydra/job_logging: stdout",
    "defaults:\n  - /model@hydra.callbacks: x",
    "defaults:\n  - ../../evil",
    "defaults:\n  - /model: ../evil",
    "defaults:\n  - /model: ${oc.env:HOME}",
    "defaults:\n  - model/sub/x",
]
HOSTILE = [
    text.format(key=key, target=target)
    for text in PLACES.values()
    for key, target in [("_target_", target) for target in RUNS.values()] + [("'_target_'", "os.system")]
] + OTHERS


@pytest.mark.parametrize("sweep", [False, True])
def test_yaml_that_would_run_code_is_refused_and_nothing_runs(asked, tmp_path, sweep):
    """F12: in every place of a file, also as a sweep, where Hydra itself would run it."""
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path('PWNED').touch()\n")
    assert len(HOSTILE) >= 60
    for text in HOSTILE:
        answer = asked(text, *(["-m", "seed=1,2"] if sweep else []))
        refused(answer, "mine/experiment/x.yaml")
        assert "not allowed" in answer.err or "only if the command line names it" in answer.err, text
        assert not (tmp_path / "PWNED").exists()
        assert not (tmp_path / "outputs").exists()


FETCHING = [
    ("weights: published", "weights: weights are fetched only if the command line says so: weights=published"),
    ("weights: pub${oc.env:CNNPROBE_NONE,}lished", "weights: weights are"),
    ("name: published\nweights: ${name}", "weights: weights are"),
    ("weights: [random, published]", "weights: weights are"),
    ("hydra: {sweeper: {params: {weights: 'random,published'}}}", "weights: weights are"),
    ("hydra: {sweeper: {params: {weights: choice(published)}}}", "weights: weights are"),
    (
        "dataset: {download: true}",
        "download: images are fetched only if the command line says so: dataset.download=true",
    ),
    ("dataset: {download: 1}", "download: images are"),
    ("a: &a {download: 'yes', root: not-asked-for}\ndataset: *a", "download: images are"),
    ("hydra: {sweeper: {params: {dataset.download: 'false,true'}}}", "dataset.download: images are"),
]


@pytest.mark.parametrize("sweep", [False, True])
def test_what_fetches_stands_on_the_command_line(asked, tmp_path, sweep):
    """F102: no file of a folder lets images or weights be fetched, or a folder be made for them."""
    for text, told in FETCHING:
        text = text.replace("dataset: {", f"dataset: {{root: {tmp_path}/not-asked-for, ")
        words = ["dataset=cifar10", "layer=conv1", *(["-m", "seed=1,2"] if sweep else [])]
        refused(asked(text, *words), told)
        assert {path.name for path in tmp_path.iterdir()} == {"mine"}, text
    answer = asked("dataset: {download: false}\nweights: train/published-net/v001", "dataset=cifar10", "--cfg", "job")
    assert answer.status == 0, answer.err


def test_a_page_may_not_fill_other_places_than_the_root(asked, tmp_path):
    """F12: settings of Hydra's by way of a package, or of a folder."""
    refused(asked("a: 1", head="# @package hydra.job_logging\n"), "only '# @package _global_' is")
    (tmp_path / "mine/hydra/launcher").mkdir(parents=True)
    refused(asked(""), "settings of Hydra stand on the command line")
    refused(asked("", "--help"), "settings of Hydra stand on the command line")


def test_what_a_file_may_say_it_may_say(asked):
    """Anchors, own choices, other keys, variables that are no secret, what a cluster gives to a job."""
    text = (
        "defaults:\n  - override /dataset: shapes\n  - _self_\nseed: &s 7\nlimit: *s\nname: a${seed}-${oc.env:USER,x}\n"
        "hydra:\n  mode: RUN\n  sweeper: {params: {seed: '1,2', method.layer: 'a,b', out: '${oc.env:HOME,x}/y'}}\n"
    )
    config = yaml.safe_load(asked(text).out)
    assert (config["seed"], config["limit"], config["dataset"]["name"]) == (7, 7, "shapes")
    assert config["name"].startswith("a7-")
    good = {"hydra": {"launcher": {"partition": "gpu", "timeout_min": 60}}}
    assert untrusted_yaml._is_launcher("partition", "gpu") and not untrusted_yaml._is_launcher("setup", "gpu")
    untrusted_yaml._Page(None)._hydra(good["hydra"])


READING = (
    "${oc.env:SECRET}",
    "a ${ oc.env: SECRET } b",
    "${oc.env:${name}}",
    "${oc.env:SECRET,x}",
    "${oc.${nope}:1}",
    "${oc.decode:'${oc.env:SECRET}'}",
    "${oc.env:HOME}${oc.env:SECRET}",
)


@pytest.mark.parametrize("value", READING)
@pytest.mark.parametrize("key", ["name", "out", "weights", "defaults", "model.written"])
def test_yaml_cannot_read_the_environment(asked, tmp_path, monkeypatch, value, key):
    """F13: the secret stands nowhere, on the terminal or on the disk."""
    monkeypatch.setenv("SECRET", "hunter2")
    outer, _, inner = key.partition(".")
    text = json.dumps({outer: {inner: value} if inner else [{"/model": value}] if outer == "defaults" else value})
    answer = asked(text, "dataset=shapes", "dataset.count=3")
    refused(answer, "mine/experiment/x.yaml")
    assert "hunter2" not in answer.err + answer.out
    assert not (tmp_path / "outputs").exists()


def test_the_configuration_in_the_folder_of_a_run_is_a_strangers_too(cnnprobe, tmp_path):
    """F102, F09, F10, F12: what --rerun reads; a Python file is run only if the command line names it."""
    assert cnnprobe("layers", "model=convnet", "dataset=shapes", "dataset.count=3").status == 0
    path = tmp_path / "outputs/layers/convnet-shapes/v001/config.yaml"
    good = yaml.safe_load(path.read_text())
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path('PWNED').touch()\ndef build(): pass\n")
    custom = {"name": "custom", "file": "evil.py", "function": "build", "input_size": 32, "channels": 3}
    for text, words in (
        (BOMB, "expands to more than"),
        ("a: !!python/name:os.system", "is not allowed"),
        ("", "holds no configuration"),
        ("5", "holds no configuration"),
        ("seed: 1", "the configuration has no 'model'"),
        (yaml.safe_dump(good | {"model": {"name": "../x"}}), "no model '../x'"),
        (yaml.safe_dump(good | {"name": "../../x"}), "name may not contain '/'"),
        (
            yaml.safe_dump(good | {"model": custom | {"file": "e;x.py"}}),
            "e;x.py; if it is yours, add 'model.file=e;x.py'",
        ),
        (
            yaml.safe_dump(good | {"model": custom}),
            "would run the Python file evil.py; if it is yours, add model.file=",
        ),
    ):
        path.write_text(text)
        refused(cnnprobe("layers", "--rerun", str(path.parent)), words)
        assert not (tmp_path / "PWNED").exists()
    named = cnnprobe("layers", "--rerun", str(path.parent), "model.file=evil.py")
    assert "build returned a NoneType" in named.err
    assert (tmp_path / "PWNED").exists()


def test_a_store_does_not_name_the_file_that_is_run(cnnprobe, tmp_path):
    """F12: built from a run of a network in a Python file, that file has to be named again."""
    (tmp_path / "net.py").write_text(
        "import pathlib, torch\npathlib.Path('RAN').touch()\n"
        "def build(): return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 5), torch.nn.ReLU(), torch.nn.Flatten())\n"
    )
    images = ["dataset=shapes", "dataset.count=3", "layer=conv1"]
    own = ["model=custom", "model.file=net.py", "model.input_size=32"]
    answer = cnnprobe("record", *own, "weights=random", *images)
    assert answer.status == 0, answer.err
    (tmp_path / "RAN").unlink()
    source = "source=record/custom-shapes/v001"
    refused(cnnprobe("topk", *images, source), "would run the Python file net.py; if it is yours, add model=custom")
    assert not (tmp_path / "RAN").exists()
    answer = cnnprobe("topk", *own, *images, "criterion=max", source)
    assert answer.status == 0, answer.err


SIGNS = ["a,b", "it's", 'a"b', "~b", "#b", "*b", "[b]", "{b}", "b\nc", "${b}", "${oc.env:PATH}", "b\\", "$${b}", "=b"]


QUICK = ("a,b", "b\nc", "${oc.env:PATH}", "=b")
"""Of these a run is read in the quick tests too."""
SWEPT = ("a,b", "b\nc", "${oc.env:PATH}")
"""Of these a sweep is read in the quick tests too."""


@pytest.mark.parametrize("sweep", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SIGNS]
)
def test_the_folder_that_is_read_is_the_one_that_was_looked_through(cnnprobe, tmp_path, monkeypatch, name, sweep):
    """F12, F13: in `lab,clean` two folders were read, of which nobody had looked at `lab`."""
    folder = tmp_path / name / name
    (folder / "experiment").mkdir(parents=True)
    (folder / "experiment" / "x.yaml").write_text(HEAD + "seed: 7\nname: mine\n")
    other = tmp_path / "a" / "experiment"
    other.mkdir(parents=True)
    (other / "x.yaml").write_text(HEAD + "name: ${oc.env:PATH}\nhydra:\n  job:\n    name: evil\n")
    words = ["layers", "model=convnet", "weights=random", "experiment=x", "--config-dir", f"{name}"]
    monkeypatch.chdir(tmp_path / name)
    answer = cnnprobe(*words, "--cfg", "job")
    assert (answer.status, answer.err) == (0, "")
    assert "seed: 7" in answer.out and "name: mine" in answer.out
    if not (sweep or name in SWEPT):
        return
    answer = cnnprobe(*words, "-m", "limit=4,5")
    assert answer.status == 0, answer.err
    assert len(list((tmp_path / name / "outputs/layers/mine").glob("v*/run.json"))) == 2
    assert len((tmp_path / name / "outputs/layers/mine/sweep-001/runs.csv").read_text().splitlines()) == 3


WORDS = "a seed model defaults hydra _target_ [ ] { } , - : *a !!int | > ' # --- ? % ${ } 1 1e9 null ~ 0x é = convnet"
OTHER = (": ", "\n", "\n  ", "- ", "&a ", "<<: ", '"', "\t", "\\", "\ufeff", "\x85", "\u2028", "\0", "12:30:45", HEAD)
PIECES = some.sampled_from([*WORDS.split(), *OTHER])
TEXTS = some.lists(PIECES | some.text(max_size=3), max_size=30).map("".join)


def understood_or_told(folder, text):
    """Assert that a text is composed, or ends in one line."""
    path = folder / "experiment" / "x.yaml"
    path.write_bytes((HEAD + text).encode("utf-8", "surrogatepass"))
    request = parse(["record", "model=convnet", "experiment=x", "--config-dir", str(folder)])
    try:
        compose.compose(request)
    except UserError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("count", [100, pytest.param(3000, marks=pytest.mark.slow)])
def test_any_text_is_understood_or_told(tmp_path, count):
    """F09: never a traceback, whatever stands in a file."""
    (tmp_path / "experiment").mkdir()

    @settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(text=TEXTS)
    def tried(text):
        understood_or_told(tmp_path, text)

    tried()
