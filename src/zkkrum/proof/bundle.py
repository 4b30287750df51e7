"""A bundle: the files of a proof and the manifest that says what they are.

Must not know how proofs are made or checked, and holds nothing secret: no scores, distances, salts or margins.

A bundle is a folder with ``manifest.json``, ``proof``, ``public_inputs`` and ``vk``. The sharded form adds
``shards/00000.proof``, ``shards/00000.public_inputs``, … and ``vk.shard`` and, where the last shard is shorter,
``vk.last``; its top-level proof is the verdict's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic_core import from_json

from zkkrum.errors import InputError
from zkkrum.files import explained
from zkkrum.proof.form import MANIFEST, SHARDS, Form
from zkkrum.proof.statement import Words
from zkkrum.protocol.field import hex_of, to_hex
from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import Round
from zkkrum.rounds.foreign import entries_inside, open_inside, parse_json, read_all
from zkkrum.rounds.roundfile import FIRST_ONLY, Many, RoundFile, Strict, parse_model
from zkkrum.toolchain import PAIR
from zkkrum.version import __version__

FORMAT = "zkkrum-bundle-2"
_FORMAT = re.compile(r"zkkrum-bundle-([1-9][0-9]{0,3})")

FILE_BYTES_MAX = 64 * 2**20
"""No file of a bundle, or of what is made from one, is larger; `zkkrum.proof.verify` knows their sizes exactly."""
MANIFEST_BYTES = 2 * 2**20
"""No manifest of one circuit is larger, with the longest ids of the largest roster."""
MANIFEST_BYTES_OF_A_FILE = 256
"""What each file in ``shards/`` adds at most: its name, a hash, and what JSON puts around them."""


# The manifest


class NamedWord(Strict):
    """A public input with its name."""

    name: str
    value: str


class CommitmentEntry(Strict):
    """A client's commitment."""

    client: str
    commitment: str


class VerdictEntry(Strict):
    """The claimed verdict, by client id; ``accepted`` follows from the rest and the parameters."""

    malicious: bool
    flagged: Many[str] = Field(strict=False)
    selected: Many[str] = Field(strict=False)
    accepted: Many[str] = Field(strict=False)


class CircuitEntry(Strict):
    """The circuit behind a key file, for readers; a verifier derives all of it itself."""

    crate: str
    key_id: str
    gates: int


class Manifest(Strict):
    """What a bundle claims. A verifier believes none of it."""

    format: Literal["zkkrum-bundle-2"]
    form: Literal["round", "sharded"]
    zkkrum: str
    noir: str
    bb: str
    round: RoundFile
    commitments_by: Literal["clients", "server"]
    commitments: Many[CommitmentEntry] = Field(strict=False)
    aggregate: str
    verdict: VerdictEntry
    public_inputs: Many[NamedWord] = Field(strict=False)
    circuits: Annotated[dict[str, CircuitEntry], FIRST_ONLY]
    files: Annotated[dict[str, str], FIRST_ONLY]
    seconds: Annotated[dict[str, float], FIRST_ONLY] = Field(strict=False)

    @property
    def unverified(self) -> dict[str, Any]:
        """What nothing verifies: the maker's own word on who committed, times, circuits and versions."""
        return {
            "commitments_by": self.commitments_by,
            "seconds": self.seconds,
            "circuits": {name: circuit.model_dump() for name, circuit in self.circuits.items()},
            "versions": {"zkkrum": self.zkkrum, "noir": self.noir, "bb": self.bb},
        }

    @classmethod
    def describe(
        cls,
        round: Round,
        *,
        by_clients: bool,
        commitments: Sequence[bytes],
        aggregate: bytes,
        verdict: Verdict,
        words: Words,
        gates: Mapping[str, int],
        files: Mapping[str, bytes],
        seconds: Mapping[str, float],
    ) -> Manifest:
        """Describe the files of a bundle."""
        names, form = round.roster, Form.of(round.params)
        return cls.model_validate(
            {
                "format": FORMAT,
                "form": form.value,
                "zkkrum": __version__,
                "noir": PAIR.noir,
                "bb": PAIR.bb,
                "round": RoundFile.of(round),
                "commitments_by": "clients" if by_clients else "server",
                "commitments": [
                    {"client": client, "commitment": hex_of(c)} for client, c in zip(names, commitments, strict=True)
                ],
                "aggregate": hex_of(aggregate),
                "verdict": {
                    "malicious": verdict.malicious,
                    "flagged": [names[i] for i in verdict.flagged],
                    "selected": [names[i] for i in verdict.selected],
                    "accepted": [names[i] for i in verdict.accepted(round.params)],
                },
                "public_inputs": [{"name": name, "value": to_hex(value)} for name, value in words],
                "circuits": {
                    name: {"crate": c.crate, "key_id": c.key_id, "gates": gates[name]}
                    for name, c in form.circuits(round.params).items()
                },
                "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
                "seconds": {name: float(f"{value:.3f}") for name, value in seconds.items()},
            }
        )


def write(folder: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Write the files of a bundle into an existing folder."""
    for name, data in {**files, MANIFEST: (manifest.model_dump_json(indent=2) + "\n").encode()}.items():
        with explained(folder / name):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)


def read_file(path: Path, most: int = FILE_BYTES_MAX) -> bytes:
    """Read a file that may come from anybody: a plain one, no link, not too large (`OSError` otherwise)."""
    with open_inside(path.parent, path.name) as file:
        return read_all(file, most)


def is_bundle(path: Path) -> bool:
    """Tell whether a folder is a bundle and nothing more, so that it may be replaced by another."""
    try:
        manifest = read_manifest(path)
    except (InputError, ValueError):
        return False
    found = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()}
    return found <= {MANIFEST, *manifest.files}


def read_manifest(path: Path) -> Manifest:
    """Read the manifest of a bundle.

    Raises
    ------
    InputError
        If there is none, or it is that of an older or newer protocol.
    ValueError
        If it is not a manifest, with what is wrong.
    """
    try:
        most = min(FILE_BYTES_MAX, MANIFEST_BYTES + MANIFEST_BYTES_OF_A_FILE * entries_inside(path, SHARDS))
        data = read_file(path / MANIFEST, most)
    except OSError as error:
        within = path / "bundle"
        hint = f"this is a round; its bundle is {within}" if (within / MANIFEST).is_file() else ""
        raise InputError(f"{path}: not a bundle: {MANIFEST}: {error.strerror}", hint) from error
    try:
        return parse_model(Manifest, data)
    except ValueError:
        _refuse_other_protocols(path, data)
        raise


def _refuse_other_protocols(path: Path, data: bytes) -> None:
    """Raise `InputError` where a manifest that is none of ours names another protocol: then it refutes nothing."""
    found = _protocol_of(data)
    if found == 1:
        raise InputError(
            f"{path}: a bundle of protocol 1, which proves the verdict but not the aggregate; this zkkrum verifies "
            f"protocol 2 ({FORMAT})",
            "verify it with zkkrum 0.1, or have the round proved again: this says nothing about its validity",
        )
    if found and found > 2:
        raise InputError(
            f"{path}: a bundle of protocol {found}, newer than this zkkrum ({__version__}), which verifies protocol 2 "
            f"({FORMAT})",
            "verify it with a newer zkkrum: this says nothing about its validity",
        )


def load_manifest(path: Path) -> Manifest:
    """Read the manifest of a bundle, for readers who verify nothing: `InputError` for whatever is wrong with it."""
    try:
        return read_manifest(path)
    except ValueError as error:
        raise InputError(f"{path}: its manifest is not valid: {error}") from error


def _protocol_of(data: bytes) -> int | None:
    """Return the protocol's version that a manifest names; None where it names none."""
    try:
        from_json(data)  # as the model's own parser reads it, which takes less
        found = parse_json(data)
    except ValueError:
        return None
    match = _FORMAT.fullmatch(str(found.get("format"))) if isinstance(found, dict) else None
    return int(match[1]) if match else None
