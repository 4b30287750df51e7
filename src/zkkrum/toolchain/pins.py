"""The pinned pair of Noir and bb.

Must not know how tools are started.
"""

from __future__ import annotations

import platform
import sys
from typing import NamedTuple

NOIR_VERSION = "1.0.0-beta.26"
BB_VERSION = "5.0.0-nightly.20260710"
"""What ``bb --version`` prints; the npm package that ships it is 5.0.0."""
NODE_MAJOR_MIN = 20


class Pair(NamedTuple):
    """A compiler and a prover that are known to work together; never mixed with other versions."""

    noir: str
    bb: str


PAIR = Pair(NOIR_VERSION, BB_VERSION)

SETUP_HINT = "run `zkkrum setup` with a network connection (or set ZKKRUM_CACHE to a cache that has the tools)"

_PLATFORMS = {
    ("linux", "x86_64"): "amd64-linux",
    ("linux", "aarch64"): "arm64-linux",
    ("darwin", "x86_64"): "amd64-macos",
    ("darwin", "arm64"): "arm64-macos",
}


def bb_platform() -> str | None:
    """Return the folder of the bb binary for this machine, or None where there is none."""
    return _PLATFORMS.get((sys.platform, platform.machine()))
