"""The tools zkkrum drives (nargo, bb, solc, Node.js) and the reference string: the only processes it starts.

Must not know Krum, commitments or bundles. Everything above uses the names exported here and cannot tell
whether a native nargo answered or the packages from npm.
"""

from __future__ import annotations

from zkkrum.toolchain.bb import KEY_BYTES, Bb, Proof, rows_of
from zkkrum.toolchain.cache import cache_dir
from zkkrum.toolchain.crs import points_available, points_digest
from zkkrum.toolchain.doctor import Check, doctor, first_broken
from zkkrum.toolchain.locate import Toolchain
from zkkrum.toolchain.nargo import Nargo
from zkkrum.toolchain.pins import BB_VERSION, NOIR_VERSION, PAIR

__all__ = [
    "BB_VERSION",
    "KEY_BYTES",
    "NOIR_VERSION",
    "PAIR",
    "Bb",
    "Check",
    "Nargo",
    "Proof",
    "Toolchain",
    "cache_dir",
    "doctor",
    "first_broken",
    "points_available",
    "points_digest",
    "rows_of",
]
