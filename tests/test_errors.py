import pickle
from collections import OrderedDict

import pytest
from torch import nn

from cnnprobe.errors import UserError, listing, nearest, one_line, place_of, unknown
from cnnprobe.instruments.layers.naming import find


def test_an_unknown_name_is_told_with_the_nearest_and_the_list():
    error = unknown("layer", "conv_3", ["conv1", "conv2", "conv3"], of="mousenet")
    assert str(error) == "no layer 'conv_3' in mousenet; did you mean 'conv3'? layers: conv1, conv2, conv3"


def test_a_list_that_could_not_be_read_as_one_is_told_how():
    """F95: layer=[a,a#2] is a word to the shell and to Hydra."""
    said = "in a list, names with # or [ ] stand in double quotes ('[a,\"a#2\"]')"
    assert str(unknown("layer", "[a,a#2]", ["a", "a#2"])) == f"no layer '[a,a#2]'; {said}; layers: a, a#2"


def test_such_a_list_is_no_pattern_either():
    """F95: of [a,h,a#2], as a pattern any of these letters, h alone was measured."""
    model = nn.Sequential(OrderedDict(first=nn.Conv2d(3, 4, 3), h=nn.ReLU(), second=nn.Conv2d(4, 4, 3))).eval()
    with pytest.raises(UserError, match="in a list, names with #"):
        find(model, "[first,h,second#1]", (3, 8, 8))
    assert [layer.name for layer in find(model, "[hj]", (3, 8, 8))] == ["h"]


def test_the_nearest_number_is_suggested():
    """F95: by its letters conv27 is most like conv7."""
    layers = [f"conv{number}" for number in range(1, 27)]
    assert nearest("conv27", layers) == "; did you mean 'conv26'?"
    assert nearest("Conv0", layers) == "; did you mean 'conv1'?"
    assert nearest("features.12", ["features.0", "features.10", "features.3"]) == "; did you mean 'features.10'?"
    assert nearest("conv_3", layers) == "; did you mean 'conv3'?"


def test_nothing_is_suggested_where_nothing_is_near():
    assert nearest("zzz", ["conv1"]) == ""


def test_what_is_told_is_one_line_without_control_characters():
    """F80: é and 日本 stay as they are."""
    assert one_line("é 日本\n\tx\x1b[31m\x07\x9b") == "é 日本 x\\x1b[31m\\x07\\x9b"


def test_a_long_list_is_cut_with_its_length():
    assert listing(map(str, range(20)), most=3) == "0, 1, …, 19 (20 in all)"
    layers = [f"conv{number}" for number in range(1, 27)]
    assert listing(layers).endswith("conv8, conv9, …, conv24, conv25, conv26 (26 in all)")
    assert listing(layers[:12]) == ", ".join(layers[:12])


def test_a_user_error_survives_the_way_back_from_a_worker():
    assert str(pickle.loads(pickle.dumps(UserError("no such thing")))) == "no such thing"


def test_a_name_that_several_have_is_refused_with_their_places():
    """F92."""
    names = ["crane", "dog", "crane", "owl"]
    assert place_of("owl", names, "class") == 3
    with pytest.raises(UserError, match=r"^2 classes of x are called 'crane': 1, 3; write the index of one$"):
        place_of("crane", names, "class", plural="classes", of="x", first=1, instead="write the index of one")
    with pytest.raises(UserError, match=r"^no class 'cran' in x; did you mean 'crane'\? classes: crane, dog$"):
        place_of("cran", names, "class", plural="classes", of="x", offered=names[:2])
