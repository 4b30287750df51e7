"""A round on disk: ``round.toml``, updates, commitments and openings, each checked as it comes in.

Must not know circuits or proofs. Layout of a round directory::

    round.toml                  parameters and roster, public before anybody commits
    updates/<client>.npy        raw floats, what a client keeps (.npy, .npz or .safetensors)
    commitments/<client>.json   public
    openings/<client>.npz       what the server receives: integers q and the salt
    truth.json                  written by `simulate`, never read by `prove`

An opening is a NumPy archive of exactly these arrays:

======== =========================== ==================================================================================
``q``    int8 (b = 8) or int16, (d,) the quantized update, in [-2^(b-1), 2^(b-1)); int32 and int64 are read, too
``salt`` uint8, (32,)                the salt of the commitment, a field element, big-endian
======== =========================== ==================================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from zkkrum.errors import InputError
from zkkrum.files import write_whole
from zkkrum.protocol.commitment import Opening
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.params import Params, Round
from zkkrum.rounds.archive import Expected, read_archive, secret_bytes, secret_of, write_archive
from zkkrum.rounds.foreign import read_plain
from zkkrum.rounds.roundfile import Many, Strict, load_json, parse_bytes, parse_model, save_round
from zkkrum.rounds.tensors import SUFFIXES
from zkkrum.rounds.updates import Update, load_update, of_size, read_update_layout, same_layout

COMMITMENT_BYTES_MAX = 2**14
"""A commitment with the longest id takes a tenth of it."""
TRUTH_BYTES_MAX = 2**20


class CommitmentFile(Strict):
    """What a client publishes."""

    client: str
    context: str
    commitment: str


@dataclass(frozen=True)
class RoundDirectory:
    """Paths of a round directory and what is in them."""

    path: Path

    @property
    def round_file(self) -> Path:
        """``round.toml``."""
        return self.path / "round.toml"

    @property
    def updates(self) -> Path:
        """Raw updates."""
        return self.path / "updates"

    @property
    def commitments(self) -> Path:
        """Published commitments."""
        return self.path / "commitments"

    @property
    def openings(self) -> Path:
        """Openings."""
        return self.path / "openings"

    @property
    def truth(self) -> Path:
        """Who is Byzantine; for tests and reports."""
        return self.path / "truth.json"

    def save_commitment(self, round: Round, client: str, opening: Opening, commitment: bytes) -> None:
        """Write what a client publishes and what it sends to the server, once.

        Raises
        ------
        InputError
            If the client has committed here before: a second commitment would overwrite its only salt.
        """
        published, sent = self.require_new(client)
        save_opening(sent, opening, round.params.b)
        save_commitment(published, client, round.context, commitment)

    def require_new(self, client: str) -> tuple[Path, Path]:
        """Return where a client's commitment and opening go; `InputError` if one of them is there already."""
        published, sent = self.commitments / f"{client}.json", self.openings / f"{client}.npz"
        for path in (published, sent):
            if path.exists():
                raise InputError(
                    f"{path}: {client!r} has already committed here",
                    "a client commits once to a round; a new attempt needs a new round id",
                )
        return published, sent

    def load_updates(self, roster: Sequence[str], d: int | None = None) -> list[Update] | None:
        """Load every client's raw update in roster order, or None where there is no ``updates/``.

        Parameters
        ----------
        d
            Coordinates that each must have; where they are not known, all must have the same tensors. Either is
            looked at before any values are read: one client's file may claim gigabytes.
        """
        if not self.updates.is_dir():
            return None
        files = _one_file_a_client(self.updates, SUFFIXES, roster)
        if d is None:
            layout = same_layout({client: read_update_layout(files[client], client) for client in roster})
            d = sum(spec.size for spec in layout)
        return [load_update(files[client], client, of_size(d)) for client in roster]

    def load_openings(self, round: Round) -> list[Opening]:
        """Load every client's opening in roster order, checked against d and b."""
        files = _one_file_a_client(self.openings, (".npz",), round.roster)
        return [load_opening(files[client], round.params, f"client {client!r}") for client in round.roster]


def save_committed(
    home: RoundDirectory, round: Round, openings: Sequence[Opening], commitments: Sequence[bytes]
) -> None:
    """Write ``round.toml`` and every client's commitment and opening; nothing, if one client has committed there."""
    for client in round.roster:
        home.require_new(client)
    save_round(home.round_file, round)
    for client, opening, commitment in zip(round.roster, openings, commitments, strict=True):
        home.save_commitment(round, client, opening, commitment)


def clients_of_updates(folder: Path) -> tuple[str, ...]:
    """Return the clients that a folder of updates names, in ascending order."""
    names = sorted(path.stem for path in _visible(folder) if path.suffix in SUFFIXES)
    if not names:
        raise InputError(f"{folder}: expected updates ({', '.join(SUFFIXES)}), found none")
    return tuple(names)


def _visible(folder: Path) -> list[Path]:
    """List a folder without what file managers and operating systems leave there; no id begins with a dot."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _one_file_a_client(folder: Path, suffixes: Sequence[str], roster: Sequence[str]) -> dict[str, Path]:
    """Map each client to its only file; a missing, repeated or extra client is an error."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, Path] = {}
    for path in _visible(folder):
        if path.suffix not in suffixes:
            raise InputError(f"{path}: expected only files {', '.join(suffixes)} here")
        if path.stem in found:
            raise InputError(f"{folder}: client {path.stem!r} has two files, {found[path.stem].name} and {path.name}")
        found[path.stem] = path
    _complete(folder, list(found), roster)
    return found


def _complete(folder: Path, found: Sequence[str], roster: Sequence[str]) -> None:
    if missing := [client for client in roster if client not in found]:
        hint = (
            f"expected here what all {len(roster)} clients of the roster sent: wait for it, or ask; a client that "
            "never delivers makes the round void: reopen it under a new round id and roster"
        )
        raise InputError(
            f"{folder}: nothing from client {missing[0]!r} ({len(missing)} of {len(roster)} missing)", hint
        )
    if extra := [client for client in found if client not in roster]:
        raise InputError(
            f"{folder}: client {extra[0]!r} is not in the roster", "a round has exactly its roster's files"
        )


def load_opening(path: Path, params: Params, who: str = "") -> Opening:
    """Read an opening; raises `InputError` naming the file, and ``who`` sent it."""
    integers = Expected(("int8", "int16", "int32", "int64"), (params.d,))
    arrays = read_archive(path, "an opening", {"q": integers, "salt": Expected(("uint8",), (32,))}, who)
    opening = Opening(arrays["q"].astype(np.int64), secret_of(arrays["salt"]))
    opening.check(params, f"{path}: {who}" if who else str(path))
    return opening


def save_opening(path: Path, opening: Opening, b: int) -> None:
    """Write an opening, readable by its owner alone."""
    q = opening.q.astype(np.int8 if b == 8 else np.int16)
    write_archive(path, {"q": q, "salt": secret_bytes(opening.salt)}, mode=0o600)


def save_commitment(path: Path, client: str, context: bytes, commitment: bytes) -> None:
    """Write a published commitment."""
    file = CommitmentFile(client=client, context=hex_of(context), commitment=hex_of(commitment))
    write_whole(path, (file.model_dump_json(indent=2) + "\n").encode())


def read_commitments(folder: Path, roster: Sequence[str]) -> list[tuple[bytes, bytes]]:
    """Read published commitments by client id, in roster order: (context, commitment) each.

    Raises
    ------
    InputError
        If a client is missing, extra or repeated, or something is not canonical.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found: dict[str, tuple[Path, bytes, bytes]] = {}
    paths = [path for path in _visible(folder) if path.suffix == ".json"]
    if len(paths) > 2 * len(roster):
        raise InputError(f"{folder}: expected {len(roster)} commitments, found {len(paths)} files")
    for path in paths:
        try:
            file = parse_model(CommitmentFile, read_plain(path, COMMITMENT_BYTES_MAX))
            context = parse_bytes(file.context, 32, "context")
            value = parse_bytes(file.commitment, 32, "commitment")
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        except (ValueError, InputError) as error:
            raise InputError(f"{path}: not a commitment: {error}") from error
        if file.client in found:
            raise InputError(
                f"{folder}: client {file.client!r} commits twice: {found[file.client][0].name}, {path.name}"
            )
        found[file.client] = (path, context, value)
    _complete(folder, list(found), roster)
    return [found[client][1:] for client in roster]


def load_commitments(folder: Path, round: Round) -> list[bytes]:
    """Read the commitments published for a round, in roster order.

    Raises
    ------
    InputError
        As `read_commitments`, or if one was made for another context.
    """
    published = read_commitments(folder, round.roster)
    for client, (context, _) in zip(round.roster, published, strict=True):
        if context != round.context:
            raise InputError(
                f"{folder}: client {client!r} committed under another context (another round, roster or parameters)"
            )
    return [commitment for _, commitment in published]


class Truth(Strict):
    """``truth.json``: who attacks in a simulated round, how, from which seed; ``prove`` never reads it."""

    byzantine: Many[str] = Field(strict=False)
    attack: str
    strength: float | None
    seed: int


def read_truth(home: RoundDirectory) -> Truth:
    """Read ``truth.json`` of a simulated round (`InputError` where there is none)."""
    return load_json(Truth, home.truth, TRUTH_BYTES_MAX)
