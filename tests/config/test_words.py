"""Words of a command line, taken apart."""

import pytest

from cnnprobe.config.words import parse
from cnnprobe.errors import UserError


def test_words_are_taken_apart():
    request = parse(["topk", "layer=conv1", "-m", "k=1,2", "--config-dir", "mine", "--resume=v001"])
    assert request.command == "topk"
    assert request.overrides == ("layer=conv1", "k=1,2")
    assert request.flags == {"multirun": "", "config-dir": "mine", "resume": "v001"}


def test_an_unknown_flag_is_told_with_the_nearest():
    with pytest.raises(UserError, match="no flag '--resum'; did you mean '--resume'"):
        parse(["topk", "--resum", "v001"])
    with pytest.raises(UserError, match="--resume needs a value"):
        parse(["topk", "--resume"])
