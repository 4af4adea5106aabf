"""Is a paired difference more than chance, among so many that were looked at; and how many pictures show one?

Sources: Fisher, "The Design of Experiments", 1935 (sign flips); Holm, "A Simple Sequentially Rejective Multiple Test
Procedure", Scandinavian Journal of Statistics, 1979.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tokentm.errors import InvalidOptionError
from tokentm.optional import load

FLIPS = 20_000
"""How many sign flips are drawn; where there are no more than so many in all, all of them are taken."""

LEVEL = 0.05
POWER = 0.8


def sign_flip(differences: np.ndarray, seed: int = 0) -> np.ndarray:
    """Two-sided p-values of mean differences, (pictures, comparisons) -> (comparisons,).

    If neither method is better, a picture's difference could as well have had the other sign: p is the share of all
    sign flips whose mean lies as far from zero as the one found. Of many pictures, :data:`FLIPS` flips are drawn, and
    the one found counts as one more, so p is at least 1 / (FLIPS + 1).

    Example:
        >>> sign_flip(np.array([[1.0], [2.0], [1.5]]))
        array([0.25])
    """
    pictures = len(differences)
    found = np.abs(differences.sum(0))
    reached = found * (1 - 1e-9) - 1e-300  # the same numbers in another order have another rounding
    exact = 2**pictures <= FLIPS
    count = 2**pictures if exact else FLIPS
    generator, beyond = np.random.default_rng(seed), np.zeros(differences.shape[1], dtype=np.int64)
    for first in range(0, count, 1000):
        rows = np.arange(first, min(first + 1000, count))
        ones = (rows[:, None] >> np.arange(pictures)) & 1 if exact else generator.integers(0, 2, (len(rows), pictures))
        beyond += (np.abs((2.0 * ones - 1.0) @ differences) >= reached).sum(0)
    return beyond / count if exact else (beyond + 1) / (count + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number by Holm's method, in their order: below 0.05 all at once in 95 % of tables.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    count, largest = len(p_values), 0.0
    corrected = [0.0] * count
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (count - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def needed_pictures(deviation: float, difference: float, level: float = LEVEL, power: float = POWER) -> int:
    """How many pictures a paired, two-sided t-test needs to see a mean difference.

    Args:
        deviation: standard deviation of the difference from picture to picture, in the metric's unit.
        difference: the least mean difference that is to be seen, in the same unit.
        level: how often a difference may be seen where there is none; divided by the number of comparisons, it stays
            so over all of them (Bonferroni, which asks for no fewer than Holm).
        power: how often it is to be seen where there is one.

    Returns:
        The least number whose power is reached, by the noncentral t distribution; at least 2.

    Raises:
        InvalidOptionError: a difference that is not above zero, a negative deviation, or shares outside 0 .. 1.

    Example:
        >>> needed_pictures(deviation=0.1, difference=0.02)
        199
    """
    if not (difference > 0 and deviation >= 0 and 0 < level < 1 and 0 < power < 1):
        raise InvalidOptionError(
            f"expected a difference above 0, a deviation of 0 or more, a level and a power between 0 and 1; got "
            f"{difference}, {deviation}, {level} and {power}."
        )
    stats = load("scipy.stats")

    def reached(pictures: int) -> bool:
        if deviation == 0:
            return True
        shift, limit = difference / deviation * pictures**0.5, stats.t.ppf(1 - level / 2, pictures - 1)
        seen = stats.nct.sf(limit, pictures - 1, shift)
        return bool(seen >= power)

    low, high = 1, 2
    while not reached(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high
