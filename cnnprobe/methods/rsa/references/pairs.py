"""The pair of conditions that each distance belongs to, where names or numbers beside the distances state it."""

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cnnprobe.errors import UserError, one_line
from cnnprobe.instruments.statistics.dissimilarity import conditions_of, square
from cnnprobe.methods.rsa.references.axes import STIMULI
from cnnprobe.methods.rsa.references.matching import Rows, by_names, overlap, plain, stem
from cnnprobe.store.containers.stored import Container, Stored

LOG = logging.getLogger("cnnprobe")
MOST = 16
"""Lists, vectors or columns among which two are looked for."""
NUMBERS = re.compile(r"i|j|rows?|cols?|columns?|(idx|index|(stim|item|cond|image|img|object|pair)[a-z]*)_?[12abij]")
"""What numbers of conditions are called."""

BETWEEN = [re.compile(one, re.IGNORECASE) for one in (
    r"(?<![ _.-])[ _.-]+(?:vs?|versus|and|x)[ _.-]+", r"(?<!\s)\s*(?<![<-])[<-]+>\s*", r"\|+", ",", ";", ":", r"\+",
    "&", "~", "/", " - ", "--", "__", "-", "_", r"\s+", r"\.",
)]  # fmt: skip
"""What can stand between two names in one text."""
LONGEST = 1000
"""Letters of a text that may name two conditions; a longer one can be cut in too many places."""


@dataclass(frozen=True)
class Pairs:
    """The pairs of conditions that distances stand for.

    Args:
        names: (item,) of the conditions, different ones; sorted where they are numbers.
        places: (pair,) of each pair of `names`, in the order of an upper triangle, which distance it is; (item, item),
            -1 where there is none, where each pair has two or names have one with themselves.
        where: what says so, for people.
        numbers: the names are whole numbers.
        keys: the arrays of the file that hold them.
    """

    names: tuple[str, ...] | tuple[int, ...]
    places: np.ndarray
    where: str = ""
    numbers: bool = False
    keys: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Say whether the names only number the conditions, from 0 or 1 on."""
        return self.numbers and self.names[0] in (0, 1) and self.names[-1] - self.names[0] == len(self.names) - 1

    @property
    def distances(self) -> int:
        """How many distances there are."""
        return int(self.places.max()) + 1

    def agrees(self, other: "Pairs") -> bool:
        """Say whether it means the same pairs, by the same names."""
        if set(self.names) != set(other.names) or self.places.ndim != other.places.ndim:
            return False
        at = [other.names.index(name) for name in self.names]
        return np.array_equal(_square(self.places), _square(other.places)[np.ix_(at, at)])


def every_pair(first: Sequence, second: Sequence, where: str = "", keys: tuple[str, ...] = ()) -> Pairs | None:
    """Return the pairs of two lists of names or whole numbers; None where they do not have each pair once.

    They may have each pair in both orders, and each name with itself.

    Args:
        first, second: (pair,) the two of each pair.
        where, keys: see `Pairs`.
    """
    names = list(dict.fromkeys((*first, *second)))
    count = len(names)
    if count < 3 or len(first) not in _lengths(count):
        return None
    numbers = not isinstance(names[0], str)
    names = sorted(names) if numbers else names
    at = {name: place for place, name in enumerate(names)}
    one, other = (np.array([at[name] for name in side]) for side in (first, second))
    places = np.full((count, count), -1)
    places[one, other] = np.arange(len(one))
    there = places >= 0
    own = there.diagonal().sum()
    if there.sum() != len(one) or own not in (0, count):
        return None
    if len(one) - own == count * (count - 1) // 2:
        places = np.where(there, places, places.T)
    upper = places[np.triu_indices(count, 1)]
    if min(upper) < 0 or min(places.T[np.triu_indices(count, 1)]) < 0:
        return None
    return Pairs(tuple(names), upper if len(one) == len(upper) else places, where, numbers, keys)


def spread(pairs: Pairs, values: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return distances as triangles of `pairs.names`, or as matrices where each pair has two or the diagonal is there.

    Args:
        pairs: of the distances.
        values: the distances along one axis.
        axis: this axis.
    """
    if pairs.places.ndim == 1:
        return np.take(values, pairs.places, axis)
    found = np.moveaxis(np.asarray(values, np.float64), axis, -1)[..., pairs.places]
    found[..., pairs.places < 0] = np.nan
    return np.moveaxis(found, (-2, -1), (axis, axis + 1) if axis >= 0 else (axis - 1, axis))


def two_names(words: Sequence[str], conditions: Sequence[str], where: str) -> tuple[list[str], list[str]] | None:
    """Return the two lists of names out of texts that each name both conditions of a pair; None where they do not.

    Args:
        words: as "apple-bear" or "apple vs bear".
        conditions: names.
        where: for people.

    Raises:
        UserError: most of them name two conditions, but some do not or can be read in two ways.
    """
    if by_names(conditions, words, loose=False) or max(map(len, words), default=0) > LONGEST:
        return None
    known = {key.casefold() for name in conditions for whole in (plain(name), stem(name))
             for key in (whole, whole.rpartition("/")[2])}  # fmt: skip
    found: list[tuple[int, list[tuple[str, str]]]] = []
    doubt = ""
    for between in BETWEEN:
        cut = [[(word[: one.start()].strip(), word[one.end() :].strip()) for one in between.finditer(word)]
               for word in words]  # fmt: skip
        sure = [[two for two in cuts if known.issuperset(plain(side).casefold() for side in two)] for cuts in cut]
        read = [own or (cuts if len(cuts) == 1 else []) for own, cuts in zip(sure, cut)]
        at = next((place for place, ways in enumerate(read) if len(ways) != 1), None)
        if at is None and by_names(conditions, list({side for ways in read for side in ways[0]}), loose=False):
            found.append((sum(map(bool, sure)), [ways[0] for ways in read]))
        elif at is not None and 2 * sum(map(bool, sure)) > len(words):
            ways = " or ".join(f"{one} and {other}" for one, other in read[at])
            doubt = f"{words[at]!r} {f'can be {ways}' if ways else 'is not two of the names of conditions'}"
    best = [pairs for count, pairs in found if count == max(found)[0]]
    if best and all(pairs == best[0] for pairs in best):
        return [one for one, _ in best[0]], [other for _, other in best[0]]
    if best or doubt:
        doubt = doubt or f"{words[0]!r} can be cut in two ways"
        raise UserError(one_line(f"{where} has both names of a pair in one text, but {doubt}; give the two names in "
                                 "two columns or lists"))  # fmt: skip
    return None


def values_of(file: Container, name: str, stored: Stored) -> np.ndarray:
    """Read an array.

    Raises:
        UserError: it is damaged.
    """
    try:
        return stored.read()
    except UserError:
        raise
    except Exception as error:  # readers of damaged files raise what they like
        words = " ".join(str(error).split())[:80]
        raise UserError(f"{one_line(f'{file.path.name}: {name}')} is damaged ({words})") from None


def by_texts(file: Container, name: str, stored: Stored, conditions: Sequence[str]) -> tuple[Pairs, int] | None:
    """Return the pairs that texts beside an array name, and along which axis they stand; None where none do.

    They are two lists as long as the axis, or one of twice as many, of two columns or rows.

    Raises:
        UserError: texts beside it name conditions, but not each pair once, or name the pairs in two ways.
    """
    for axis, length in _axes(stored):
        lists = _near({key: words for key, words in file.texts.items() if len(words) in (length, 2 * length)}, name)
        made = [pairs for key, words in lists if len(words) > length for pairs in _halves(key, words)]
        lists = [one for one in lists if len(one[1]) == length]
        for key, words in lists:
            sides = two_names(words, conditions, one_line(f"{file.path.name}: {key}"))
            made.append(every_pair(*sides, key) if sides else None)
        for (first, one), (second, other) in combinations(lists[:MOST], 2):
            made.append(every_pair(one, other, f"{first}, {second}"))
        found, named = [pairs for pairs in made if pairs is not None], []
        if not found and conditions_of(length) == len(conditions):
            lists = [(key, list(dict.fromkeys(words))) for key, words in lists if len(set(words)) < length]
            named = [key for key, words in lists if overlap(conditions, words)]
        if not found and named:
            told = f"name conditions for each of the {length} values of {name or 'the array'}"
            raise UserError(one_line(f"{file.path.name}: {' and '.join(named[:4])} {told}, but not each pair of "
                                     "conditions once; give two lists, the two names of each pair"))  # fmt: skip
        if found:
            _must_agree(file, name, found)
            return found[0], axis
    return None


def by_numbers(file: Container, name: str, stored: Stored, beside: Sequence[Pairs]) -> tuple[Pairs, int] | None:
    """Return the pairs that numbers beside an array say, and along which axis they stand; None where none do.

    Args:
        file: that holds the array.
        name: of the array.
        stored: the array.
        beside: see `numbered`.
    """
    for axis, length in _axes(stored):
        found = [one for one in beside if one.distances == length]
        nearest = min((_distance(one.keys[0], name) for one in found), default=0)
        found = [one for one in found if _distance(one.keys[0], name) == nearest]
        if found:
            _must_agree(file, name, found)
            return found[0], axis
    return None


def numbered(file: Container, conditions: int) -> list[Pairs]:
    """Return the pairs that two vectors, or an array of two columns or rows, of a file number.

    Args:
        file: to look in.
        conditions: how many the dataset gives.

    Raises:
        UserError: vectors as long as all pairs are called as numbers of conditions, but do not have each pair once.
    """
    found: list[Pairs] = []
    groups: dict[tuple[str, int], dict[str, list[int]]] = {}
    for key, stored in file.arrays.items():
        sides = [length for length in stored.shape if _of_pairs(length)]
        if not sides or stored.ndim > 2 or (stored.ndim == 2 and 2 not in stored.shape):
            continue
        whole = _whole(values_of(file, key, stored))
        if whole is None:
            continue
        if stored.ndim == 1:
            groups.setdefault((key.rpartition("/")[0], sides[0]), {})[key] = whole.tolist()
            continue
        first, second = (whole if len(whole) == 2 else whole.T).tolist()
        pairs = every_pair(first, second, key, (key,))
        if pairs is not None:
            found.append(pairs)
    for (_, length), vectors in groups.items():
        made = [every_pair(vectors[a], vectors[b], f"{a}, {b}", (a, b)) for a, b in combinations([*vectors][:MOST], 2)]
        called = [key for key in vectors if NUMBERS.fullmatch(key.rpartition("/")[2].lower())]
        again = any(len(set(vectors[key])) < length for key in called)
        if len(called) == 2 and again and conditions_of(length) == conditions and not any(made):
            raise UserError(one_line(f"{file.path.name}: {' and '.join(called)} are called as numbers of conditions, "
                                     "but are not those of each pair once; give one value for each pair"))  # fmt: skip
        found += [one for one in made if one is not None]
    return found


def in_columns(where: str, values: np.ndarray) -> tuple[Pairs, np.ndarray] | None:
    """Return the pairs that two columns of an array number, and (column, pair) the others; None where none do.

    Args:
        where: for people.
        values: (pair, column) or (column, pair), three columns or more.

    Raises:
        UserError: two columns alone are whole numbers, and are not those of each pair once.
    """
    if values.ndim != 2 or not 3 <= min(values.shape) <= MOST or not _of_pairs(max(values.shape)):
        return None
    columns = values.T if len(values) > values.shape[1] else values
    whole = {place: numbers for place, one in enumerate(columns) if (numbers := _whole(one)) is not None}
    for a, b in combinations(whole, 2):
        pairs = every_pair(whole[a].tolist(), whole[b].tolist(), f"columns {a + 1} and {b + 1}")
        if pairs is not None:
            return pairs, np.delete(columns, (a, b), 0)
    if len(whole) == 2 and [*whole] == [0, 1] and conditions_of(max(values.shape)):
        raise UserError(f"{where} has whole numbers in its first two columns alone, but not each pair of conditions "
                        "once; give one row for each pair, or the distances without numbers")  # fmt: skip
    return None


def tell_numbers(where: str, pairs: Pairs, rows: Rows) -> None:
    """Warn that columns or vectors are the numbers of the two conditions of each pair, and whose numbers they are."""
    ends = f"{pairs.names[0]} to {pairs.names[-1]}"
    how = rows.how.removeprefix("in the order of the numbers, ")
    LOG.warning(one_line(f"{where}: {pairs.where} are the numbers of the two conditions of each pair, {ends}, {how}"))


def placed(pairs: Pairs, values: np.ndarray, axis: int, like: Stored) -> Stored:
    """Return an array with its pairs in the order of `spread`, what its file says of it kept."""
    ordered, axes = spread(pairs, values, axis), like.axes
    if pairs.places.ndim > 1 and axes:
        axes = (*axes[:axis], STIMULI, STIMULI, *axes[axis + 1 :])
    return Stored(ordered.shape, ordered.dtype, ordered.__getitem__, axes=axes, title=like.title, about=like.about)


def _lengths(count: int) -> tuple[int, ...]:
    """Return how many distances so many conditions can have: each pair once or twice, with or without the diagonal."""
    once = count * (count - 1) // 2
    return once, once + count, 2 * once, 2 * once + count


def _of_pairs(length: int) -> bool:
    """Say whether some conditions have so many distances."""
    near = round((2 * length) ** 0.5), round(length**0.5)
    return length > 2 and any(length in _lengths(count + more) for count in near for more in (-1, 0, 1))


def _square(places: np.ndarray) -> np.ndarray:
    return places if places.ndim > 1 else square(places)


def _axes(stored: Stored) -> Iterator[tuple[int, int]]:
    """Give each axis that can be of pairs, and its length."""
    for axis, length in enumerate(stored.shape):
        if _of_pairs(length) and stored.shape.count(length) == 1:
            yield axis, length


def _halves(key: str, words: list[str]) -> list[Pairs | None]:
    """Return the pairs of texts that stood in two columns, or in two rows."""
    half = len(words) // 2
    return [every_pair(words[::2], words[1::2], key), every_pair(words[:half], words[half:], key)]


def _near(texts: dict[str, list[str]], name: str) -> list[tuple[str, list[str]]]:
    """Return the lists of texts nearest to an array: in its group, in those above it, anywhere."""
    if not texts:
        return []
    far = {key: _distance(key, name) for key in texts}
    best = min(far.values())
    return [(key, words) for key, words in texts.items() if far[key] == best]


def _distance(key: str, name: str) -> int:
    """Return how many groups above an array something stands; more where it is in another group."""
    own, group = key.rpartition("/")[0], name.rpartition("/")[0]
    above = not own or group == own or group.startswith(f"{own}/")
    return group.count("/") - own.count("/") + bool(group) - bool(own) if above else 99


def _whole(values: np.ndarray) -> np.ndarray | None:
    """Return whole numbers of 0 or more as such; None where some are none."""
    if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        return None
    values = values.astype(np.float64)
    small = (values >= 0).all() and (values < 2**31).all()
    return values.astype(np.int64) if small and (values == np.floor(values)).all() else None


def _must_agree(file: Container, name: str, found: Sequence[Pairs]) -> None:
    for other in found[1:]:
        if not found[0].agrees(other) and not (found[0].counts and other.counts and _same(found[0], other)):
            raise UserError(one_line(f"{file.path.name}: {found[0].where} and {other.where} say different pairs for "
                                     f"{name or 'the array'}; leave one of them out"))  # fmt: skip


def _same(one: Pairs, other: Pairs) -> bool:
    return np.array_equal(one.places, other.places)


def refuse_triplets(path: str, rows: Sequence[Sequence[str]], conditions: Sequence[str]) -> None:
    """Refuse a table that names three conditions or more in a row, as of an odd-one-out task.

    Args:
        path: of the table, for people.
        rows: its head, then its rows.
        conditions: names of the conditions.

    Raises:
        UserError: three columns hold names of conditions, and those of each row differ.
    """
    named = []
    for place, column in enumerate(zip(*rows[1:])):
        texts = list(dict.fromkeys(stem(cell).casefold() for cell in column))
        if len(texts) > 2 and 2 * len(overlap(conditions, texts)) > min(len(texts), len(conditions)):
            named.append(place)
    cells = [[stem(row[place]).casefold() for place in named] for row in rows[1:]]
    if len(named) > 2 and all(len(set(row)) == len(row) for row in cells):
        words = ", ".join(rows[0][place] for place in named[:4])
        raise UserError(one_line(f"{path} names {len(named)} conditions in each row ({words}): triplets and other "
                                 "choices are not read; give a dissimilarity of each pair, or an embedding, a row for "
                                 "each condition"))  # fmt: skip
