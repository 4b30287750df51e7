"""The reference: distances, scores, selection, detection, acceptance, exact on integers. The formulas stand here, once.

Must not know files, circuits or processes. Every comparison is one of integers, ties included, so the circuit
and this module can be compared bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from zkkrum.protocol.params import Acceptance, Detection, Params
from zkkrum.protocol.quantize import Integers

BLOCK = 2**18
"""Coordinates per exact binary64 Gram block: 2^18 · 2^(2·15) < 2^53."""


def bitmap(clients: Iterable[int]) -> int:
    """Return the integer whose bit i is set for each client i.

    >>> bitmap([0, 3])
    9
    """
    return sum(1 << i for i in clients)


def clients_of(bits: int) -> tuple[int, ...]:
    """Return the clients of a bitmap, ascending.

    >>> clients_of(9)
    (0, 3)
    """
    return tuple(i for i in range(bits.bit_length()) if bits >> i & 1)


def squared_distances(q: Integers) -> Integers:
    """Return all exact squared Euclidean distances.

    Parameters
    ----------
    q
        Shape (n, d), quantized updates with |q| < 2^15.

    Returns
    -------
    ndarray of int64, shape (n, n)
        ``D[i, j] = sum_k (q[i, k] - q[j, k])^2``, in squared quantization steps.

    Notes
    -----
    Each block's Gram matrix is a BLAS product in binary64 whose entries stay below 2^53, hence exact.
    """
    n = q.shape[0]
    total = np.zeros((n, n), dtype=np.int64)
    for start in range(0, q.shape[1], BLOCK):
        block = q[:, start : start + BLOCK].astype(np.float64)
        gram = (block @ block.T).astype(np.int64)
        norms = np.diagonal(gram)
        total += norms[:, None] + norms[None, :] - 2 * gram
    return total


def pair_list(distances: Integers) -> list[int]:
    """Return D in the protocol's order (0,1), (0,2), …, (n-2,n-1)."""
    return [int(distances[i, j]) for i, j in combinations(range(len(distances)), 2)]


def squared_norms(q: Integers, b: int) -> list[int]:
    """Return N_i = Σ_k v_ik² of the circuit's values v = q + 2^(b-1), for q of shape (n, d); exact in int64."""
    totals = np.zeros(len(q), dtype=np.int64)
    for start in range(0, q.shape[1], BLOCK):
        values = q[:, start : start + BLOCK].astype(np.int64) + (1 << b - 1)
        totals += (values * values).sum(axis=1)
    return [int(x) for x in totals]


def nearest(distances: Integers, i: int, count: int) -> list[int]:
    """Return the ``count`` clients nearest to client i (itself excluded), ties to the lowest index."""
    row = distances[i]
    order = sorted((j for j in range(len(row)) if j != i), key=lambda j: (int(row[j]), j))
    return order[:count]


def scores(distances: Integers, params: Params) -> list[int]:
    """Return each client's score.

    ``krum-2017``: sum of the n - f - 2 smallest squared distances to the others (Blanchard et al. 2017,
    section 4); ``all-pairs``: sum of all of them.
    """
    n = params.n
    off_diagonal = np.sort(distances[~np.eye(n, dtype=bool)].reshape(n, n - 1), axis=1)
    # Python integers: n · 2^63 does not fit int64.
    return [sum(row) for row in off_diagonal[:, : params.neighbours].tolist()]


def select(scores: Sequence[int], m: int) -> tuple[int, ...]:
    """Return the m clients of lowest score in ascending index order; ties go to the lowest index."""
    return tuple(sorted(sorted(range(len(scores)), key=lambda i: (scores[i], i))[:m]))


def lower_median(values: Sequence[int]) -> int:
    """Return element floor((n-1)/2) of the values in ascending order."""
    return sorted(values)[(len(values) - 1) // 2]


@dataclass(frozen=True)
class Mad:
    """Detection by the median absolute deviation.

    Flagged iff ``s_i - M > z·A`` and ``s_i > (1 + γ)·M``, with M the lower median of the scores and A that of
    ``|s_i - M|``; M = 0 flags nobody. Compared in integers: z and γ are exact fractions.
    """

    median: int
    deviation: int
    beyond: tuple[bool, ...]
    """``s_i - M > z·A``."""
    excess: tuple[bool, ...]
    """``s_i > (1 + γ)·M``."""

    @classmethod
    def of(cls, scores: Sequence[int], params: Params) -> Mad:
        """Apply the rule to a score vector."""
        z, gamma = params.z, params.gamma
        median = lower_median(scores)
        deviation = lower_median([abs(s - median) for s in scores])
        return cls(
            median,
            deviation,
            tuple(z.denominator * (s - median) > z.numerator * deviation for s in scores),
            tuple(gamma.denominator * s > (gamma.denominator + gamma.numerator) * median for s in scores),
        )

    @property
    def flagged(self) -> tuple[int, ...]:
        """Clients that fail both tests, ascending."""
        if self.median == 0:
            return ()
        return tuple(i for i, (b, e) in enumerate(zip(self.beyond, self.excess, strict=True)) if b and e)

    @property
    def malicious(self) -> bool:
        """True iff somebody is flagged."""
        return bool(self.flagged)


@dataclass(frozen=True)
class Brackets:
    """Detection of the original zk-Krum: scores counted in brackets around their mean µ, in units of their σ.

    ``low``: scores in (µ - σ/2, µ); ``high``: in (µ, µ + 3σ/2), strictly. ``malicious`` iff low > high; then i
    is flagged iff ``s_i > µ + z·σ``. With δ_i = n·s_i - S and V = n·Q - S² (S = Σs, Q = Σs²), so that
    δ_i = n·(s_i - µ) and V = n²·σ², everything is exact in integers.
    """

    deltas: tuple[int, ...]
    variance: int
    """V = n² · σ²."""
    near: tuple[bool, ...]
    """``4δ² < V`` where δ < 0, ``4δ² < 9V`` elsewhere."""
    beyond: tuple[bool, ...]
    """``δ² > z²·V``, whatever the sign of δ."""

    @classmethod
    def of(cls, scores: Sequence[int], params: Params) -> Brackets:
        """Apply the rule to a score vector."""
        n, z = len(scores), params.z
        total = sum(scores)
        deltas = tuple(n * s - total for s in scores)
        variance = n * sum(s * s for s in scores) - total * total
        return cls(
            deltas,
            variance,
            tuple(4 * x * x < (variance if x < 0 else 9 * variance) for x in deltas),
            tuple(z.denominator**2 * x * x > z.numerator**2 * variance for x in deltas),
        )

    @property
    def low(self) -> int:
        """Scores in (µ - σ/2, µ)."""
        return sum(near and x < 0 for near, x in zip(self.near, self.deltas, strict=True))

    @property
    def high(self) -> int:
        """Scores in (µ, µ + 3σ/2)."""
        return sum(near and x > 0 for near, x in zip(self.near, self.deltas, strict=True))

    @property
    def malicious(self) -> bool:
        """True iff low > high."""
        return self.low > self.high

    @property
    def flagged(self) -> tuple[int, ...]:
        """Clients beyond µ + z·σ, if the round is malicious at all; ascending."""
        if not self.malicious:
            return ()
        return tuple(i for i, (b, x) in enumerate(zip(self.beyond, self.deltas, strict=True)) if b and x > 0)


def detect(scores: Sequence[int], params: Params) -> Mad | Brackets:
    """Apply the round's detection rule to a score vector."""
    return Mad.of(scores, params) if params.detection is Detection.MAD else Brackets.of(scores, params)


@dataclass(frozen=True)
class Verdict:
    """The public outcome of a round: what the proof states.

    ``malicious = False`` implies nobody is flagged. ``selected`` and ``flagged`` are ascending client numbers.
    """

    malicious: bool
    flagged: tuple[int, ...]
    selected: tuple[int, ...]

    def public_words(self) -> tuple[int, int, int]:
        """Return the circuit's outputs in order: malicious, bitmap of flagged, bitmap of selected."""
        return int(self.malicious), bitmap(self.flagged), bitmap(self.selected)

    @classmethod
    def of_words(cls, malicious: int, flagged: int, selected: int) -> Verdict:
        """Return the verdict that `public_words` says."""
        return cls(bool(malicious), clients_of(flagged), clients_of(selected))

    def accepted(self, params: Params) -> tuple[int, ...]:
        """Return who is aggregated, ascending (protocol: The rules, Acceptance).

        Never nobody: the client of lowest score is selected and never flagged.
        """
        flagged = set(self.flagged)
        pool = self.selected if params.acceptance is Acceptance.SELECTED else range(params.n)
        return tuple(i for i in pool if i not in flagged)


@dataclass(frozen=True, eq=False)
class Outcome:
    """A verdict with everything it was computed from. Private: it gives away the geometry of the updates."""

    verdict: Verdict
    distances: Integers
    scores: tuple[int, ...]
    detection: Mad | Brackets

    @property
    def scores_carry_no_scale(self) -> bool:
        """True where `mad` could not decide because the median score is zero (is clip too large?)."""
        return isinstance(self.detection, Mad) and self.detection.median == 0


class Krum:
    """The reference rule of a round: parameters at construction, quantized updates at call.

    Examples
    --------
    >>> from zkkrum.protocol.params import Params
    >>> q = np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0, 1], [90, 90]])
    >>> Krum(Params.of(n=6, d=2, f=1))(q).verdict
    Verdict(malicious=True, flagged=(5,), selected=(2,))
    """

    def __init__(self, params: Params) -> None:
        self.params = params

    def __call__(self, q: Integers) -> Outcome:
        """Return the outcome for quantized updates of shape (n, d)."""
        return self.of_distances(squared_distances(q))

    def of_distances(self, distances: Integers) -> Outcome:
        """Return the outcome for exact squared distances of shape (n, n)."""
        s = scores(distances, self.params)
        detection = detect(s, self.params)
        verdict = Verdict(detection.malicious, detection.flagged, select(s, self.params.m))
        return Outcome(verdict, distances, tuple(s), detection)
