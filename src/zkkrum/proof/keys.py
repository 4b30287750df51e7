"""The verification keys this installed package stands for: from the shipped table, the cache, or compiled anew.

Must not know bundles. What a bundle brings as its key is compared with these, never used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from zkkrum.errors import ReferenceStringError, ToolFailedError
from zkkrum.proof.build import build, rebuilt_key, verification_key
from zkkrum.proof.circuit import Circuit
from zkkrum.protocol.forecast import MARGIN
from zkkrum.protocol.sizes import points_for
from zkkrum.toolchain import Toolchain, points_available

TABLE = Path(__file__).parent / "keys.json"


@cache
def key_table() -> Mapping[str, str]:
    """Return the shipped table of key hashes of common shapes: `Circuit.key_id` to SHA-256 of the key."""
    table: dict[str, str] = json.loads(TABLE.read_text())
    return table


def expected_key_hash(circuit: Circuit, gates: int, tools: Toolchain, *, rebuild: bool = False) -> str:
    """Return SHA-256 of the verification key of a circuit of this installed package.

    From the shipped table, else from the cache, else compiled; only the last needs nargo and a reference string.

    Parameters
    ----------
    gates
        Forecast of the circuit. The shape is a bundle's claim, so nothing is compiled that is larger than what the
        points at hand, or the smallest download, serve.
    rebuild
        Compile it whatever table and cache say, and take nothing from them.

    Raises
    ------
    ReferenceStringError
        If it must be compiled and there are no points for it.
    ToolFailedError
        If what was rebuilt is not what the shipped table says.
    """
    known = key_table().get(circuit.key_id)
    if known and not rebuild:
        return known
    if gates * MARGIN > max(points_available(), 2**15):
        raise ReferenceStringError(
            f"this bundle claims a circuit of about {gates:,} gates, for which there are no points",
            f"if you expect one that large: `zkkrum setup --points {points_for(gates)}`, then verify again",
        )
    try:
        key = rebuilt_key(circuit, tools) if rebuild else verification_key(build(circuit, tools), tools)
    except ReferenceStringError as error:
        why = "as --rebuild asks" if rebuild else "as this shape is not in the shipped key table"
        raise ReferenceStringError(f"the key must be rebuilt, {why}: {error.message}", error.hint) from error
    found = hashlib.sha256(key).hexdigest()
    if known and found != known:
        raise ToolFailedError(
            f"circuit {circuit.crate!r}: rebuilt here its key has the SHA-256 {found}, the shipped table says {known}",
            "one of the two is wrong: compare with another machine, or install zkkrum and its tools anew",
        )
    return found
