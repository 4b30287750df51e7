"""Past rounds as their server has them: quantized updates from a round directory, with or without proofs.

Must not know proofs. Commitments are not checked here: these are the server's own files, read to learn from them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from zkkrum.errors import InputError
from zkkrum.protocol.params import Round
from zkkrum.protocol.quantize import Integers, quantize
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.roundfile import load_round
from zkkrum.rounds.updates import check_same_layout


def load_past_round(path: Path) -> tuple[Round, Integers]:
    """Read a round: its openings, or where there are none its raw updates, quantized.

    Returns
    -------
    round
        From ``round.toml``.
    q
        Shape (n, d), in roster order.

    Raises
    ------
    InputError
        Naming file and client, if anything is missing or damaged.
    """
    home = RoundDirectory(path)
    round = load_round(home.round_file)
    if home.openings.is_dir():
        return round, np.stack([opening.q for opening in home.load_openings(round)])
    updates = home.load_updates(round.roster, round.params.d)
    if updates is None:
        raise InputError(
            f"{path}: expected openings/ or updates/, found neither",
            f"without them only the proof is left: {path / 'bundle'}" if (path / "bundle").is_dir() else "",
        )
    check_same_layout(updates)
    return round, quantize(np.stack([u.vector for u in updates]), round.clip, round.params.b)
