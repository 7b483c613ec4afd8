import pytest

from cnnprobe.config import compose, schema
from cnnprobe.config.words import parse
from cnnprobe.errors import UserError


def overrides(*words):
    return compose.overrides(parse(["topk", "layer=conv1", *words]))


def test_short_options_get_their_prefix_and_the_command_is_put_in():
    assert overrides("k=4") == ["method=topk", "layer=conv1", "method.k=4"]


@pytest.mark.parametrize(
    "value", ["/tmp/日本語/é (1),b=2", "epoch=3.pt", "(a", "a b", "it's", "back\\slash", "tab\there", "[b]x[/b]", "{x"]
)
def test_a_value_arrives_byte_for_byte(value):
    """F06."""
    config = compose.compose(parse(["record", "dataset=folder", f"dataset.root={value}"]))
    assert config["dataset"]["root"] == value


def test_home_is_expanded():
    config = compose.compose(parse(["record", "dataset=folder", "dataset.root=~/pictures"]))
    assert config["dataset"]["root"].endswith("/pictures")
    assert "~" not in config["dataset"]["root"]


def test_a_run_with_a_moment_is_one_value():
    config = compose.compose(parse(["topk", "layer=conv1", "weights=train/x-y/v001@epoch=3"]))
    assert config["weights"] == "train/x-y/v001@epoch=3"


def test_moments_in_a_list_need_no_quotes():
    runs = ["train/x-y/v001@epoch=3", "train/x y/v001@last", "train/x-y/v001@update=000064"]
    for written in (f"[{','.join(runs)}]", f"['{runs[0]}',{runs[1]},\"{runs[2]}\"]"):
        config = compose.compose(parse(["topk", "layer=conv1", f"weights={written}"]))
        assert config["weights"] == runs
    with pytest.raises(UserError, match=r"weights got two values; for a sweep add -m, for a list write weights=\["):
        compose.compose(parse(["topk", "layer=conv1", "weights=a@epoch=1,a@epoch=2"]))


def test_lists_ranges_and_patterns_need_no_quotes():
    config = compose.compose(parse(["topk", "layer=[conv1,conv*]", "units=0:32"]))
    assert (config["layer"], config["units"]) == (["conv1", "conv*"], "0:32")


def test_a_removed_key_is_told():
    with pytest.raises(UserError, match=r"needs a value"):
        compose.compose(parse(["topk", "layer=conv1", "~method.k"]))


def test_the_name_of_a_choice_cannot_be_changed_behind_its_back():
    with pytest.raises(UserError, match=r"choose with model=…, not model.name=…"):
        compose.compose(parse(["topk", "layer=conv1", "model.name=custom"]))


def test_an_interpolation_that_leads_nowhere_is_one_line():
    """F11."""
    for value in ("${nokey}", "${nope:1}"):
        with pytest.raises(UserError) as told:
            compose.compose(parse(["topk", "layer=conv1", f"name={value}"]))
        assert "\n" not in str(told.value) and not str(told.value).startswith("cannot read")


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_every_range_is_refused_just_beyond_its_edge(every):
    """F03: the edges of every numeric option of every command, or one in so many of them."""
    from cnnprobe.config import catalogue
    from cnnprobe.config.options import Range

    edges = tried = 0
    for command in catalogue.commands():
        for key, option in catalogue.options("method", command).items():
            for kind, limits in option.alternatives:
                if key not in catalogue.page(catalogue.yaml_path("method", command)).entries:
                    continue
                if not isinstance(limits, Range):
                    continue
                step = 1 if kind == "int" else 1e-6
                outside = [limits.above, limits.below]
                outside += [limits.minimum - step] if limits.minimum is not None else []
                outside += [limits.maximum + step] if limits.maximum is not None else []
                for value in (value for value in outside if value is not None):
                    edges += 1
                    if edges % every:
                        continue
                    layer = ["layer=conv1"] if command == "topk" else []
                    with pytest.raises(UserError, match=f"{key} must be"):
                        compose.compose(parse([command, *layer, f"method.{key}={value}"]))
                    tried += 1
    assert tried > 15


@pytest.mark.parametrize("group", ["model", "dataset", "device"])
@pytest.mark.parametrize("name", [1.5, None, True, [], "x\x1b"])
def test_a_choice_of_another_kind_in_a_run_is_told(group, name):
    """F102: whatever stands in the place of the name of a model, a dataset or a device."""
    config = compose.compose(parse(["topk", "model=convnet", "dataset=shapes"]))
    config[group] = config[group] | {"name": name}
    if group == "device" and isinstance(name, str):
        return  # one of several GPUs, which are known where there are some
    with pytest.raises(UserError, match=f"no {group} "):
        schema.checked(config, "topk", stored=True)


def test_a_layer_that_a_run_does_not_name_is_told():
    """F102: its command needs one."""
    config = compose.compose(parse(["topk", "model=convnet", "dataset=shapes", "layer=conv1"]))
    del config["layer"]
    with pytest.raises(UserError, match="the configuration has no 'layer', which topk needs"):
        schema.checked(config, "topk", stored=True)
    config |= {"layer": "conv1"}
    del config["units"]
    assert schema.checked(config, "topk", stored=True)["units"] == "all"
