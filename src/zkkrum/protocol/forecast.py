"""Gate counts forecast from the parameters alone, and what follows: one circuit or shards, which chunk, what it costs.

Must not know tools: this is for before anything runs. The coefficients say what bb's arithmetization charges; on
the grid of ``scripts/gate_budget.py`` the forecast is within half a percent of ``bb gates``.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

from zkkrum.errors import InputError
from zkkrum.protocol.field import PACKABLE_BITS
from zkkrum.protocol.params import Detection, Params, Score, whole_chunk
from zkkrum.protocol.widths import LOOKUP_BITS, Widths, range_gates, table_gates, value_tables

SHARD_GATES = 32_700
"""Default ceiling of a circuit: a reference string of 2^15 points proves up to 32,759 gates."""
MARGIN = 0.997
"""Forecasts may be short by 0.3 %; a default chunk keeps that distance from the ceiling."""
PERMUTATION = 73
FORM = 1
PACKING_PER_VALUE = 1 / 3
PACKING_PER_WORD = 1.07
SUM_PER_WORD = 3.6
SUM_PER_VALUE = 0.2


def _values(params: Params, k: int) -> float:
    """Gates of a chunk of k coordinates: range, packing, leaves, form, and the aggregate's words."""
    words, sums = ceil(k / params.pack), ceil(k / params.group)
    each = PERMUTATION * ceil((words + 1) / 3) + PACKING_PER_WORD * words
    each += k * (FORM + PACKING_PER_VALUE + (1.25 if params.b <= LOOKUP_BITS else 1.5))
    return params.n * each + PERMUTATION * ceil((sums + 1) / 3) + SUM_PER_WORD * sums + SUM_PER_VALUE * k


def _rules(params: Params) -> float:
    """Gates of everything that follows the values: claims, ρ, s, x, scores, selection, detection."""
    p, w = params, Widths.of(params)
    words = ceil(p.claims / (PACKABLE_BITS // w.distance)) + 2
    total = PERMUTATION * (ceil(words / 3) + ceil((p.n - 1) / 3) + 1) + 1.45 * p.claims + 3.6 * p.n + 39
    rows = p.n * (p.n - 1)
    signs = p.n + (rows if p.score is Score.KRUM_2017 else 0)
    total += 1.04 * rows if p.score is Score.KRUM_2017 else 0.38 * rows
    if p.detection is Detection.MAD:
        signs += 2 * p.n
    total += 16 * p.n
    if w.limb == LOOKUP_BITS:  # a short last limb saves less than `range_gates` says, by which limbs are chosen
        last = w.distance % w.limb
        total += {0: 0.0, 1: 0.1}.get(last, 0.2) * p.claims
        total += 0.2 * rows if last and p.score is Score.KRUM_2017 else 0
        total += 2 * p.n if p.detection is Detection.BRACKETS else 0
    return total + 2 * signs + sum(count * range_gates(bits, w.limb) for count, bits in w.checks(p))


def round_gates(params: Params) -> int:
    """Forecast the `round` circuit."""
    tables = Widths.of(params).tables(params) | value_tables(params.b)
    return round(_values(params, params.d) + _rules(params) + table_gates(tables))


def shard_gates(params: Params, coordinates: int) -> int:
    """Forecast the `shard` circuit of so many coordinates."""
    return round(_values(params, coordinates) + 2 * PERMUTATION + 30 + table_gates(value_tables(params.b)))


def verdict_gates(params: Params) -> int:
    """Forecast the `verdict` circuit."""
    return round(_rules(params) + PERMUTATION + table_gates(Widths.of(params).tables(params)))


def ceiling_of(points: int) -> int:
    """Return the largest circuit that so many points (a power of two) should be filled with."""
    return SHARD_GATES if points == 2**15 else int(points * MARGIN)


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
    """Return the protocol's default chunk: all of d where the round fits one circuit, else the largest of a shard.

    Where one shard could hold all of d, and only with the rules it is too much, the chunk is half of that: two shards
    and a verdict. A verdict too large for the ceiling makes one circuit of all, which then needs no more points.

    Examples
    --------
    >>> [default_chunk(Params.of(n=n, d=100)) for n in (10, 49, 60)]
    [105, 63, 105]
    """
    whole = replace(params, chunk=whole_chunk(params.d, params.pack))
    if round_gates(whole) <= ceiling * MARGIN:
        return whole.chunk
    if (chunk := largest_chunk(params, ceiling)) < params.d:
        return chunk
    half = whole_chunk(ceil(params.d / 2), params.pack)
    return half if half < params.d and verdict_gates(whole) <= ceiling * MARGIN else whole.chunk


def largest_dimension(params: Params, ceiling: int) -> int:
    """Return the largest d whose round fits one circuit of so many gates, all else equal; 0 if none does."""
    d, step = 0, 1 << 20
    while step:
        chunk = whole_chunk(d + step, params.pack)
        try:
            fits = round_gates(replace(params, d=d + step, chunk=chunk)) <= ceiling * MARGIN
        except InputError:  # distances too wide
            fits = False
        if fits:
            d += step
        else:
            step //= 2
    return d
