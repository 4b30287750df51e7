"""The tools zkkrum drives (nargo, bb, solc, Node.js) and the reference string: the only processes it starts.

Must not know Krum, commitments or bundles. Everything above uses the names exported here and cannot tell
whether a native nargo answered or the packages from npm.
"""

from __future__ import annotations

from pathlib import Path

from zkkrum.toolchain.bb import KEY_BYTES, Bb, Proof, rows_of
from zkkrum.toolchain.cache import cache_dir
from zkkrum.toolchain.crs import look_up, points_available, points_digest
from zkkrum.toolchain.doctor import Check, doctor, first_broken
from zkkrum.toolchain.locate import Toolchain
from zkkrum.toolchain.nargo import Nargo
from zkkrum.toolchain.pins import BB_VERSION, NOIR_VERSION, PAIR, Pair

__all__ = [
    "BB_VERSION",
    "KEY_BYTES",
    "NOIR_VERSION",
    "PAIR",
    "Bb",
    "Check",
    "Nargo",
    "Pair",
    "Proof",
    "Toolchain",
    "cache_dir",
    "doctor",
    "first_broken",
    "points_available",
    "points_digest",
    "reference_string",
    "rows_of",
]


def reference_string(points: int) -> Path:
    """Return a folder with at least ``points`` points; see `Toolchain.reference_string`, which reuses the tools."""
    if folder := look_up(points):
        return folder
    with Toolchain.find() as tools:
        return tools.reference_string(points)
