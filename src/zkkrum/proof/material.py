"""What a proof is made from: openings, commitments and updates, loaded and checked against each other.

Must not know circuits or proofs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zkkrum.errors import InputError
from zkkrum.progress import Progress, silent
from zkkrum.protocol.commitment import Opening, commit, fresh_secret
from zkkrum.protocol.params import Round
from zkkrum.protocol.poseidon2 import Hash
from zkkrum.protocol.quantize import Integers, quantize
from zkkrum.rounds.directory import RoundDirectory, clients_of_updates, load_commitments, save_committed
from zkkrum.rounds.parties import DEFAULT_TERMS, Terms, commit_update, default_clip, open_round
from zkkrum.rounds.roundfile import load_round
from zkkrum.rounds.updates import Update, check_same_layout, layout_hash

# What is proved


@dataclass(frozen=True, eq=False)
class Material:
    """Everything a proof is made from, checked: openings fit their commitments, updates fit the openings.

    ``by_clients`` is False where the server itself made the commitments; ``updates`` is None where none are present.
    """

    round: Round
    openings: Sequence[Opening]
    commitments: Sequence[int]
    by_clients: bool
    updates: Sequence[Update] | None = None

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
            As `zkkrum.rounds.parties.commit_update`.
        """
        pairs = []
        for i, update in enumerate(updates):
            progress("commitments", i, len(updates))
            pairs.append(commit_update(round, update.client, update, hash))
        progress("commitments", len(updates), len(updates))
        return cls(round, [o for o, _ in pairs], [c for _, c in pairs], by_clients, updates)

    @classmethod
    def commit_values(cls, round: Round, q: Integers, hash: Hash, *, by_clients: bool = False) -> Material:
        """Commit to quantized updates of shape (n, d) with fresh salts, in roster order."""
        openings = [Opening(row, fresh_secret()) for row in q]
        commitments = [commit(round, i, opening, hash) for i, opening in enumerate(openings)]
        return cls(round, openings, commitments, by_clients)

    @property
    def q(self) -> Integers:
        """All quantized updates, shape (n, d)."""
        return np.stack([opening.q for opening in self.openings])

    def save(self, home: RoundDirectory) -> None:
        """Write parameters, commitments and openings of the round."""
        save_committed(home, self.round, self.openings, self.commitments)


def load(directory: Path, hash: Hash, terms: Terms = DEFAULT_TERMS, progress: Progress = silent) -> Material:
    """Load a round directory and check all of it.

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
    for i, (client, opening) in enumerate(zip(round.roster, openings, strict=True)):
        progress("commitments", i, len(openings))
        if commit(round, i, opening, hash) != commitments[i]:
            raise InputError(
                f"client {client!r}: its opening does not match its published commitment",
                "ask the client for the right opening; without it the round is void",
            )
    updates = home.load_updates(round.roster)
    for opening, update in zip(openings, updates or [], strict=False):
        check_same_as_update(round, opening, update)
    return Material(round, openings, commitments, True, updates)


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
    stated = load_round(home.round_file) if home.round_file.is_file() else None
    roster = stated.roster if stated else clients_of_updates(home.updates)
    updates = home.load_updates(roster)
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
