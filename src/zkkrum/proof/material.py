"""What a proof is made from: openings, commitments and updates, loaded and checked against each other.

Must not know circuits or proofs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from zkkrum.errors import InputError
from zkkrum.progress import Progress, silent
from zkkrum.protocol.commitment import Opening, chain, fresh_secret, leaves
from zkkrum.protocol.params import Round
from zkkrum.protocol.poseidon2 import Hash
from zkkrum.protocol.quantize import Integers, quantize
from zkkrum.rounds.directory import RoundDirectory, clients_of_updates, load_commitments, save_committed
from zkkrum.rounds.parties import DEFAULT_TERMS, Terms, default_clip, open_round, open_update
from zkkrum.rounds.roundfile import load_round
from zkkrum.rounds.tensors import Layout
from zkkrum.rounds.updates import Update, check_same_layout, layout_hash


@dataclass(frozen=True, eq=False)
class Material:
    """Everything a proof is made from, checked: openings fit their commitments, updates fit the openings.

    Parameters
    ----------
    round, openings
        The round and every client's opening, in roster order.
    leaves
        By client, then chunk: what the commitments are chains of.
    by_clients
        False where the server itself made the commitments.
    updates
        None where none are present.
    """

    round: Round
    openings: Sequence[Opening]
    leaves: Sequence[Sequence[int]]
    by_clients: bool
    updates: Sequence[Update] | None = None

    @classmethod
    def of_openings(
        cls,
        round: Round,
        openings: Sequence[Opening],
        hash: Hash,
        *,
        by_clients: bool,
        updates: Sequence[Update] | None = None,
        progress: Progress = silent,
    ) -> Material:
        """Compute the leaves of openings, in roster order."""
        found = []
        for i, opening in enumerate(openings):
            progress("commitments", i, len(openings))
            found.append(leaves(opening, round.params, hash))
        progress("commitments", len(openings), len(openings))
        return cls(round, openings, found, by_clients, updates)

    @classmethod
    def commit(
        cls,
        round: Round,
        updates: Sequence[Update],
        hash: Hash,
        *,
        by_clients: bool = False,
        progress: Progress = silent,
    ) -> Material:
        """Quantize every client's update and commit to it with a fresh salt, in roster order.

        Raises
        ------
        InputError
            As `zkkrum.rounds.parties.open_update`.
        """
        openings = [open_update(round, update.client, update) for update in updates]
        return cls.of_openings(round, openings, hash, by_clients=by_clients, updates=updates, progress=progress)

    @classmethod
    def commit_values(cls, round: Round, q: Integers, hash: Hash, *, by_clients: bool = False) -> Material:
        """Commit to quantized updates of shape (n, d) with fresh salts, in roster order."""
        openings = [Opening(row, fresh_secret()) for row in q]
        return cls.of_openings(round, openings, hash, by_clients=by_clients)

    @cached_property
    def commitments(self) -> list[bytes]:
        """The commitments that the openings open, in roster order."""
        return [chain(self.round.context, i, own) for i, own in enumerate(self.leaves)]

    @cached_property
    def q(self) -> Integers:
        """All quantized updates, shape (n, d)."""
        return np.stack([opening.q for opening in self.openings])

    @property
    def layout(self) -> Layout | None:
        """How the coordinates are tensors, where updates are present."""
        return self.updates[0].layout if self.updates else None

    def check_published(self, commitments: Sequence[bytes]) -> None:
        """Raise `InputError` naming the first client whose opening is not that of its published commitment."""
        for client, ours, published in zip(self.round.roster, self.commitments, commitments, strict=True):
            if ours != published:
                raise InputError(
                    f"client {client!r}: its opening does not match its published commitment",
                    "ask the client for the right opening; without it the round is void",
                )

    def save(self, home: RoundDirectory) -> None:
        """Write parameters, commitments and openings of the round."""
        save_committed(home, self.round, self.openings, self.commitments)


def load(directory: Path, hash: Hash, terms: Terms = DEFAULT_TERMS, progress: Progress = silent) -> Material:
    """Load a round directory and check all of it.

    Parameters
    ----------
    directory
        With commitments and openings; with updates alone, the server commits for all of them.
    hash
        Poseidon2, as in `zkkrum.commit_update`.
    terms
        On which a round is opened that has no ``round.toml``.
    progress
        Told as openings are checked.

    Raises
    ------
    InputError
        Naming file, client and index, if anything is missing, extra, damaged or does not fit.
    """
    home = RoundDirectory(directory)
    if not home.path.is_dir():
        raise InputError(f"{directory}: no such folder", "`zkkrum simulate` makes a round to try")
    if home.commitments.is_dir() and not home.openings.is_dir():
        raise InputError(
            f"{home.openings}: no such folder, but clients have committed",
            "ask them for their openings; without them the round is void",
        )
    if not home.openings.is_dir():
        return _commit_here(home, hash, terms, progress)
    round = load_round(home.round_file)
    commitments = load_commitments(home.commitments, round)
    openings = home.load_openings(round)
    updates = home.load_updates(round.roster, round.params.d)
    material = Material.of_openings(round, openings, hash, by_clients=True, updates=updates, progress=progress)
    material.check_published(commitments)
    for opening, update in zip(openings, updates or [], strict=False):
        check_same_as_update(round, opening, update)
    return material


def check_same_as_update(round: Round, opening: Opening, update: Update) -> None:
    """Raise `InputError` unless an opening is the quantized update."""
    if update.vector.size != round.params.d:
        raise InputError(
            f"updates: client {update.client!r}: expected {round.params.d} values, found {update.vector.size}"
        )
    expected = quantize(update.vector, round.clip, round.params.b)
    if (different := np.flatnonzero(expected != opening.q)).size:
        k = different[0]
        raise InputError(
            f"client {update.client!r}: its opening is not its update: at index {k} the update quantizes to "
            f"{expected[k]}, the opening has {opening.q[k]}"
        )


def _commit_here(home: RoundDirectory, hash: Hash, terms: Terms, progress: Progress) -> Material:
    """Quantize and commit raw updates on the spot: the commitments are the server's own."""
    if not home.updates.is_dir():
        raise InputError(f"{home.path}: expected openings/ or updates/, found neither")
    stated = load_round(home.round_file) if home.round_file.exists() else None
    roster = stated.roster if stated else clients_of_updates(home.updates)
    updates = home.load_updates(roster, stated.params.d if stated else None)
    assert updates is not None
    check_same_layout(updates)
    round = stated or open_round(
        roster,
        updates[0].vector.size,
        terms.clip or default_clip(updates),
        terms,
        subject=layout_hash(updates[0].layout),
    )
    return Material.commit(round, updates, hash, progress=progress)
