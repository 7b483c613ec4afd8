"""95 % intervals of similarities and of their differences that hold for few conditions and few subjects.

Where conditions are a sample, a similarity is a statistic of pairs. Its bootstrap variance counts what single pairs
contribute three times, the jackknife (each condition left out once) twice (Efron, Stein 1981, Annals of Statistics
9:586; Owen 2007, Annals of Applied Statistics 1:386), so that

    variance = 2 jackknife - bootstrap, at least a third of the bootstrap

counts it once: near a similarity of 0, where there is nothing else, the bootstrap alone is 1.7 times too wide. Where
subjects are a sample it is the variance between them over their number, where both are it is that plus the covariance
that subjects share by seeing the same conditions. Intervals are Student's t about it, of similarities on Fisher's
scale; of both samples with the degrees of freedom of Satterthwaite 1946.

Independent conditions (subjects) are assumed, and similarities of subjects that are about normal.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from cnnprobe.instruments.statistics.dissimilarity import square
from cnnprobe.methods.rsa.comparing.comparison import Comparing, Comparison
from cnnprobe.methods.rsa.comparing.inference import Over, Stack, drawn_conditions, sides

FEWEST = 5
"""Conditions, known on both sides, without which nothing is known of others."""
PIECE = 2**22
"""Numbers that are held at once."""


class Uncertainty:
    """How far similarities of models to references would lie elsewhere with other conditions, subjects or both.

    Args:
        models: (model, pair).
        references: of each (subject, pair).
        comparison: see `comparison.compare`.
        draws: of the bootstrap; 0: no intervals.
        over: what is a sample. A reference with one subject says nothing about others: over subjects it has no
            interval, over both that of its conditions.
        seed: of the draws.

    Attributes:
        compared: (step, model, subject), what `comparisons` gives.
    """

    def __init__(
        self,
        models: np.ndarray,
        references: Sequence[np.ndarray],
        comparison: Comparison,
        *,
        draws: int,
        over: Over,
        seed: int,
    ):
        self.stack, self.over, self.draws, self.seed = Stack(references), over, draws, seed
        self.comparing = Comparing(models, self.stack.rows, comparison)
        self.each = self.comparing()  # (model, subject)
        self.conditions, *self.sides = sides(models.shape[1])
        known = [np.isfinite(square(rows, np.nan)).any(-1) for rows in (models, self.stack.rows)]
        self.known = known[0], np.stack([known[1][self.stack.of == one].all(0) for one in range(self.stack.count)])
        again = draws if over != "subjects" else 0
        leaving = self.conditions if again else 0
        self.compared = np.full((leaving + again, *self.each.shape), np.nan)
        self.left, self.drawn = self.compared[:leaving], self.compared[leaving:]

    @property
    def steps(self) -> int:
        """How many comparisons are made."""
        return len(self.compared)

    def work(self) -> Iterator[None]:
        """Leave out and draw conditions; gives a sign of life after each comparison."""
        for place, one in enumerate(self.comparisons()):
            self.compared[place] = one
            yield

    def comparisons(self, start: int = 0) -> Iterator[np.ndarray]:
        """Give the comparisons without each condition, then those of the draws, from one on; (model, subject) each."""
        first, second = self.sides
        for place in range(start, self.steps):
            if place < len(self.left):
                weights = ((first != place) & (second != place)).astype(np.float64)
            else:
                random = np.random.default_rng([self.seed, place - len(self.left)])
                counts = drawn_conditions(self.conditions, random)
                weights = counts[first] * counts[second]
            yield self.comparing(weights)

    def intervals(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the intervals of all similarities, (model, reference); NaN: not known."""
        found, means = np.full((2, len(self.each), self.stack.count), np.nan), self.stack.means(self.each)
        for reference in range(self.stack.count):
            variance, degrees = self._spread(reference, np.arange(len(self.each)))
            value = means[:, reference]
            with np.errstate(divide="ignore", invalid="ignore"):
                reach = _student(degrees) * np.sqrt(variance) / (1 - np.square(value))
                ends = np.tanh(np.arctanh(value) + np.outer((-1, 1), np.where(variance == 0, 0.0, reach)))
            found[:, :, reference] = np.where(np.abs(value) < 1, ends, np.where(variance == 0, value, np.nan))
        return found[0], found[1]

    def differences(self, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return of the differences between models the ends of the intervals, and the two-sided p.

        Args:
            first, second: (difference,) places of models.

        Returns:
            (difference, reference) each; NaN: not known.
        """
        from scipy.stats import t as student

        found, means = np.full((3, len(first), self.stack.count), np.nan), self.stack.means(self.each)
        for reference in range(self.stack.count):
            variance, degrees = self._spread(reference, first, second)
            own = means[:, reference]
            value, error = own[first] - own[second], np.sqrt(variance)
            reach = np.where(variance == 0, 0.0, _student(degrees) * error)
            found[:2, :, reference] = np.clip(value + np.outer((-1, 1), reach), -2, 2)
            size = np.divide(np.abs(value), error, out=np.full(len(value), np.nan), where=error > 0)
            found[2, :, reference] = 2 * student.sf(size, degrees)
        return found[0], found[1], found[2]

    def _spread(self, reference: int, first: np.ndarray, second: np.ndarray | None = None) -> tuple:
        """Return the variance of some similarities, or differences, to a reference, and its degrees of freedom."""
        own = np.flatnonzero(self.stack.of == reference)
        step = max(1, PIECE // max(1, self.steps * len(own)))
        parts = [slice(start, start + step) for start in range(0, len(first), step)]
        found = [self._of(reference, own, first[part], None if second is None else second[part]) for part in parts]
        return tuple(np.concatenate(one) for one in zip(*found)) if found else (np.zeros(0), np.zeros(0))

    def _of(self, reference: int, own: np.ndarray, first: np.ndarray, second: np.ndarray | None) -> tuple:
        def taken(values: np.ndarray) -> np.ndarray:
            values = values[..., own]
            return values[..., first, :] if second is None else values[..., first, :] - values[..., second, :]

        count, none = len(own), np.full(len(first), np.nan)
        if not self.draws or not count or (self.over == "subjects" and count < 2):
            return none, none
        among = taken(self.each).var(1, ddof=1) / count if count > 1 else none
        if self.over == "subjects":
            return among, np.full(len(first), count - 1.0)
        known = self.known[0][first] & self.known[1][reference]
        conditions = (known if second is None else known & self.known[0][second]).sum(1)
        left, drawn = taken(self.left), taken(self.drawn)
        variance = _of_pairs(left.mean(-1), drawn.mean(-1), conditions)
        if self.over == "conditions" or count < 2:
            return variance, conditions - 1.0
        alone = np.mean([_of_pairs(left[..., one], drawn[..., one], conditions) for one in range(count)], 0)
        shared = np.maximum((count * variance - alone) / (count - 1), 0)  # the covariance of two subjects
        with np.errstate(invalid="ignore", divide="ignore"):
            degrees = (among + shared) ** 2 / (among**2 / (count - 1) + shared**2 / (conditions - 1))
        return among + shared, degrees


def _of_pairs(left: np.ndarray, drawn: np.ndarray, conditions: np.ndarray) -> np.ndarray:
    """Return the variance over conditions of what was found without each, and of the draws, (step, value) each."""
    enough = conditions >= FEWEST
    apart = np.square(left - left.mean(0)).sum(0) * (conditions - 1) / np.maximum(conditions, 1)
    known = np.isfinite(drawn)
    enough &= known.sum(0) > 1
    again = np.nanvar(np.where(enough, drawn, 0.0), 0, ddof=1) if len(drawn) > 1 else np.full(len(apart), np.nan)
    return np.where(enough, np.maximum(2 * apart - again, again / 3), np.nan)


def _student(degrees: np.ndarray) -> np.ndarray:
    """Return how many standard errors an interval of 95 % reaches to either side."""
    from scipy.stats import t as student

    return student.ppf(0.975, degrees)


def resampled_interval(
    value: np.ndarray, drawn: np.ndarray, sample: int, least: float, most: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % interval of a statistic of few subjects or conditions: Student's t.

    Percentiles of the bootstrap hold 80 to 90 % with 3 or 4 subjects: its variance is short of (n - 1) / n, and it does
    not know that the variance itself is a guess (Hesterberg 2015, The American Statistician 69:371).

    Args:
        value: (…) the statistic.
        drawn: (draw, …) of samples drawn again.
        sample: how many were drawn.
        least, most: the values it can have.

    Returns:
        NaN where it is not known.
    """
    known = np.isfinite(drawn)
    if sample < 2 or len(drawn) < 2:
        return np.full(np.shape(value), np.nan), np.full(np.shape(value), np.nan)
    there = np.isfinite(value) & (known.sum(0) > 1)
    error = np.nanstd(np.where(there, drawn, 0.0), 0, ddof=1) * np.sqrt(sample / (sample - 1))
    reach = np.where(there, _student(np.array(sample - 1)) * error, np.nan)
    return np.maximum(value - reach, least), np.minimum(value + reach, most)
