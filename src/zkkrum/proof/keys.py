"""The verification keys this installed package stands for: from the shipped table, the cache, or compiled anew.

Must not know bundles. What a bundle brings as its key is compared with these, never used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from zkkrum.errors import ReferenceStringError
from zkkrum.proof.build import build, verification_key
from zkkrum.proof.circuit import Circuit
from zkkrum.protocol.forecast import MARGIN
from zkkrum.toolchain import Toolchain, points_available, points_for

TABLE = Path(__file__).parent / "keys.json"


@cache
def key_table() -> Mapping[str, str]:
    """Return the shipped table of key hashes of common shapes: `Circuit.key_id` to SHA-256 of the key."""
    table: dict[str, str] = json.loads(TABLE.read_text())
    return table


def expected_key_hash(circuit: Circuit, gates: int, tools: Toolchain) -> str:
    """Return SHA-256 of the verification key of a circuit of this installed package.

    From the shipped table, else from the cache, else compiled; only the last needs a reference string.

    Parameters
    ----------
    gates
        Forecast of the circuit. The shape is a bundle's claim, so nothing is compiled that is larger than what the
        points at hand, or the smallest download, serve.

    Raises
    ------
    ReferenceStringError
        If it must be compiled and there are no points for it.
    """
    if known := key_table().get(circuit.key_id):
        return known
    if gates * MARGIN > max(points_available(), 2**15):
        raise ReferenceStringError(
            f"this bundle claims a circuit of about {gates:,} gates, for which there are no points",
            f"if you expect one that large: `zkkrum setup --points {points_for(gates)}`, then verify again",
        )
    try:
        return hashlib.sha256(verification_key(build(circuit, tools), tools)).hexdigest()
    except ReferenceStringError as error:
        raise ReferenceStringError(
            f"this shape is not in the shipped key table, so its key must be rebuilt: {error.message}", error.hint
        ) from error
