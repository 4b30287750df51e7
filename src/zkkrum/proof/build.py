"""Compilation: a circuit from its rendered sources to artefact, gate count and key, once, cached.

Must not know rounds or what is proved. Beside everything in the cache stands what it was made from, by SHA-256; what
does not fit is made again, never believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zkkrum.files import ScratchFolder, sync_tree
from zkkrum.proof.circuit import Circuit, write_sources
from zkkrum.protocol.sizes import points_for
from zkkrum.rounds.foreign import parse_json
from zkkrum.toolchain import Toolchain, cache, points_digest

FOLDER = "compiled"


@dataclass(frozen=True)
class Built:
    """A compiled circuit; `folder` is what nargo takes as its program directory."""

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
    """Compile a circuit, or find it in the cache. A crash leaves nothing half-built there.

    Raises
    ------
    ResourceError
        If the cache cannot be written or must not be trusted.
    """
    name = circuit.key_id[:32]
    for home in cache.find(FOLDER, name):
        built = Built(circuit, home / circuit.crate)
        cache.trusted_tree(home)
        if _is_sound(built) and (_key(built) is not None or os.access(built.artifact.parent, os.W_OK)):
            return built
    home = cache.place(FOLDER, name)
    with cache.explained(home), ScratchFolder(home.parent, cache.BUILDING) as folder:
        made = Built(circuit, _compile(circuit, Path(folder) / "made", tools).folder)
        cache.share(made.folder.parent)
        sync_tree(made.folder.parent)
        if home.exists() and not _is_sound(Built(circuit, home / circuit.crate)):
            with contextlib.suppress(OSError):  # another process has put it right
                home.rename(Path(folder) / "damaged")
        with contextlib.suppress(OSError):  # another process has finished the same circuit first
            made.folder.parent.rename(home)
    return Built(circuit, home / circuit.crate)


def _compile(circuit: Circuit, home: Path, tools: Toolchain) -> Built:
    write_sources(circuit, home)
    built = Built(circuit, home / circuit.crate)
    tools.nargo.compile(built.folder)
    _note(built, "artifact", {"sha256": _sha256(built.artifact)})
    return built


def gates(built: Built, tools: Toolchain) -> int:
    """Return the exact number of gates, counted once."""
    noted = _noted(built, "gates")
    if noted.get("artifact") == _artifact_digest(built) and isinstance(noted.get("gates"), int):
        return int(noted["gates"])
    count = tools.bb.gates(built.artifact)
    _note(built, "gates", {"gates": count, "artifact": _artifact_digest(built)})
    return count


def verification_key(built: Built, tools: Toolchain) -> bytes:
    """Return the circuit's verification key, computed once; needs the reference string the first time."""
    key = _key(built)
    if key is None:
        points = points_for(gates(built, tools))
        key = tools.bb.write_vk(built.artifact, tools.reference_string(points))
        _note(built, "key", {**_made_from(built, points), "sha256": hashlib.sha256(key).hexdigest()})
        cache.write(built.vk, key)
    return key


def rebuilt_key(circuit: Circuit, tools: Toolchain) -> bytes:
    """Return the verification key of a circuit, compiled anew: nothing is taken from the cache or left there."""
    with ScratchFolder() as folder:
        built = _compile(circuit, Path(folder) / "made", tools)
        points = points_for(tools.bb.gates(built.artifact))
        return tools.bb.write_vk(built.artifact, tools.reference_string(points, remember=False))


# What stands beside the files: ``target/<what>.made.json``


def _note(built: Built, what: str, content: Mapping[str, object]) -> None:
    cache.write(built.folder / "target" / f"{what}.made.json", json.dumps(content).encode())


def _noted(built: Built, what: str) -> dict[str, Any]:
    try:
        content = parse_json((built.folder / "target" / f"{what}.made.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_sound(built: Built) -> bool:
    """Tell whether the artefact is whole, and the one that was compiled here."""
    try:
        folders = any(path.is_dir() for path in (built.vk, *built.vk.parent.glob("*.json")))
        return not folders and bool(_noted(built, "artifact").get("sha256") == _artifact_digest(built))
    except OSError:
        return False


def _key(built: Built) -> bytes | None:
    """Return the cached key if it is whole and was made from this artefact and the real reference string."""
    noted, counted = _noted(built, "key"), _noted(built, "gates")
    try:
        key = built.vk.read_bytes()
        made_from = _made_from(built, points_for(int(counted["gates"])))
    except (OSError, KeyError, ValueError, TypeError):
        return None
    return key if noted == {**made_from, "sha256": hashlib.sha256(key).hexdigest()} else None


def _made_from(built: Built, points: int) -> dict[str, object]:
    return {"artifact": _artifact_digest(built), "points": points, "points_sha256": points_digest(points)}


_digests: dict[tuple[Path, int, int, int], str] = {}
"""SHA-256 of artefacts by path, size, time and inode: shards ask for the same one again and again."""


def _artifact_digest(built: Built) -> str:
    status = built.artifact.stat()
    stamp = (built.artifact, status.st_size, status.st_mtime_ns, status.st_ino)
    if stamp not in _digests:
        _digests[stamp] = _sha256(built.artifact)
    return _digests[stamp]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
