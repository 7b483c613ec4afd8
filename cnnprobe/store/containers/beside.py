"""Information beside an array in a file: times, samples per second, and names of stimuli, channels and regions."""

from collections.abc import Iterable

import numpy as np

from cnnprobe.store.containers.stored import Container, Stored

RATES = ("rate", "sampling_rate", "samplingrate", "sample_rate", "samplerate", "srate", "sfreq", "fs", "fsample")
TIMES = ("times", "time", "timepoints", "time_points", "timevec", "t", "latencies")
CHANNELS = ("channels", "channel", "channel_names", "ch_names", "chnames", "chan_names", "channel_labels", "electrodes")
IMAGES = ("image", "images", "img", "image_names", "image_name", "imagenames", "imagename", "image_files", "image_file",
          "image_path", "image_ids", "image_id", "imageid", "files", "file", "filenames", "filename", "file_names",
          "file_name", "filepath", "file_path", "path", "pictures", "picture", "stimuli", "stimulus", "stims", "stim",
          "stimulus_names", "stimulus_name", "stim_names", "stimnames", "stimulusnames", "stimulus_files",
          "stimulus_file", "stim_file", "stimulus_ids", "stimulus_id", "stim_ids", "stim_id")  # fmt: skip
"""What images' names are called, in small letters: arrays, lists of texts, columns of tables."""
NAMES = (*IMAGES, "stimulus_labels", "conditions", "condition", "condition_names", "conds", "cond", "names", "name",
         "items", "item_ids", "item_id", "objects", "object_names", "labels", "label", "rows", "columns", "index",
         "ids", "id")  # fmt: skip
"""What names of rows are called, which are images or something else that has a row."""
UNITS = {"s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s", "ms": "ms", "msec": "ms", "msecs": "ms",
         "millisecond": "ms", "milliseconds": "ms"}  # fmt: skip


def rate_of(found: Container, name: str) -> float | None:
    """Return samples per second of an array, Hz: an attribute or a number beside it; None where nothing says it."""
    rate = number_of(found, name, RATES)
    return rate if rate is not None and rate > 0 else None


def number_of(found: Container, name: str, words: Iterable[str]) -> float | None:
    """Return the one finite number that a file has for an array by one of some words; None where there is none."""
    at = found.beside(name, words)
    values = _numbers(at[1]) if at else None
    if values is None or values.size != 1:
        return None
    value = float(values.ravel()[0])
    return value if np.isfinite(value) else None


def times_of(found: Container, name: str, also: Iterable[str] = ()) -> tuple[np.ndarray, str] | None:
    """Return the times of an array and their unit: "s" or "ms" as the file says it, else "index" or "unit unknown".

    Args:
        found: file.
        name: of the array.
        also: names of arrays that are its times, in small letters, tried first.
    """
    for words in (also, TIMES, [f"{word}_{unit}" for word in TIMES for unit in ("ms", "s", "sec", "seconds")]):
        at = found.beside(name, words)
        values = _numbers(at[1]) if at else None
        if at is None or values is None or values.ndim != 1:
            continue
        said = [array.about.get(key) for key in ("unit", "units", "time_unit") for array in _arrays(at[1])]
        said += [found.arrays[name].about.get("time_unit")]
        beside = found.beside(name, ("time_unit", "time_units", "times_unit", "times_units", "units_time"))
        said += list(beside[1])[:1] if beside and isinstance(beside[1], list) else [beside[1] if beside else None]
        ending = at[0].lower().rpartition("_")[2]
        said += [ending] if ending in UNITS else []
        counts = np.array_equal(np.diff(values), np.ones(len(values) - 1)) and values[:1].sum() in (0, 1)
        word = next((str(one) for one in said if isinstance(one, str) and one), "index" if counts else "unit unknown")
        return values.astype(np.float64), UNITS.get(word.strip().lower(), word)
    return None


def names_of(
    found: Container, name: str, words: Iterable[str], count: int | None = None
) -> tuple[str, list[str]] | None:
    """Return where names beside an array stand, and the names; None where there are none, or not so many."""
    at = found.beside(name, words)
    if at is None:
        return None
    place, value = at
    texts = value if isinstance(value, list) else [value] if isinstance(value, str) else None
    if texts is None or (count is not None and len(texts) != count) or not all(isinstance(one, str) for one in texts):
        return None
    return place, texts


def channels_of(found: Container, name: str) -> list[str] | None:
    """Return the names of channels that stand beside an array."""
    at = names_of(found, name, CHANNELS)
    return at[1] if at else None


def _arrays(value: object) -> list[Stored]:
    return [value] if isinstance(value, Stored) else []


def _numbers(value: object) -> np.ndarray | None:
    if isinstance(value, Stored):
        return value.read()
    if isinstance(value, list | str):
        return None
    values = np.asarray(value)
    return values if values.dtype.kind in "iuf" else None
