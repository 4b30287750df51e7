"""The plain floating-point rule: what a server without proofs would compute. For comparison, never proved.

Must not know quantized values or files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import Detection, Params
from zkkrum.protocol.quantize import Floats


def float_scores(updates: Floats, neighbours: int, *, squared: bool = True) -> NDArray[np.float64]:
    """Return Krum scores of raw updates in binary64: the sum of the ``neighbours`` smallest distances.

    Parameters
    ----------
    updates
        Shape (n, d).
    neighbours
        n - f - 2 (Blanchard et al., Flower, FedML), n - f - 1 (ByzFL), n - 1 (the original zk-Krum).
    squared
        False for unsquared distances, as some implementations have it.
    """
    u = updates.astype(np.float64)
    d = np.stack([((u - row) ** 2).sum(axis=1) for row in u])
    if not squared:
        d = np.sqrt(d)
    n = len(u)
    off_diagonal = np.sort(d[~np.eye(n, dtype=bool)].reshape(n, n - 1), axis=1)
    return np.asarray(off_diagonal[:, :neighbours].sum(axis=1))


@dataclass(frozen=True)
class MadLines:
    """What `Mad` compares scores with, in binary64: flagged above ``threshold``."""

    median: float
    threshold: float

    @classmethod
    def of(cls, scores: NDArray[np.float64], z: float, gamma: float) -> MadLines:
        """Return the lines for scores of shape (n,)."""
        middle = (len(scores) - 1) // 2
        median = float(np.sort(scores)[middle])
        deviation = float(np.sort(np.abs(scores - median))[middle])
        return cls(median, max(median + z * deviation, (1 + gamma) * median))


@dataclass(frozen=True)
class BracketLines:
    """What `Brackets` compares scores with, in binary64: µ - σ/2, µ, µ + 3σ/2; flagged above ``threshold``."""

    low: float
    mean: float
    high: float
    threshold: float

    @classmethod
    def of(cls, scores: NDArray[np.float64], z: float) -> BracketLines:
        """Return the lines for scores of shape (n,)."""
        mean, sigma = float(scores.mean()), float(scores.std())
        return cls(mean - sigma / 2, mean, mean + 1.5 * sigma, mean + z * sigma)


@dataclass(frozen=True)
class FloatOutcome:
    """The floating-point verdict on raw updates.

    ``margin`` is the smallest relative distance of any score from a threshold it was compared with (selection or
    detection): a verdict whose margin is near the relative quantization error may differ from the exact one.
    """

    verdict: Verdict
    margin: float


def float_krum(updates: Floats, params: Params) -> FloatOutcome:
    """Apply the round's rules to raw updates of shape (n, d) in binary64, unquantized and unclipped."""
    s = float_scores(updates, params.neighbours)
    n, z, gamma = params.n, float(params.z), float(params.gamma)
    order = np.argsort(s, kind="stable")
    selected = tuple(sorted(int(i) for i in order[: params.m]))
    boundaries = [(s[order[params.m - 1]] + s[order[params.m]]) / 2] if params.m < n else []
    if params.detection is Detection.MAD:
        mad = MadLines.of(s, z, gamma)
        flags = (s > mad.threshold) & (mad.median > 0)
        malicious = bool(flags.any())
        boundaries.append(mad.threshold)
    else:
        brackets = BracketLines.of(s, z)
        low = ((s > brackets.low) & (s < brackets.mean)).sum()
        high = ((s > brackets.mean) & (s < brackets.high)).sum()
        malicious = bool(low > high)
        flags = (s > brackets.threshold) & malicious
        boundaries += [brackets.low, brackets.mean, brackets.high, brackets.threshold]
    scale = float(np.abs(s).max()) or 1.0
    margin = min((float(np.abs(s - x).min()) for x in boundaries), default=scale) / scale
    return FloatOutcome(Verdict(malicious, tuple(int(i) for i in np.flatnonzero(flags)), selected), margin)
