"""Whatever is typed: it is understood, or told in one line with status 2; never a traceback."""

import math

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as some

from cnnprobe.config import catalogue
from cnnprobe.errors import UserError
from cnnprobe.instruments.layers.naming import find
from cnnprobe.instruments.network.units import units_of
from tests.support.networks import planted

COUNTS = [100, pytest.param(3000, marks=pytest.mark.slow)]


def many(count):
    return settings(max_examples=count, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


KEYS = "layer k units seed limit name out weights model dataset device experiment batch_size criterion source method"
DOTTED = "method.k model.written model.name dataset.root dataset.count device.threads hydra.mode hydra/launcher a.b.c"
VALUES = "null true 3 -1 1e9 nan inf 1e400 0x10 1_000 conv1 conv* all best:3 1:4 v001 latest @last x@epoch=3 ~/x .. /"
SIGNS = "' \" [ ] { } ( ) , : = $ ${seed} ${oc.env:HOME} ${x:1} \\ * ? # ! | & ; < > % @ ~ + - choice( range( glob("
PIECES = some.sampled_from([*VALUES.split(), *SIGNS.split(), " ", "\t", "\n", "\r", "\0", "\x1b[31m", "日本", "\udcff"])
VALUE = some.lists(PIECES | some.text(max_size=3), max_size=6).map("".join)
KEY = some.sampled_from([*KEYS.split(), *DOTTED.split(), "", "kk", "lyer"]) | some.text(max_size=4)
WORD = some.builds(
    "{}{}{}{}".format, some.sampled_from(["", "", "", "+", "++", "~"]), KEY, some.sampled_from("==== "), VALUE
)
FLAG = some.sampled_from(
    ["--resume", "--rerun=x", "--cfg", "-x", "--", "-", "--config-dir=/dev/null", "--redraw", "-h"]
)
COMMAND = some.sampled_from([*catalogue.commands(), "topk", "tpok", ""])


@pytest.mark.parametrize("count", COUNTS)
def test_any_command_line_is_understood_or_told(cnnprobe, tmp_path, count):
    """F01, F02, F04, F06, F07, F08, F11, F14, F80: nothing is made on the disk."""

    @many(count)
    @given(command=COMMAND, words=some.lists(WORD | FLAG, max_size=3))
    @example(command="record", words=["out=\0"])
    @example(command="train", words=["model=${oc.env:HOME}\0"])
    @example(command="record", words=["name=\udcff"])
    @example(command="record", words=["~\x1b[31m"])
    @example(command="record", words=["hydra.mode=#"])
    @example(command="train", words=["~method.k "])
    @example(command="train", words=["hydra/launcher=null"])
    def tried(command, words):
        answer = cnnprobe(command, *words, "--cfg", "job")
        assert answer.status in (0, 2), answer.err
        assert "Traceback" not in answer.err
        assert len([line for line in answer.err.splitlines() if line]) == (1 if answer.status == 2 else 0), answer.err
        assert "\x1b" not in answer.err
        assert not list(tmp_path.iterdir())

    tried()


@pytest.mark.parametrize("count", COUNTS)
def test_any_value_of_any_option_has_its_type_or_is_told(count):
    """F02, F03, F04: numbers at the edges of every option, and whatever else YAML can hold."""
    pages = [(group, name) for group in ("method", "model", "dataset") for name in catalogue.choices(group)]
    options = [(key, option) for page in pages for key, option in catalogue.options(*page).items()]
    options += list(catalogue.ROOT.items()) + list(catalogue.DEVICE.items())
    ranges = [detail for _, option in options for _, detail in option.alternatives if hasattr(detail, "minimum")]
    edges = {edge for one in ranges for edge in (one.minimum, one.maximum, one.above, one.below) if edge is not None}
    near = [
        change(edge) for edge in sorted(edges) for change in (float, lambda x: x - 1, lambda x: math.nextafter(x, 9e9))
    ]
    scalars = some.none() | some.booleans() | some.integers() | some.floats() | some.text(max_size=5)
    scalars |= some.sampled_from(near)
    values = scalars | some.lists(scalars, max_size=3) | some.dictionaries(some.text(max_size=2), scalars, max_size=2)

    @many(count)
    @given(one=some.sampled_from(options), value=values)
    def tried(one, value):
        key, option = one
        try:
            checked = option.check(value, key)
        except UserError as error:
            assert "\n" not in str(error)
            return
        numbers = [item for item in (checked if isinstance(checked, list) else [checked]) if isinstance(item, float)]
        assert all(math.isfinite(number) for number in numbers)
        assert option.check(checked, key) == checked

    assert len(options) > 100
    tried()


NAMES = (
    "conv1 conv2 conv first second relu relu#1 relu#2 #0 #99 # [0] [1] [-1] [9 * ? [!a] conv* 1 : 0:2 best:2 .. logits"
)


@pytest.mark.parametrize("count", COUNTS)
def test_any_name_of_a_layer_or_unit_is_found_or_told(count):
    """F17, F18, F19."""
    models = [planted.Functional(), planted.Block(), planted.Odd(), planted.Bare()]
    text = some.lists(some.sampled_from(NAMES.split()) | some.text(max_size=2), max_size=4).map("".join)

    @many(count)
    @given(model=some.sampled_from(models), asked=text | some.lists(text, max_size=3), units=text | some.integers())
    def tried(model, asked, units):
        try:
            for layer in find(model, asked, (3, 8, 8)):
                assert all(0 <= unit < layer.channels for unit in units_of(layer, units))
        except UserError as error:
            assert "\n" not in str(error)

    tried()
