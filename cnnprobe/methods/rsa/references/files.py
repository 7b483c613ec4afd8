"""References from files: matrices in containers of every kind, with the names of their rows and axes."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnprobe.errors import UserError, listing, one_line
from cnnprobe.instruments.statistics.dissimilarity import conditions_of
from cnnprobe.methods.rsa.references.axes import AXES, PAIR, STIMULI, counted, fits, known, known_dimensions
from cnnprobe.methods.rsa.references.given import Reference, reference
from cnnprobe.methods.rsa.references.matching import OPTION, Rows, by_names, overlap, rows_of
from cnnprobe.methods.rsa.references.pairs import (
    Pairs,
    by_numbers,
    by_texts,
    in_columns,
    numbered,
    placed,
    tell_numbers,
    values_of,
)
from cnnprobe.store.containers.beside import CHANNELS, NAMES, RATES, TIMES, UNITS, number_of, rate_of, times_of
from cnnprobe.store.containers.opening import opened
from cnnprobe.store.containers.stored import Container, Stored

LOG = logging.getLogger("cnnprobe")
REGIONS = ("regions", "region", "rois", "roi", "areas", "area", "region_names", "roi_names")
ASIDE = {*TIMES, *RATES, *CHANNELS, *REGIONS, *NAMES}
"""What is no matrix whatever its shape: it says what belongs to one."""
STARTS = ("tmin", "t0", "start", "start_time")
"""What the time of the first sample is called."""
KNOWN = (*AXES, STIMULI, PAIR)
LISTED, LOOSE = 2, 10
"""Lists of names as near as this say that they are; matched by parts of names they are as far off as others."""
DESCRIBED = {
    "subject": ("subject", "subjects", "participant", "sub", "subj"),
    "session": ("session", "sessions", "run"),
    "time": ("time", "times"),
    "region": ("roi", "rois", "region", "regions", "area"),
}
"""What rsatoolbox's descriptors of matrices say about them."""


class NothingFitsError(UserError):
    """A file has no matrix of the conditions."""


def matrices(
    path: Path, inside: str, conditions: Sequence[str], axes: Sequence[str] | None, order: str | None
) -> list[Reference]:
    """Return every array of a file that is dissimilarities of the conditions.

    Args:
        path: HDF5, MATLAB, NumPy or NIfTI.
        inside: an array, group, struct or cell array in it; "": all that fit.
        conditions: names.
        axes: see `given.reference`.
        order: see `matching.rows_of`.

    Raises:
        NothingFitsError: nothing fits.
        UserError: something does but for names, order or axes.
    """
    file = opened(path)
    chosen = file.named(inside) if inside else file.arrays
    found: list[Reference] = []
    others = [f"{name or 'an array'} ({reason})" for name, reason in file.passed.items()]
    beside = numbered(file, len(conditions))
    aside = {key for one in beside for key in one.keys}
    columns = {key for keys in file.rows.values() if not file.texts.keys().isdisjoint(keys) for key in keys}
    for name, stored in chosen.items():
        title = _title(path, file, name, stored)
        if not inside and (not stored.shape or name.rpartition("/")[2].lower() in ASIDE or "_descriptors/" in name):
            continue
        stored, pairs = (stored, None) if name in aside else _paired(file, name, stored, conditions, beside)
        if name in aside or (name in columns and pairs is None):
            continue
        place, theirs = _names(file, name, stored, conditions, pairs)
        count = len(theirs) if theirs is not None else len(conditions)
        if not (inside in (name, name.replace("/", ".")) or fits(stored.shape, count)):
            what = "is a number" if not stored.shape else f"has {counted(stored.shape)}"
            if stored.ndim > 1 or (stored.ndim == 1 and conditions_of(len(stored)) and len(stored) > 2):
                others.append(f"{title} with {counted(stored.shape)}" if stored.shape else f"{title} {what}")
            continue
        if not inside and pairs is None and stored.ndim == 1 and _counts(values_of(file, name, stored)):
            continue
        made = _made(file, name, title, stored, count, axes, pairs is not None)
        rows = _rows(file, name, title, pairs, count, (place, theirs), conditions, order)
        if rows.guessed and not found:
            LOG.warning(rows.guessed)
        found.append(replace(made.reordered(rows.order), rows=rows.how))
    if not found:
        there = f"; it has {listing(others, 6)}" if others else "; it has no array of numbers"
        wide = any(one.ndim == 2 and len(conditions) in one.shape for one in file.arrays.values())
        hint = "; give distances between conditions, or responses as a table (CSV), a condition a row" if wide else ""
        raise NothingFitsError(
            f"{path} has no matrix of {len(conditions)} conditions, as the dataset gives{one_line(there)}{hint}"
        )
    if others and not inside:
        LOG.warning(
            one_line(f"{path.name}: passed over {listing(others, 6)}; the dataset gives {len(conditions)} conditions")
        )
    return [replace(one, passed_over="; ".join(others)) for one in found]


def _counts(values: np.ndarray) -> bool:
    """Say whether numbers are 0, 1, 2 … or 1, 2, 3 …: those of cells or pairs, and no distances."""
    return len(values) > 1 and values[0] in (0, 1) and bool((np.diff(values) == 1).all())


def features(path: Path, inside: str, conditions: Sequence[str]) -> list[list[str]] | None:
    """Return the cells of rows of a file that name conditions beside numbers, a head above them; None without such.

    Args:
        path: HDF5, MATLAB or NumPy: of a structured array or the like, and no other array unless it is named.
        inside: its name, or one of its fields; "": the one there is.
        conditions: names.

    Raises:
        UserError: there are several.
    """
    file, found = opened(path), []
    within = {key for keys in file.rows.values() for key in keys}
    if not inside and any(one.shape and key not in within for key, one in file.arrays.items()):
        return None
    for name, keys in file.rows.items():
        words = [key for key in keys if key in file.texts and by_names(conditions, file.texts[key], loose=False)]
        numeric = [key for key in keys if key in file.arrays and inside in ("", name, key)]
        if words and numeric:
            values = [file.texts[words[0]], *(map(str, values_of(file, key, file.arrays[key])) for key in numeric)]
            found.append([[key.rpartition("/")[2] for key in (words[0], *numeric)], *map(list, zip(*values))])
    if len(found) > 1:
        raise UserError(one_line(f"{path} has several arrays of rows that name the conditions: "
                                 f"{listing(file.rows, 4)}; say which, reference=FILE:ARRAY"))  # fmt: skip
    return found[0] if found else None


def _paired(
    file: Container, name: str, stored: Stored, conditions: Sequence[str], beside: Sequence[Pairs]
) -> tuple[Stored, Pairs | None]:
    """Return an array in the order of an upper triangle, and what says its pairs; itself and None where nothing does.

    Args:
        file: that holds the array.
        name: of the array.
        stored: the array.
        conditions: names.
        beside: pairs that arrays of the file number.
    """
    where = one_line(f"{file.path.name}{': ' if name else ''}{name}")
    if stored.ndim == 2 and (own := in_columns(where, values_of(file, name, stored))) is not None:
        pairs, values = own
        return placed(pairs, values if len(values) > 1 else values[0], -1, Stored((), values.dtype, lambda _: values,
                      title=stored.title, about=stored.about)), pairs  # fmt: skip
    found = by_texts(file, name, stored, conditions) or by_numbers(file, name, stored, beside)
    if found is None:
        return stored, None
    pairs, axis = found
    return placed(pairs, values_of(file, name, stored), axis, stored), pairs


def _rows(
    file: Container,
    name: str,
    title: str,
    pairs: Pairs | None,
    count: int,
    named: tuple[str, list[str] | None],
    conditions: Sequence[str],
    order: str | None,
) -> Rows:
    """Return whose condition each row of an array is; see `matching.rows_of`; a warning says what numbers of pairs are.

    Args:
        file: that holds the array.
        name: of the array.
        title: of the array, for people.
        pairs: what says the pairs; names do not leave `order` anything to decide.
        count: rows.
        named: where the names of the rows stand, and the names or None.
        conditions: names.
        order: as it is given.
    """
    place, theirs = named
    numbers = pairs if pairs is not None and pairs.numbers else None
    order = order if pairs is None or numbers is not None else None
    if order is None and (theirs is None or (numbers is not None and place == numbers.where)):
        _must_have_no_names(file, name)
    where = one_line(f"{file.path.name}: {title}" if title else file.path.name)
    rows = rows_of(conditions, count, theirs, order=order, file=where)
    if numbers is not None:
        tell_numbers(where, numbers, rows)
    return replace(rows, how=f"{rows.how} ({place})") if theirs is not None and order is None else rows


def _title(path: Path, file: Container, name: str, stored: Stored) -> str:
    title = stored.title or name or path.name.partition(".")[0]
    return f"{path.stem}: {title}" if file.kind == "npz" else title


def _made(
    file: Container,
    name: str,
    title: str,
    stored: Stored,
    count: int,
    axes: Sequence[str] | None,
    paired: bool,
) -> Reference:
    """Return the reference of an array, its rows as they stand; `paired`: what its pairs are is known."""
    values = values_of(file, name, stored)
    about: dict[str, Any] = {"paired": paired}
    begins = ""
    own = {axis: [word.lower()] for axis, word in zip(known_dimensions(stored.axes), stored.axes)}  # their coordinates
    if (timed := times_of(file, name, own.get("time", []))) is not None:
        about["times"], about["time_unit"] = timed
    elif (rate := rate_of(file, name)) is not None:
        about["rate"] = rate
        begins, about["start"] = _start(file, name)
    if (regions := _regions(file, name, own.get("region", []))) is not None:
        about["regions"] = regions
    if axes is None and stored.axes:
        axes = _own_axes(file, stored, count)
    elif axes is None and (described := _described(file, name, values)) is not None:
        values, axes, more = described
        about |= more
    given = {known(axis) for axis in axes or ()}
    for key, word in (("times", "time"), ("regions", "region")):
        if axes is not None and word not in given:
            about.pop(key, None)
    made = reference(title, values, count, axes=axes, **about)
    if about.get("start") and begins and "time" in made.axes:
        _must_be_seconds(file, begins, about["start"], len(made.times), about["rate"])
    return made


def _start(file: Container, name: str) -> tuple[str, float]:
    """Return where the first time of an array stands, "" where its unit is said, and the time, s; 0 without one."""
    for word in STARTS:
        at, value = file.beside(name, (word,)), number_of(file, name, (word,))
        if at is not None and value is not None:
            place, there = at
            said = [there.about.get(key) for key in ("unit", "units")] if isinstance(there, Stored) else []
            unit = next((UNITS[str(one).lower()] for one in said if str(one).lower() in UNITS), "")
            return "" if unit else place, value / 1000 if unit == "ms" else value
    return "", 0.0


def _must_be_seconds(file: Container, place: str, start: float, count: int, rate: float) -> None:
    """Tell a first time that is farther from 0 than all times are long: it may stand in ms, as EEG programs have it."""
    if abs(start) > count / rate:
        read = f"{start:g} to {start + (count - 1) / rate:g} s"
        other = f"{start / 1000:g} to {start / 1000 + (count - 1) / rate:g} s"
        told = f"{place} is {start:g} and is taken as seconds: times are {read}; if it is in ms, they are {other}"
        LOG.warning(one_line(f"{file.path.name}: {told}; store it in seconds, or give it the attribute units"))


def _own_axes(file: Container, stored: Stored, count: int) -> list[str] | None:
    """Return what a file says of the axes of an array; None where it says nothing that is known.

    Axes with words of their own are stimuli where the file has as many names for them, as xarray keeps coordinates.
    """
    words = known_dimensions(stored.axes)
    if len(words) == stored.ndim:
        for place, word in enumerate(stored.axes):
            if words[place] not in KNOWN and len(file.texts.get(word, ())) == stored.shape[place] == count:
                words[place] = STIMULI
    return words if set(words) & set(KNOWN) else None


def _regions(file: Container, name: str, also: Sequence[str]) -> tuple[str, ...] | None:
    at = file.beside(name, (*also, *REGIONS))
    if at is None:
        return None
    value = at[1].read() if isinstance(at[1], Stored) else at[1]
    return tuple(map(str, np.atleast_1d(np.asarray(value, object)))) if np.ndim(value) < 2 else None


def _described(file: Container, name: str, listed: np.ndarray) -> tuple[np.ndarray, list[str], dict[str, Any]] | None:
    """Return rsatoolbox's list of matrices with its descriptors as axes, these, and what they say; None without."""
    group = f"{name.rpartition('/')[0]}/rdm_descriptors/".lstrip("/")
    columns = {}
    for axis, words in DESCRIBED.items():
        for word in words:
            key = f"{group}{word}"
            values = file.texts.get(key) or (file.arrays[key].read().tolist() if key in file.arrays else None)
            if values is not None and np.ndim(values) == 1 and len(values) == len(listed) > 1 and axis not in columns:
                columns[axis] = values
    levels = {axis: list(dict.fromkeys(values)) for axis, values in columns.items()}
    levels = {axis: values for axis, values in levels.items() if len(values) > 1}
    rows = list(zip(*(columns[axis] for axis in levels)))
    if not levels or len(set(rows)) != len(rows) or np.prod([len(one) for one in levels.values()]) != len(rows):
        return None
    at = [[levels[axis].index(one) for axis, one in zip(levels, row)] for row in rows]
    grid = np.empty((*(len(one) for one in levels.values()), *listed.shape[1:]))
    grid[tuple(np.array(at).T)] = listed
    more: dict[str, Any] = {}
    if "region" in levels:
        more["regions"] = tuple(map(str, levels["region"]))
    if "time" in levels:
        more["times"] = np.array(levels["time"], np.float64)
    return grid, list(levels), more


# ---- names -----------------------------------------------------------------------------------------------------------


def _names(
    file: Container, name: str, stored: Stored, conditions: Sequence[str], pairs: Pairs | None
) -> tuple[str, list[str] | None]:
    """Return where the names of an array's rows stand, and the names; None where there are none.

    Numbers of pairs are those of the names that come with the array; without such, they are the names.
    """
    if pairs is not None and not pairs.numbers:
        return pairs.where, list(map(str, pairs.names))
    place, names = _listed(file, name, stored, conditions) if pairs is None or pairs.counts else ("", None)
    return (place, names) if pairs is None or names is not None else (pairs.where, list(map(str, pairs.names)))


def _listed(file: Container, name: str, stored: Stored, conditions: Sequence[str]) -> tuple[str, list[str] | None]:
    """Return where a list of names of an array's rows stands, and the names; None where there is none."""
    first: tuple[str, list[str]] | None = None
    fit: list[tuple[int, str, list[str], Rows]] = []
    for rank, place, words in _texts(file, name, stored):
        if len(words) < 2:
            continue
        if not fits(stored.shape, len(words)):
            if rank < LISTED and fits(stored.shape, len(conditions)) and overlap(conditions, words):
                told = f"{place} has {len(words)} names, {name or 'the array'} has the shape {stored.shape}"
                raise UserError(one_line(f"{file.path.name}: {told}; {OPTION}"))
            continue
        matched = by_names(conditions, words)
        if matched is not None:
            fit.append((rank + LOOSE * matched.loose, place, words, matched))
        elif first is None and rank < LISTED and (len(set(words)) == len(words) or overlap(conditions, words)):
            first = place, words
    if not fit:
        return first if first is not None else ("", None)
    best = min(fit, key=lambda one: one[0])
    for rank, place, _, matched in fit:
        if rank == best[0] and not np.array_equal(matched.order, best[3].order):
            raise UserError(
                one_line(f"{file.path.name}: {best[1]} and {place} name the rows in different orders; {OPTION}")
            )
    return best[1:3]


def _must_have_no_names(file: Container, name: str) -> None:
    """Refuse an array whose names were passed over: its order would be a guess."""
    group = name.rpartition("/")[0]
    for key, reason in file.passed.items():
        above, _, word = key.rpartition("/")
        if word.lower() in NAMES and (not above or group == above or group.startswith(f"{above}/")):
            raise UserError(f"{one_line(f'{file.path.name}: {key}')} {reason}, so that the order of the rows is not "
                            f"known; save the names as texts, or {OPTION}")  # fmt: skip


def _texts(file: Container, name: str, stored: Stored) -> Iterator[tuple[int, str, list[str]]]:
    """Give lists that may name an array's rows: how far off (below `LISTED` they say what they are), place, names."""
    group = name.rpartition("/")[0]
    for word in NAMES:
        at = file.beside(name, (word,))
        if at is not None:
            yield from ((0, *one) for one in _as_texts(*at, word))
    described = f"{group}/pattern_descriptors/".lstrip("/")
    for key in file.having("pattern_descriptors/"):
        if key.startswith(described):
            listed = _as_texts(key, file.texts.get(key) or file.arrays[key], key.rpartition("/")[2])
            yield from ((1, *one) for one in listed)
    for key, value in stored.about.items():
        if isinstance(value, list) and key.lower() not in ("axes", "dims", "dimensions", *REGIONS):
            yield 2, f"{name}@{key}", value
    above = (group, group.rpartition("/")[0], "")
    yield from ((2 if key.rpartition("/")[0] in above else 3, key, words) for key, words in file.texts.items())


def _as_texts(place: str, value: Any, word: str) -> Iterator[tuple[str, list[str]]]:
    """Give names as texts; whole numbers are names where they say more than which row it is."""
    if isinstance(value, list):
        yield place, value
        return
    values = value.read() if isinstance(value, Stored) and value.ndim == 1 else value
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iuf":
        whole = len(values) > 1 and np.isfinite(values).all() and (values == np.floor(values)).all()
        if whole and len(np.unique(values)) == len(values) and not (np.diff(values) == 1).all():
            yield place, [str(int(one)) for one in values]
