"""Widths of the circuits' range checks, and which limb they are made of.

Must not know files or tools. Every width holds the largest difference it is used for (protocol: Bounds); the limb is
the one whose checks and tables cost the fewest gates, by the model of this module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from zkkrum.protocol.field import PACKABLE_BITS
from zkkrum.protocol.params import Detection, Params, Score

LOOKUP_BITS = 14
"""Widest limb that the proof system checks with one lookup; its own limbs cost nothing beyond it."""
LIMBS = (8, 10, 12, LOOKUP_BITS)
"""Limbs to choose from."""


def range_gates(bits: int, limb: int) -> float:
    """Return the gates of one range check; shorter limbs than the proof system's own cost a gate each."""
    limbs, short = ceil(bits / limb), bool(bits % limb)
    return (0.25 if limb == LOOKUP_BITS else 1.25) * limbs + ceil(limbs / 3) - 0.2 * short


def table_gates(widths: Iterable[int]) -> int:
    """Return the gates of the lookup tables, one for each distinct width."""
    return sum(2 * ceil((2**width // 3 + 2) / 4) for width in set(widths) if width > 1)


def value_tables(b: int) -> set[int]:
    """Return the widths of the tables that values of b bits are looked up in."""
    return {min(b, LOOKUP_BITS), max(b - LOOKUP_BITS, 0)}


@dataclass(frozen=True)
class Widths:
    """Bits of a circuit's range checks.

    Parameters
    ----------
    limb
        Bits of the limbs; a lookup table has 2^limb rows.
    distance
        DB': of distances and norms, and of their slots in a packed word.
    key
        Of selection keys.
    detection
        Of scores and deviations (mad) or deltas (brackets).
    near
        Of the brackets' comparisons with 4δ²; 0 under mad.
    threshold
        Of comparisons with z and gamma.
    """

    limb: int
    distance: int
    key: int
    detection: int
    near: int
    threshold: int

    @classmethod
    def of(cls, params: Params) -> Widths:
        """Return the widths with the cheapest limb for the circuit that applies the rules of this round."""
        return _cheapest(params)

    @classmethod
    def with_limb(cls, params: Params, limb: int) -> Widths:
        """Return the widths in whole limbs."""
        n, s, z, gamma = params.n, params.score_max, params.z, params.gamma

        def bits(*largest: int) -> int:
            return ceil(max(largest).bit_length() / limb) * limb

        distance, key = _slot(params, limb), bits(n * s + n - 1)
        if params.detection is Detection.MAD:
            by_z = bits(z.denominator * s, (z.denominator + z.numerator) * s)
            by_gamma = bits(gamma.denominator * s, (gamma.denominator + gamma.numerator) * s)
            return cls(limb, distance, key, bits(s), 0, max(by_z, by_gamma))
        delta = n * s  # |δ| <= n·s_max; δ² and V = n²σ² are at most δ_max²
        near, threshold = bits(9 * delta**2), bits(z.denominator**2 * delta**2, z.numerator**2 * delta**2)
        return cls(limb, distance, key, bits(delta, n), near, threshold)

    def checks(self, params: Params) -> list[tuple[int, int]]:
        """Return how many range checks of how many bits the rules and their claims take."""
        n = params.n
        found = [(params.claims, self.distance), (n, self.key)]
        if params.score is Score.KRUM_2017:
            found.append((n * (n - 1), self.distance))
        if params.detection is Detection.MAD:
            return [*found, (2 * n, self.detection), (2 * n, self.threshold)]
        return [*found, (2 * n + 1, self.detection), (n, self.near), (n, self.threshold)]

    def tables(self, params: Params) -> set[int]:
        """Return the widths of the lookup tables of the circuit that applies the rules: of values too, where T = 1."""
        own = {self.limb, self.distance % self.limb}
        return own | value_tables(params.b) if params.chunks == 1 else own

    def gates(self, params: Params) -> float:
        """Return what the range checks and all tables cost together."""
        checks = sum(count * range_gates(bits, self.limb) for count, bits in self.checks(params))
        return checks + table_gates(self.tables(params))


@lru_cache(maxsize=4096)
def _cheapest(params: Params) -> Widths:
    candidates = [Widths.with_limb(params, limb) for limb in LIMBS]
    return min(candidates, key=lambda widths: (widths.gates(params), widths.limb))


def _slot(params: Params, limb: int) -> int:
    """Return DB': DB rounded up to whole limbs unless that costs a word of packed claims more."""
    exact = params.distance_bits
    rounded = ceil(exact / limb) * limb
    per_exact, per_rounded = PACKABLE_BITS // exact, PACKABLE_BITS // rounded
    return rounded if ceil(params.claims / per_rounded) == ceil(params.claims / per_exact) else exact
