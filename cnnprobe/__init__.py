"""cnnprobe: probe a convolutional network the way a physiologist probes a brain."""

__version__ = "0.1.0"


def open(run):
    """Open a finished or growing run for reading.

    Args:
        run: a run folder, its `store.h5`, or the short form `COMMAND/NAME/v001` below `outputs`.

    Returns:
        A `cnnprobe.reading.Recording`: tables by name, columns as numpy arrays.

    Raises:
        UserError: there is no such run, or its store is not one of ours.
    """
    from cnnprobe import runs
    from cnnprobe.reading import Recording

    return Recording(runs.store_of(run))
