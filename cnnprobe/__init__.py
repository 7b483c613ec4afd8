"""cnnprobe: probe a convolutional network the way a physiologist probes a brain."""

from cnnprobe.instruments.network.about import About as About
from cnnprobe.machine.version import __version__ as __version__


def open(run):
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


def measure(command, **given):
    """Do what a command does, from Python, without a file.

    Args:
        command: e.g. "topk".
        given: what its `compute` takes: `model`, any `nn.Module`; `dataset`, an image set
            (`cnnprobe.datasets`) or an array or tensor (image, channel, y, x) of values 0 to 1; and options.
            Options left out have the defaults of the command line.

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
    from cnnprobe.config import catalogue
    from cnnprobe.config.options import option_name, parameter_name
    from cnnprobe.datasets.base.imageset import given_images
    from cnnprobe.errors import unknown

    given = {option_name(key): value for key, value in given.items()}
    page = catalogue.page(catalogue.yaml_path("method", command))
    options = catalogue.options("method", command)
    common = {"batch_size": 64, "device": "cpu", "workers": 0, "seed": 0, "units": "all", "classes": ()}
    asked = catalogue.parameters_of(command)
    common |= {key: entry.default for key, entry in page.root.items() if entry.default != "???"}
    values = {key: entry.default for key, entry in page.entries.items()} | {
        k: v for k, v in common.items() if k in asked
    }
    for key in given:
        if key not in asked:
            raise unknown("option", key, sorted(asked), of=command)
    values |= given
    values |= {key: given_images(values[key]) for key in ("dataset", "held_out") if key in values}
    unchecked = {key for key, value in given.items() if key in options and _is_open(options[key], value)}
    if "model" in given:
        values["model"] = _handed_over(values["model"], values.get("dataset"), command)
        values |= {key: value for key, value in _of_model(given["model"]).items() if key in asked and key not in given}
    named = page.entries.keys() - unchecked  # a run may be handed over open
    checked = {key: options[key].check(value, key) if key in named else value for key, value in values.items()}
    return methods.measurement(command, {parameter_name(key): value for key, value in checked.items()})


def _of_model(model):
    """Return what a network itself says where a call does not: where it is, and the names of its classes."""
    from cnnprobe.instruments.network import about

    tensors = model.parameters() if hasattr(model, "parameters") else iter(())
    place = next((str(tensor.device) for tensor in tensors), "cpu")
    return {"device": place, "classes": about.about(model).classes}


def _is_open(option, value):
    """Say whether an option that names a run has been given the run itself."""
    return "run" in option.kinds and value is not None and not isinstance(value, str)


def _handed_over(model, images, command):
    """Return a network as a command takes it, and say what is wrong with it for these images."""
    import logging

    from cnnprobe.instruments.outputs import input_statistics
    from cnnprobe.models.foreign import network as foreign

    if images is None:
        return foreign.handed_over(model)
    model = foreign.handed_over(model, images.size, command)
    if told := input_statistics.remark(model, images):
        logging.getLogger("cnnprobe").warning(told)
    return model
