"""Where things lie in the pictures: scores beside their threshold, distances as shades. Places are percent.

Must not know bundles or HTML: the templates draw. Percent, so that a picture is as wide as the screen while its letters
stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

MARGIN = 3.0
"""Percent left free at both ends of a scale."""
SHADES = 10
TICKS = 10
"""Most labels on an axis of clients or rounds: so many fit a telephone."""


@dataclass(frozen=True)
class Scale:
    """From values to places on a line, in percent."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, scores: Sequence[float], threshold: float) -> Scale:
        """Choose a scale for scores and their threshold: logarithmic where some lie far beyond the others."""
        positive = sorted(x for x in (*scores, threshold) if x > 0)
        if not positive:
            return cls(0.0, 1.0, False)
        middle, high = positive[(len(positive) - 1) // 2], positive[-1]
        if high > 20 * middle:
            return cls(positive[0], high, True)
        return cls(0.0, high, False)

    def place(self, value: float) -> float:
        """Return the place of a value; below the scale it is the left end."""
        if self.logarithmic:
            span = log(self.high / self.low) or 1.0
            share = log(max(value, self.low) / self.low) / span
        else:
            share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(MARGIN + (100 - 2 * MARGIN) * share, 2)


def anchor(place: float) -> str:
    """Return on which side of its place a label has room.

    >>> anchor(5), anchor(50), anchor(95)
    ('start', 'middle', 'end')
    """
    return "start" if place < 25 else "end" if place > 75 else "middle"


def shade_paths(distances: NDArray[np.float64]) -> list[tuple[float, str]]:
    """Return (opacity, SVG path) of each shade in a heat map, cells being unit squares; what is near is left blank.

    Parameters
    ----------
    distances
        Shape (n, n).
    """
    largest = float(distances.max()) or 1.0
    shades = np.ceil(SHADES * distances / largest).astype(int)
    paths = []
    for shade in range(1, SHADES + 1):
        cells = "".join(f"M{x} {y}h1v1h-1z" for y, x in zip(*np.nonzero(shades == shade), strict=True))
        if cells:
            paths.append((shade / SHADES, cells))
    return paths


def ticks(count: int) -> list[int]:
    """Return which of 1 … count are labelled on an axis.

    >>> ticks(5), ticks(40)
    ([1, 2, 3, 4, 5], [1, 5, 10, 15, 20, 25, 30, 35, 40])
    """
    if count <= TICKS:
        return list(range(1, count + 1))
    apart = next(a for a in (5, 10, 20, 25, 50, 100, 10 ** len(str(count))) if count / a <= TICKS)
    return [1, *range(apart, count + 1, apart)]
