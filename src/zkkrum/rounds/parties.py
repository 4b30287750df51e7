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
from zkkrum.protocol.params import Params, Round
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

    Raises
    ------
    InputError
        If a bound of the protocol does not hold.
    """
    options = dict(terms.overrides)
    params = Params.of(len(roster), d, terms.b, **options)  # type: ignore[arg-type]
    if not options.get("chunk"):
        params = replace(params, chunk=default_chunk(params, terms.shard_gates))
    return Round(params, clip, tuple(roster), secrets.token_bytes(32), subject, chain_id, contract)


def open_update(round: Round, client: str, update: Update) -> Opening:
    """Quantize an update and draw a fresh salt: what a client will open.

    Raises
    ------
    InputError
        If the client is not in the roster, the update does not have d coordinates, or clip is too small.
    """
    if client not in round.roster:
        raise InputError(f"client {client!r} is not in the roster of this round")
    if update.vector.shape != (round.params.d,):
        raise InputError(f"client {client!r}: expected d = {round.params.d} coordinates, found {update.vector.size}")
    if step(round.clip, round.params.b) < sys.float_info.min:
        raise InputError(f"clip {round.clip} is too small: its quantization step vanishes in binary64")
    return Opening(quantize(update.vector, round.clip, round.params.b), fresh_secret())


def commit_update(round: Round, client: str, update: Update, hash: Hash) -> tuple[Opening, bytes]:
    """Quantize an update and commit to it with a fresh salt: what a client does.

    Raises
    ------
    InputError
        As `open_update`.
    """
    opening = open_update(round, client, update)
    return opening, commit(round, round.roster.index(client), opening, hash)
