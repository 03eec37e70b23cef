"""How many elements of a value that is rounded to steps chance lets lie one step off: a count of rare events."""

from __future__ import annotations

import math

from coreproof.verification.tolerance import TYPICAL

_ROUNDED = 1 + 1e-9

_CHANCE, _DEVIATIONS, _MANY = 1e-6, 4.75, 100.0
"""How rarely chance alone may call a value wrong, as a share, in deviations of the normal distribution, and where that serves."""


def most_crossed(error: float, elements: int) -> float:
    """The root-mean-square error, in steps, of as many crossed edges as chance lets be where ``error`` is expected.

    The count is one of rare events, so that a few of many elements may be off where less than one is expected: the largest
    count that a Poisson distribution of ``TYPICAL ** 2`` times the expected mean exceeds once in ``1 / _CHANCE`` values.
    """
    # the share of crossed edges is the squared error in steps: each is a whole step off
    mean = (TYPICAL * error) * (TYPICAL * error) * elements  # infinite, where a power would raise
    if mean > _MANY:
        # so many events are all but normally distributed
        count = mean + _DEVIATIONS * math.sqrt(mean)
    else:
        # P(k) = exp(-m) m^k / k!, each from the one before by m / k
        term = math.exp(-mean)
        count, beyond = 0, 1.0 - term
        while beyond > _CHANCE:
            count += 1
            term *= mean / count
            beyond -= term
    # exactly so many are let be, whatever the square root is rounded to
    return math.sqrt(max(count, mean) / elements) * _ROUNDED
