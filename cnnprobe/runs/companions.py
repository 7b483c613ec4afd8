"""What a method works with beside its network and its images: another network, references, a brain, an old task."""

from collections.abc import Container
from typing import Any

from cnnprobe.methods.rsa.brain import volumes
from cnnprobe.methods.rsa.references import named as references
from cnnprobe.methods.rsa.references.conditions import conditions_of
from cnnprobe.methods.transfer import inputs as old_task
from cnnprobe.preparation import build as preparation


def companions(
    asked: Container[str], config: dict[str, Any], made: preparation.Preparation, device: str
) -> dict[str, Any]:
    """Open what the options of a method name, in place of the names.

    Args:
        asked: parameters of the method's `compute`.
        config: checked, see `config.schema.checked`.
        made: network and images.
        device: torch device.

    Returns:
        by option, those that are given.

    Raises:
        UserError: something that is named does not exist or does not fit the images.
    """
    own, found = config["method"], {}
    if own.get("brain"):
        found["brain"] = preparation.brain(config, device)
    if own.get("reference"):
        found["reference"] = references.of_run(config, made.dataset)
    if own.get("searchlight"):
        names = conditions_of(made.dataset, own["conditions"] == "class").names
        subjects = volumes.subjects(own["searchlight"], names, own["order"])
        found["searchlight"] = subjects
        found["mask"] = own["mask"] and volumes.mask(own["mask"], subjects[0])
    if "old_task" in asked:
        found["old_task"] = old_task.old_task(config, made)
    return found
