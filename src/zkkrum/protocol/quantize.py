"""Fixed-point quantization of updates: floats to integers of b bits and back.

Must not know files, commitments or circuits. Only dequantized committed integers may ever be aggregated:
clipping is many-to-one, so a raw update can hide any value behind a saturated coordinate.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]


def step(clip: float, b: int) -> float:
    """Return Δ = c / (2^(b-1) - 1), the value of one quantization step in units of the update."""
    return clip / ((1 << b - 1) - 1)


def quantize(update: Floats, clip: float, b: int) -> Integers:
    """Quantize an update: ``rint(clip(u, -c, c) / Δ)`` in binary64, half to even.

    Parameters
    ----------
    update
        Finite floats, any shape.
    clip
        Bound c > 0, in units of the entries.
    b
        Bits per value.

    Returns
    -------
    ndarray of int64, same shape
        Integers q with |q| <= 2^(b-1) - 1. The circuit sees ``q + 2^(b-1)``.

    Examples
    --------
    >>> quantize(np.array([-9.0, 0.0, 0.5, 1.0]), clip=1.0, b=8).tolist()
    [-127, 0, 64, 127]
    """
    return np.rint(np.clip(update.astype(np.float64), -clip, clip) / step(clip, b)).astype(np.int64)


def dequantize(q: Integers, clip: float, b: int) -> NDArray[np.float64]:
    """Return q·Δ as binary64: what a server may aggregate."""
    return np.asarray(q * step(clip, b), dtype=np.float64)


def vanished_share(update: Floats, q: Integers) -> float:
    """Return the share of entries that are not zero and that are quantized to zero, in [0, 1].

    Examples
    --------
    >>> update = np.array([0.0, 0.001, 0.5, 1.0])
    >>> vanished_share(update, quantize(update, clip=1.0, b=8))
    0.25
    """
    return float(np.mean((update != 0) & (q == 0))) if update.size else 0.0


def clipped_share(update: Floats, clip: float) -> float:
    """Return the share of entries with |u| > c, in [0, 1]."""
    return float(np.mean(np.abs(update) > clip)) if update.size else 0.0
