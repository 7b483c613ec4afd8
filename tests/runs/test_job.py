"""One run to do: how it is called, and its configuration as YAML."""

import yaml

from cnnprobe.runs.job import Job, as_yaml


def test_a_run_is_called_as_it_is_asked_or_after_network_and_images():
    config = {"name": None, "model": {"name": "convnet"}, "dataset": {"name": "avatar"}}
    assert Job("topk", config).name == "convnet-avatar"
    assert Job("topk", config | {"name": "mine"}).name == "mine"


def test_yaml_keeps_the_order_and_letters_of_any_script():
    config = {"b": [1, None], "a": {"name": "猫" * 100}}
    text = as_yaml(config)
    assert yaml.safe_load(text) == config
    assert text.index("b:") < text.index("a:") and "猫" in text
    assert all(line.strip() for line in text.splitlines()) and len(text.splitlines()) == 5
