"""cnnprobe: probe a convolutional network the way a physiologist probes a brain."""

from typing import TYPE_CHECKING, Any

from cnnprobe.instruments.network.about import About as About
from cnnprobe.machine.version import __version__ as __version__

if TYPE_CHECKING:  # each function loads what it needs
    from pathlib import Path

    from cnnprobe.config.options import Option
    from cnnprobe.datasets.base.imageset import ImageSet
    from cnnprobe.methods.contract import Provided
    from cnnprobe.store.reader import Recording
    from cnnprobe.store.tables import Measurement


def open(run: "Path | str") -> "Recording":
    """Open a finished or growing run for reading.

    Args:
        run: a run folder, its `store.h5`, or the short form `COMMAND/NAME/v001` below `outputs`.

    Returns:
        A `cnnprobe.store.reader.Recording`: tables by name, columns as numpy arrays.

    Raises:
        UserError: there is no such run, or its store is not one of ours.
    """
    from cnnprobe.store import folders
    from cnnprobe.store.reader import Recording

    return Recording(folders.store_of(run))


def measure(command: str, **given: Any) -> "Measurement":
    """Do what a command does, from Python, without a file.

    Args:
        command: e.g. "topk", or the Python file of an experiment of your own, "my_method.py".
        given: what a run hands over (`cnnprobe.methods.contract.Provided`): `model`, any `nn.Module`; `dataset`, an
            image set (`cnnprobe.datasets`) or an array or tensor (image, channel, y, x) of values 0 to 1, or in its
            place the `size` of one image; `device`, `batch_size`, `workers`, `seed`; and the options of the command.
            What is left out has the default of the command line.

    Returns:
        A `cnnprobe.store.tables.Measurement`; iterating it gives the rows, each with `table`, `row` and its columns.

    Raises:
        UserError: there is no such option, or it is not what it may be.
        TypeError: the model, the dataset or another object is missing.

    Example:
        for row in cnnprobe.measure("topk", model=net, dataset=images, layer="conv1", k=5):
            print(row.unit, row.image, row.response)
    """
    from cnnprobe import methods
    from cnnprobe.config import catalogue, own_experiment
    from cnnprobe.config.options import option_name
    from cnnprobe.errors import unknown
    from cnnprobe.methods import contract

    if str(command).endswith(".py"):
        command = own_experiment.add(str(command))
    given = {option_name(key): value for key, value in given.items()}
    page = catalogue.page(catalogue.yaml_path("method", command))
    declared, asked = catalogue.options("method", command), catalogue.options_of(command)
    for key in given:
        if key not in (*asked, *contract.HANDED_OVER):
            raise unknown("option", key, sorted([*asked, *contract.HANDED_OVER]), of=command)
    defaults = {key: entry.default for key, entry in page.root.items() if entry.default != "???"}
    defaults |= {key: entry.default for key, entry in page.entries.items()}
    values = {"units": "all"} | defaults | given
    open_runs = {key for key, value in given.items() if key in declared and _is_open(declared[key], value)}
    checked = page.entries.keys() - open_runs
    missing = [key for key in asked if key not in values]
    if missing:
        raise TypeError(f"{command} needs {', '.join(missing)}")
    options = {key: declared[key].check(values[key], key) if key in checked else values[key] for key in asked}
    return methods.measurement(command, _provided(command, values, given), options)


def _provided(command: str, values: dict[str, Any], given: dict[str, Any]) -> "Provided":
    """Return what a run would hand over, from what a call hands over and the defaults of the command.

    Raises:
        TypeError: there is no model, or there are no images.
    """
    from dataclasses import fields

    import numpy as np

    from cnnprobe.config import catalogue
    from cnnprobe.datasets.base.given import given_images
    from cnnprobe.errors import UserError
    from cnnprobe.machine.computation import Computation
    from cnnprobe.methods.contract import Provided, Resumed

    if "model" not in given or ("dataset" not in given and "size" not in given):
        raise TypeError(f"{command} needs a model and a dataset")
    if given.get("moments") and not catalogue.fact(command, "MOMENTS", False):
        raise UserError(f"{command} takes one network, not several moments of one")
    dataset = given.get("dataset")
    dataset = given_images(np.zeros((1, *given["size"]), np.float32) if dataset is None else dataset)
    held_out = given.get("held_out")
    of_model = _of_model(given["model"])
    own = {one.name: values[one.name] for one in fields(Computation) if one.name in values}
    return Provided(
        model=_handed_over(given["model"], dataset, command),
        dataset=dataset,
        held_out=None if held_out is None else given_images(held_out),
        classes=tuple(given.get("classes", of_model["classes"])),
        moments=given.get("moments") or (),
        computation=Computation(**({"device": of_model["device"]} | own)),
        resumed=Resumed(**{one.name: given[one.name] for one in fields(Resumed) if given.get(one.name) is not None}),
        should_stop=given.get("should_stop"),
    )


def _of_model(model: Any) -> dict[str, Any]:
    """Return what a network itself says where a call does not: where it is, and the names of its classes."""
    from cnnprobe.instruments.network import about

    tensors = model.parameters() if hasattr(model, "parameters") else iter(())
    place = next((str(tensor.device) for tensor in tensors), "cpu")
    return {"device": place, "classes": about.about(model).classes}


def _is_open(option: "Option", value: Any) -> bool:
    """Say whether an option that names a run has been given the run itself."""
    return "run" in option.kinds and value is not None and not isinstance(value, str)


def _handed_over(model: Any, images: "ImageSet", command: str) -> Any:
    """Return a network as a command takes it, and say what is wrong with it for these images."""
    import logging

    from cnnprobe.instruments.outputs import input_statistics
    from cnnprobe.machine import chance
    from cnnprobe.models.foreign import network as foreign

    with chance.forked():
        model = foreign.handed_over(model, images.size, command)
        told = input_statistics.remark(model, images)
    if told:
        logging.getLogger("cnnprobe").warning(told)
    return model
