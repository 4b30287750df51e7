"""Rounds small enough to prove in seconds, on disk and proved; and an adversary who rewrites bundles.

The adversary owns the bundle: whatever it changes, it also fixes the hashes and names in the manifest, so that the
check that was meant to catch it is the one that does.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zkkrum.errors import InputError
from zkkrum.proof.form import MANIFEST, PUBLIC_INPUTS, Form, shard_files
from zkkrum.proof.material import Material, load
from zkkrum.proof.prove import Proved, prove
from zkkrum.proof.statement import PublicChallenge, RoundInputs, ShardInputs, round_words, verdict_words
from zkkrum.proof.verify import Verification, verify
from zkkrum.protocol.commitment import chain, statement
from zkkrum.protocol.field import from_bytes, hex_of, to_bytes, to_hex
from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import Params, Round
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.parties import Terms, open_round
from zkkrum.rounds.roundfile import RoundFile
from zkkrum.rounds.tensors import SINGLE
from zkkrum.rounds.updates import Update, flatten
from zkkrum.toolchain import Toolchain

N, D, B, CHUNK = 5, 60, 12, 21
"""Two full shards and a last of 18 coordinates, whose only word holds 21."""
CLIENTS = ("alice", "bob", "carol", "dave", "eve")
CLIP = 4.0


def vectors(seed: int, n: int = N, d: int = D, outlier: float = 20.0) -> list[np.ndarray[Any, Any]]:
    """Gaussian updates, the last ``outlier`` times as large."""
    rng = np.random.default_rng(seed)
    u = rng.normal(scale=0.2, size=(n, d)).astype(np.float32)
    u[-1] *= np.float32(outlier)
    return list(u)


def updates_directory(
    path: Path, values: Sequence[np.ndarray[Any, Any]], clients: Sequence[str] = CLIENTS
) -> RoundDirectory:
    """Write only ``updates/``."""
    home = RoundDirectory(path)
    home.updates.mkdir(parents=True)
    for client, value in zip(clients, values, strict=True):
        np.save(home.updates / f"{client}.npy", value)
    return home


def round_directory(
    path: Path,
    tools: Toolchain,
    *,
    seed: int = 1,
    chunk: int | None = CHUNK,
    outlier: float = 20.0,
    values: Sequence[np.ndarray[Any, Any]] | None = None,
    clients: Sequence[str] = CLIENTS,
    overrides: Mapping[str, object] | None = None,
) -> RoundDirectory:
    """Write a whole round: parameters, updates, commitments, openings."""
    values = vectors(seed, outlier=outlier) if values is None else values
    home = updates_directory(path, values, clients)
    terms = Terms(b=B, overrides={"chunk": chunk, **(overrides or {})})
    round = open_round(clients, values[0].size, CLIP, terms)
    updates = [flatten({SINGLE: value}, client) for client, value in zip(clients, values, strict=True)]
    Material.commit(round, updates, tools.bb.hash_many, by_clients=True).save(home)
    return home


def material_of(home: RoundDirectory, tools: Toolchain) -> Material:
    return load(home.path, tools.bb.hash_many)


def in_memory(round: Round, values: Sequence[np.ndarray[Any, Any]], tools: Toolchain) -> Material:
    """Commit without a directory."""
    updates = [Update(client, value.astype(np.float64), ()) for client, value in zip(round.roster, values, strict=True)]
    return Material.commit(round, updates, tools.bb.hash_many, by_clients=True)


@dataclass(frozen=True, eq=False)
class Example:
    """A round on disk and its bundle."""

    home: RoundDirectory
    material: Material
    proved: Proved

    @property
    def bundle(self) -> Path:
        return self.proved.bundle

    @property
    def round(self) -> Round:
        return self.proved.round


def example(folder: Path, tools: Toolchain, form: Form, *, seed: int = 1, outlier: float = 20.0) -> Example:
    home = round_directory(
        folder / "round", tools, seed=seed, outlier=outlier, chunk=CHUNK if form is Form.SHARDED else None
    )
    material = material_of(home, tools)
    return Example(home, material, prove(material, folder / "bundle", tools))


class Forgery:
    """A copy of a bundle under an adversary's hands.

    Parameters
    ----------
    source
        The honest bundle.
    path
        Where the copy goes.
    """

    def __init__(self, source: Path, path: Path) -> None:
        shutil.copytree(source, path)
        self.path = path
        self.manifest: dict[str, Any] = json.loads((path / MANIFEST).read_text())

    # Reading

    def data(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def words(self, name: str = PUBLIC_INPUTS) -> list[int]:
        return from_bytes(self.data(name))

    @staticmethod
    def words_of(bundle: Path, name: str) -> list[int]:
        """The field elements in a file of any bundle."""
        return from_bytes((bundle / name).read_bytes())

    @property
    def params(self) -> Params:
        return RoundFile.model_validate(self.manifest["round"]).round().params

    @property
    def round(self) -> Round:
        return RoundFile.model_validate(self.manifest["round"]).round()

    # Changing; `done` makes the manifest fit

    def write(self, name: str, data: bytes) -> None:
        (self.path / name).write_bytes(data)

    def flip(self, name: str, offset: int, mask: int = 1) -> None:
        data = bytearray(self.data(name))
        data[offset] ^= mask
        self.write(name, bytes(data))

    def set_word(self, name: str, index: int, value: int) -> None:
        words = self.words(name)
        words[index] = value
        self.write(name, to_bytes(words))

    def copy(self, source: Path, *names: str) -> None:
        """Take files from another bundle."""
        for name in names:
            shutil.copyfile(source / name, self.path / name)

    def swap(self, one: str, other: str) -> None:
        first, second = self.data(one), self.data(other)
        self.write(one, second)
        self.write(other, first)

    def copy_within(self, sources: Sequence[str], names: Sequence[str]) -> None:
        for source, name in zip(sources, names, strict=True):
            self.write(name, self.data(source))

    def drop(self, name: str) -> None:
        (self.path / name).unlink()
        self.manifest["files"].pop(name, None)

    def shard(self, t: int) -> ShardInputs:
        return ShardInputs.parse(self.data(shard_files(t)[1]), self.params.n)

    # Making a whole story of it

    def fix_hashes(self) -> None:
        for name in self.manifest["files"]:
            self.manifest["files"][name] = hashlib.sha256(self.data(name)).hexdigest()

    def leaves(self) -> list[tuple[int, ...]]:
        """The leaves in the public inputs, by chunk."""
        p = self.params
        if Form.of(p) is Form.ROUND:
            return [RoundInputs.parse(self.data(PUBLIC_INPUTS), p.n).leaves]
        return [self.shard(t).leaves for t in range(p.chunks)]

    def fix_commitments(self) -> None:
        """Make the commitments and A those of the leaves under the claimed context, and the statement theirs."""
        context = self.round.context
        *commitments, aggregate = (chain(context, i, own) for i, own in enumerate(zip(*self.leaves(), strict=True)))
        for entry, commitment in zip(self.manifest["commitments"], commitments, strict=True):
            entry["commitment"] = hex_of(commitment)
        self.manifest["aggregate"] = hex_of(aggregate)
        self.set_word(PUBLIC_INPUTS, 0, statement(context, commitments, aggregate))

    def fix_accepted(self) -> None:
        """Let who is accepted follow from the claimed verdict."""
        said, roster = self.manifest["verdict"], list(self.round.roster)
        flagged, selected = (tuple(sorted(roster.index(c) for c in said[key])) for key in ("flagged", "selected"))
        accepted = Verdict(said["malicious"], flagged, selected).accepted(self.params)
        said["accepted"] = [roster[i] for i in accepted]

    def fix_names(self) -> None:
        """Name the public inputs after what the manifest claims, values from the file."""
        try:
            values, round, nobody = self.words(), self.round, Verdict(False, (), ())
        except (ValueError, InputError):
            return
        named = (
            round_words(round, 0, range(round.params.n + 1), nobody)
            if Form.of(round.params) is Form.ROUND
            else verdict_words(round, 0, PublicChallenge(0, tuple(range(round.params.n - 1)), 0), 0, nobody)
        )
        if len(named) == len(values):
            self.manifest["public_inputs"] = [
                {"name": name, "value": to_hex(value)} for (name, _), value in zip(named, values, strict=True)
            ]

    def done(self, *, fix: bool = True) -> Path:
        """Write the manifest, by default with hashes and names that fit; return the bundle."""
        if fix:
            self.fix_names()
            self.fix_hashes()
        (self.path / MANIFEST).write_text(json.dumps(self.manifest))
        return self.path


def rejected(path: Path, tools: Toolchain, reason: str, **options: Any) -> Verification:
    """Verify, and assert that it is refused for this reason."""
    checked = verify(path, tools, **options)
    assert not checked.ok
    assert reason in checked.reason, checked.reason
    assert not checked.statement
    assert checked.round is None
    return checked


Edit = Callable[[Forgery], None]


def forged(source: Path, path: Path, edit: Edit, *, fix: bool = True) -> Path:
    forgery = Forgery(source, path)
    edit(forgery)
    return forgery.done(fix=fix)


def with_claims(manifest: dict[str, Any], *path: str | int, value: object) -> dict[str, Any]:
    """Return a copy of a manifest with one entry replaced."""
    changed = copy.deepcopy(manifest)
    place: Any = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed
