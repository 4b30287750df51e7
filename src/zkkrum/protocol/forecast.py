"""Gate counts forecast from the parameters alone, and what follows: one circuit or shards, which chunk, what it costs.

Must not know tools: this is for before anything runs. The coefficients say what bb's arithmetization charges; on
the grid of ``scripts/gate_budget.py`` the forecast is within half a percent of ``bb gates``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import ceil

from zkkrum.errors import InputError
from zkkrum.protocol.params import LIMB_BITS, Detection, Params, Score

SHARD_GATES = 32_700
"""Default ceiling of a circuit: a reference string of 2^15 points proves up to 32,759 gates."""
MARGIN = 0.997
"""Forecasts may be short by 0.3 %; a default chunk keeps that distance from the ceiling."""
PERMUTATION = 73
FORM = 1
PACKING_PER_VALUE = 1 / 3
PACKING_PER_WORD = 0.8


def _range(bits: int, limb: int) -> float:
    """Gates of one range check: the proof system's own limbs are free of the gate each that ours cost."""
    limbs = ceil(bits / limb)
    return (0.25 if limb == LIMB_BITS else 1.25) * limbs + ceil(limbs / 3)


def _tables(widths: Iterable[int]) -> int:
    """Gates of the lookup tables, one for each distinct width."""
    return sum(2 * ceil((2**width // 3 + 2) / 4) for width in set(widths) if width > 1)


def _value_tables(b: int) -> set[int]:
    return {min(b, LIMB_BITS), max(b - LIMB_BITS, 0)}


def _values(params: Params, sizes: Iterable[int]) -> float:
    """Gates of values in leaves of the given numbers of coordinates: range, packing, hash, form."""
    total = 0.0
    for k in sizes:
        words = ceil(k / params.pack)
        total += PERMUTATION * ceil((words + 1) / 3) + PACKING_PER_WORD * words
        total += k * (FORM + PACKING_PER_VALUE + (1.25 if params.b <= LIMB_BITS else 1.5))
    return params.n * total


def _rules(params: Params) -> float:
    """Gates of everything that follows the commitments: ρ, challenges, distances, scores, selection, detection."""
    p, w, limb = params, params.widths(), params.limb
    words = p.n + ceil(p.pairs / (252 // p.distance_bits)) + 1
    total = PERMUTATION * (ceil(words / 3) + ceil((p.n - 2) / 3)) + p.pairs * (_range(p.distance_bits, limb) + 1.4) + 43
    signs = [(p.n, w.key)]
    rows = p.n * (p.n - 1)
    if p.score is Score.KRUM_2017:
        signs.append((rows, p.distance_bits))
        total += 1.1 * rows
    else:
        total += 0.4 * rows
    if p.detection is Detection.MAD:
        signs += [(2 * p.n, w.detection), (2 * p.n, w.threshold)]
        total += 13 * p.n
    else:
        signs += [(2 * p.n + 1, w.detection), (p.n, w.near), (p.n, w.threshold)]
        total += 10 * p.n
    return total + sum(count * (2 + _range(bits, limb)) for count, bits in signs)


def _rule_tables(params: Params) -> set[int]:
    return {params.limb, params.distance_bits % params.limb}


def round_gates(params: Params) -> int:
    """Forecast the `round` circuit."""
    p = params
    commitments = PERMUTATION * p.n * ceil((p.chunks + 2) / 3)
    sizes = [p.chunk] * (p.chunks - 1) + [len(p.chunk_range(p.chunks - 1))]
    return round(_values(p, sizes) + commitments + _rules(p) + _tables(_value_tables(p.b) | _rule_tables(p)))


def shard_gates(params: Params, coordinates: int) -> int:
    """Forecast the `shard` circuit of so many coordinates."""
    fixed = PERMUTATION * (ceil((params.n - 2) / 3) + 2) + 30 + 2 * params.n
    return round(_values(params, [coordinates]) + fixed + _tables(_value_tables(params.b)))


def verdict_gates(params: Params) -> int:
    """Forecast the `verdict` circuit."""
    return round(_rules(params) + PERMUTATION + _tables(_rule_tables(params)))


def whole_chunk(params: Params) -> int:
    """Return the chunk that holds all d coordinates in one leaf."""
    return ceil(params.d / params.pack) * params.pack


def largest_chunk(params: Params, ceiling: int = SHARD_GATES) -> int:
    """Return the largest multiple of PACK whose shard stays below the ceiling.

    Raises
    ------
    InputError
        If not even one word a client fits.
    """
    words, step = 0, 1 << 24
    while step:
        if shard_gates(params, (words + step) * params.pack) <= ceiling * MARGIN:
            words += step
        else:
            step //= 2
    if not words:
        raise InputError(
            f"shard: not even {params.pack} coordinates of {params.n} clients fit {ceiling:,} gates",
            "raise --shard-gates",
        )
    return words * params.pack


def default_chunk(params: Params, ceiling: int = SHARD_GATES) -> int:
    """Return the protocol's default chunk: all of d where the round fits one circuit, else the largest of a shard."""
    whole = replace(params, chunk=whole_chunk(params))
    return whole.chunk if round_gates(whole) <= ceiling * MARGIN else largest_chunk(params, ceiling)


def largest_dimension(params: Params, ceiling: int) -> int:
    """Return the largest d whose round fits one circuit of so many gates, all else equal; 0 if none does."""
    d, step = 0, 1 << 20
    while step:
        chunk = ceil((d + step) / params.pack) * params.pack
        try:
            fits = round_gates(replace(params, d=d + step, chunk=chunk)) <= ceiling * MARGIN
        except InputError:  # distances too wide
            fits = False
        if fits:
            d += step
        else:
            step //= 2
    return d
