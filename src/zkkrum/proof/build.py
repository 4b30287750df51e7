"""Compilation: a circuit from its rendered sources to artefact, gate count and key, once, cached.

Must not know rounds or what is proved.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from zkkrum.files import write_whole
from zkkrum.proof.circuit import Circuit, write_sources
from zkkrum.toolchain import Toolchain, cache_dir, points_for

# Compilation


@dataclass(frozen=True)
class Built:
    """A compiled circuit in the cache; `folder` is what nargo takes as its program directory."""

    circuit: Circuit
    folder: Path

    @property
    def artifact(self) -> Path:
        """What nargo compiled."""
        return self.folder / "target" / f"{self.circuit.crate}.json"

    @property
    def vk(self) -> Path:
        """The verification key, once `verification_key` has written it."""
        return self.folder / "target" / "vk"


def build(circuit: Circuit, tools: Toolchain) -> Built:
    """Compile a circuit, or find it in the cache. A crash leaves nothing half-built there."""
    home = cache_dir() / "circuits" / circuit.key_id[:32]
    built = Built(circuit, home / circuit.crate)
    if not built.artifact.is_file():
        home.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=home.parent, prefix=".building-"))
        try:
            write_sources(circuit, scratch)
            tools.nargo.compile(scratch / circuit.crate)
            with contextlib.suppress(OSError):  # another process has finished the same circuit first
                scratch.rename(home)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return built


def gates(built: Built, tools: Toolchain) -> int:
    """Return the exact number of gates, counted once."""
    path = built.folder / "target" / "gates"
    if not path.is_file():
        write_whole(path, str(tools.bb.gates(built.artifact)).encode())
    return int(path.read_text())


def verification_key(built: Built, tools: Toolchain) -> bytes:
    """Return the circuit's verification key, computed once; needs the reference string the first time."""
    if not built.vk.is_file():
        crs = tools.reference_string(points_for(gates(built, tools)))
        write_whole(built.vk, tools.bb.write_vk(built.artifact, crs))
    return built.vk.read_bytes()
