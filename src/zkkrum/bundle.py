"""A bundle: the files of a proof, what each public input is called, and the manifest that says so.

Must not know how proofs are made or checked, and holds nothing secret: no scores, distances, salts or margins.

A bundle is a folder with ``manifest.json``, ``proof``, ``public_inputs`` and ``vk``. The sharded form adds
``shards/00000.proof``, ``shards/00000.public_inputs``, … and ``vk.shard`` and, where the last shard is shorter,
``vk.last``;
its top-level proof is the verdict's.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from zkkrum import __version__
from zkkrum.circuit import Circuit, round_circuit, shard_circuit, verdict_circuit
from zkkrum.errors import InputError
from zkkrum.field import from_bytes, to_bytes, to_hex
from zkkrum.files import explained
from zkkrum.krum import Verdict
from zkkrum.params import Params, Round
from zkkrum.rounds import RoundFile, Strict, first_problem
from zkkrum.toolchain import PAIR

FORMAT = "zkkrum-bundle-1"
ROUND, SHARDED = "round", "sharded"
MANIFEST, PROOF, PUBLIC_INPUTS, VK = "manifest.json", "proof", "public_inputs", "vk"

FILE_BYTES_MAX = 64 * 2**20
"""No file of a bundle is larger; the manifest of 10^5 shards has some 30 MB."""

Words = list[tuple[str, int]]
"""Named field elements, in order."""


# The public inputs of each circuit, in the protocol's order


def round_words(round: Round, commitments: Sequence[int], verdict: Verdict) -> Words:
    """Return the public inputs of the `round` circuit."""
    return [("context", round.context), *_commitment_words(round, commitments), *_output_words(verdict)]


def verdict_words(round: Round, commitments: Sequence[int], rho: int, last_link: int, verdict: Verdict) -> Words:
    """Return the public inputs of the `verdict` circuit."""
    head = [("context", round.context), *_commitment_words(round, commitments)]
    return [*head, ("rho", rho), ("chunks", round.params.chunks), ("link", last_link), *_output_words(verdict)]


def shard_words(round: Round, t: int, rho: int, leaves: Sequence[int], before: int, after: int) -> Words:
    """Return the public inputs of the `shard` circuit of chunk t."""
    named = [(f"leaf[{client}]", leaf) for client, leaf in zip(round.roster, leaves, strict=True)]
    head = [("context", round.context), ("t", t), ("rho", rho)]
    return [*head, *named, ("link_before", before), ("link_after", after)]


def _commitment_words(round: Round, commitments: Sequence[int]) -> Words:
    return [(f"commitment[{client}]", c) for client, c in zip(round.roster, commitments, strict=True)]


def _output_words(verdict: Verdict) -> Words:
    return list(zip(("malicious", "flagged", "selected"), verdict.public_words(), strict=True))


def encode(words: Words) -> bytes:
    """Return public inputs as bb reads them: 32-byte big-endian words."""
    return to_bytes(value for _, value in words)


@dataclass(frozen=True)
class ShardInputs:
    """What the public inputs of a shard say, still to be believed by nobody."""

    t: int
    rho: int
    leaves: tuple[int, ...]
    before: int
    after: int

    @classmethod
    def parse(cls, data: bytes, n: int) -> ShardInputs:
        """Split the public inputs of a shard of n clients; `ValueError` for another size."""
        words = from_bytes(data)
        if len(words) != n + 5:
            raise ValueError(f"expected {n + 5} words, found {len(words)}")
        return cls(words[1], words[2], tuple(words[3:-2]), words[-2], words[-1])


# Which circuits and files a statement is made of


def circuits(params: Params, form: str) -> dict[str, Circuit]:
    """Return the circuit of each verification key file of a bundle of this form."""
    if form == ROUND:
        return {VK: round_circuit(params)}
    found = {VK: verdict_circuit(params), "vk.shard": shard_circuit(params, len(params.chunk_range(0)))}
    if (last := len(params.chunk_range(params.chunks - 1))) != len(params.chunk_range(0)):
        found["vk.last"] = shard_circuit(params, last)
    return found


def shard_key(params: Params, t: int) -> str:
    """Return the name of the key file that shard t belongs to."""
    return "vk.shard" if len(params.chunk_range(t)) == len(params.chunk_range(0)) else "vk.last"


def shard_files(t: int) -> tuple[str, str]:
    """Return the names of a shard's proof and public inputs."""
    return f"shards/{t:05d}.proof", f"shards/{t:05d}.public_inputs"


def expected_files(params: Params, form: str) -> list[str]:
    """Return every file of a bundle of this form but the manifest."""
    names = [PROOF, PUBLIC_INPUTS, *circuits(params, form)]
    if form == SHARDED:
        names += [name for t in range(params.chunks) for name in shard_files(t)]
    return names


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
    """The claimed verdict, by client id."""

    malicious: bool
    flagged: tuple[str, ...] = Field(strict=False)
    selected: tuple[str, ...] = Field(strict=False)


class CircuitEntry(Strict):
    """The circuit behind a key file, for readers; a verifier derives all of it itself."""

    crate: str
    key_id: str
    gates: int


class Manifest(Strict):
    """What a bundle claims. A verifier believes none of it."""

    format: Literal["zkkrum-bundle-1"]
    form: Literal["round", "sharded"]
    zkkrum: str
    noir: str
    bb: str
    round: RoundFile
    commitments_by: Literal["clients", "server"]
    commitments: tuple[CommitmentEntry, ...] = Field(strict=False)
    verdict: VerdictEntry
    public_inputs: tuple[NamedWord, ...] = Field(strict=False)
    circuits: dict[str, CircuitEntry]
    files: dict[str, str]
    seconds: dict[str, float] = Field(strict=False)

    @classmethod
    def describe(
        cls,
        round: Round,
        *,
        form: str,
        by_clients: bool,
        commitments: Sequence[int],
        verdict: Verdict,
        words: Words,
        gates: Mapping[str, int],
        files: Mapping[str, bytes],
        seconds: Mapping[str, float],
    ) -> Manifest:
        """Describe the files of a bundle."""
        names = round.roster
        return cls.model_validate(
            {
                "format": FORMAT,
                "form": form,
                "zkkrum": __version__,
                "noir": PAIR.noir,
                "bb": PAIR.bb,
                "round": RoundFile.of(round),
                "commitments_by": "clients" if by_clients else "server",
                "commitments": [
                    {"client": client, "commitment": to_hex(c)} for client, c in zip(names, commitments, strict=True)
                ],
                "verdict": {
                    "malicious": verdict.malicious,
                    "flagged": [names[i] for i in verdict.flagged],
                    "selected": [names[i] for i in verdict.selected],
                },
                "public_inputs": [{"name": name, "value": to_hex(value)} for name, value in words],
                "circuits": {
                    name: {"crate": c.crate, "key_id": c.key_id, "gates": gates[name]}
                    for name, c in circuits(round.params, form).items()
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


def read_file(path: Path) -> bytes:
    """Read a file that may come from anybody: a plain one, of a size a bundle's can have (`OSError` otherwise)."""
    if not path.is_file():
        raise OSError(errno.ENOENT, "Not a plain file" if path.exists() else os.strerror(errno.ENOENT))
    if path.stat().st_size > FILE_BYTES_MAX:
        raise OSError(errno.EFBIG, "Too large for a file of a bundle")
    return path.read_bytes()


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
        If there is none.
    ValueError
        If it is not a manifest, with what is wrong.
    """
    try:
        data = read_file(path / MANIFEST)
    except OSError as error:
        raise InputError(f"{path}: not a bundle: {MANIFEST}: {error.strerror}") from error
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error
