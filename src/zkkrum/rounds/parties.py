"""What the operator and the clients do before the proof: open a round, commit to an update.

Must not know files, circuits or how rounds are proved.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from zkkrum.errors import InputError
from zkkrum.protocol.commitment import Opening, commit, fresh_secret
from zkkrum.protocol.forecast import SHARD_GATES, default_chunk
from zkkrum.protocol.params import BITS, Params, Round
from zkkrum.protocol.poseidon2 import Hash
from zkkrum.protocol.quantize import quantize, step
from zkkrum.rounds.updates import Update

CLIP_IN_RMS = 4.0
"""Default clip, in root mean squares of the median client's update."""


@dataclass(frozen=True)
class Terms:
    """Parameters for updates that come without a ``round.toml``; `None` means the protocol's default."""

    b: int = 12
    clip: float | None = None
    overrides: Mapping[str, object] = field(default_factory=dict)
    """Any of f, m, score, detection, z, gamma, acceptance, chunk of `Params.of`."""
    shard_gates: int = SHARD_GATES


DEFAULT_TERMS = Terms()


def default_clip(updates: Sequence[Update]) -> float:
    """Return four times the root mean square of the median client, a bound that few can move."""
    rms = sorted(float(np.sqrt(np.mean(u.vector**2))) for u in updates)
    return CLIP_IN_RMS * rms[(len(rms) - 1) // 2] or 1.0


def open_round(
    roster: Sequence[str],
    d: int,
    clip: float,
    terms: Terms = DEFAULT_TERMS,
    *,
    subject: bytes = bytes(32),
    chain_id: int = 0,
    contract: bytes = bytes(20),
) -> Round:
    """Return a round with a fresh id and the default chunk; ``chain_id`` and ``contract`` are zero off chain.

    Parameters
    ----------
    roster
        Client ids or addresses, in order; n is their number.
    d
        Values of an update.
    clip
        c: values are clipped to [-c, c], in units of an update's entries.
    terms
        b, rules and bounds; what is not in them is the protocol's default.
    subject
        `zkkrum.subject_of` the model that the round starts from; zero if it is to bind none.

    Raises
    ------
    InputError
        If a bound of the protocol does not hold.
    """
    _require_step(clip, terms.b)
    options = dict(terms.overrides)
    params = Params.of(len(roster), d, terms.b, **options)  # type: ignore[arg-type]
    if not options.get("chunk"):
        params = replace(params, chunk=default_chunk(params, terms.shard_gates))
    return Round(params, clip, tuple(roster), secrets.token_bytes(32), subject, chain_id, contract)


def _require_step(clip: float, b: int) -> None:
    if b in BITS and clip > 0 and step(clip, b) < sys.float_info.min:
        raise InputError(f"clip {clip} is too small: its quantization step vanishes in binary64")


def open_update(round: Round, client: str, update: Update) -> Opening:
    """Quantize an update and draw a fresh salt: what a client will open.

    Raises
    ------
    InputError
        If the client is not in the roster, the update does not have d coordinates, or clip is too small.
    """
    if client not in round.roster:
        known = ", ".join(map(repr, round.roster[:5])) + (", …" if len(round.roster) > 5 else "")
        raise InputError(
            f"client {client!r} is not in the roster of this round",
            f"its {len(round.roster)} clients: {known}; --client says who you are where the file's name does not",
        )
    if update.vector.shape != (round.params.d,):
        raise InputError(f"client {client!r}: expected d = {round.params.d} coordinates, found {update.vector.size}")
    _require_step(round.clip, round.params.b)
    return Opening(quantize(update.vector, round.clip, round.params.b), fresh_secret())


def commit_update(round: Round, client: str, update: Update, hash: Hash) -> tuple[Opening, bytes]:
    """Quantize an update and commit to it with a fresh salt: what a client does.

    Parameters
    ----------
    round
        As it was opened, with the client in its roster.
    client
        Its id.
    update
        From `load_update` or `flatten`: d floats, in the units of ``round.clip``.
    hash
        Poseidon2: `zkkrum.protocol.poseidon2.hash_many`, or a toolchain's ``bb.hash_many`` for long vectors.

    Returns
    -------
    Opening, bytes
        What the server is sent once all have committed, and the 32 bytes to publish.

    Raises
    ------
    InputError
        As `open_update`.
    """
    opening = open_update(round, client, update)
    return opening, commit(round, round.roster.index(client), opening, hash)
