"""Sizes that the proof system fixes: points of the reference string a circuit takes, bytes of a proof.

Must not know tools: this is for before there are any, and tests hold it against them.
"""

from __future__ import annotations

RESERVED_ROWS = 9
"""Rows bb adds to a circuit for zero knowledge (measured: 2^15 points serve 32,759 gates, not 32,767)."""
POINTS_MIN = 256


def points_for(gates: int) -> int:
    """Return the points bb wants for a circuit of that many gates: a power of two.

    >>> points_for(32_759), points_for(32_760)
    (32768, 65536)
    """
    return int(max(POINTS_MIN, 1 << (gates + RESERVED_ROWS - 1).bit_length()))


def gates_for(points: int) -> int:
    """Return the largest circuit that many points serve, in gates.

    >>> gates_for(32_769)
    32759
    """
    return (1 << points.bit_length() - 1) - RESERVED_ROWS if points >= POINTS_MIN else 0


def proof_bytes(points: int) -> int:
    """Return the size of one proof for a circuit of that many rows, a power of two (zero-knowledge UltraHonk)."""
    return 2624 + 384 * (points.bit_length() - 1)
