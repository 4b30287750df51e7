"""Quantized updates on which every implementation of Krum must agree: NumPy, plain Python, the circuit.

Six clients of three coordinates each, for b = 8 (|q| <= 127); drop the last rows for fewer clients. Each name says
what the vector is there for, under the default parameters where it matters.
"""

from __future__ import annotations

import numpy as np

from zkkrum.protocol.quantize import Integers

CLIP = 127
"""Largest q at b = 8."""

_ROWS: dict[str, list[list[int]]] = {
    "one outlier": [[0, 0, 0], [3, 0, 0], [0, 4, 0], [1, 1, 5], [2, 3, 1], [90, 90, 90]],
    "outlier first": [[90, 90, 90], [0, 0, 0], [3, 0, 0], [0, 4, 0], [1, 1, 5], [2, 3, 1]],
    "the original's example": [[10, 20, 0], [15, 21, 0], [9, 22, 0], [13, 20, 0], [11, 19, 0], [50, 100, 0]],
    "zeros": [[0, 0, 0]] * 6,
    "four duplicates": [[1, 2, 3]] * 4 + [[5, 0, 0], [0, 0, 9]],
    "two pairs of duplicates": [[1, 2, 3], [1, 2, 3], [4, 4, 4], [4, 4, 4], [9, 0, 2], [40, 40, 40]],
    "all scores tie": [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]],
    "lowest scores tie": [[0, 0, 0], [2, 0, 0], [1, 5, 0], [1, 0, 9], [1, -5, 0], [70, 0, 0]],
    "3-cycle": [[9, 0, 0], [0, 9, 0], [0, 0, 9], [30, 30, 0], [-30, 0, 30], [0, -30, -30]],
    "at the clip": [[CLIP] * 3, [-CLIP] * 3, [CLIP, -CLIP, CLIP], [-CLIP, CLIP, CLIP], [CLIP, 0, 0], [0, 0, -CLIP]],
    "a score at the mean": [[0, -1, 0], [-1, -2, 0], [0, 1, -2], [1, -3, -1], [1, 0, -1], [2, 2, 1]],
    "unattributed": [[-3, 5, 2], [5, -4, 3], [6, -6, -2], [2, -5, 0], [2, 3, 6], [-7, -7, 0]],
    "beyond z, not gamma": [[0, 6, -6], [1, -1, -6], [1, 4, 3], [6, 0, 1], [6, -2, 4], [-20, -10, 10]],
    "two flagged": [[1, 6, -3], [4, 2, -6], [-1, 5, 1], [-6, 3, 3], [5, -4, -5], [5, -6, 1]],
    "beyond z, not malicious": [[0, 0, 24], [0, 2, 4], [-4, -5, -6], [1, -3, -4], [3, 4, 6], [-6, -1, 3]],
}

VECTORS: dict[str, Integers] = {name: np.array(rows) for name, rows in _ROWS.items()}


def vector(name: str, n: int = 6, b: int = 8) -> Integers:
    """Return a vector for n <= 6 clients; what lies at the clip for b = 8 lies there for b."""
    q = VECTORS[name][:n]
    return np.where(np.abs(q) == CLIP, np.sign(q) * (2 ** (b - 1) - 1), q)
