"""Making rounds to try: honest and Byzantine clients, their updates, commitments and openings, on disk.

Must not know how rounds are proved. Updates come from a seed, salts never do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zkkrum.errors import InputError
from zkkrum.files import refuse_full, whole_folder, write_whole
from zkkrum.learning.attacks import attacked_round, honest_updates
from zkkrum.protocol.params import Round
from zkkrum.protocol.poseidon2 import Hash
from zkkrum.rounds.directory import RoundDirectory, Truth
from zkkrum.rounds.parties import DEFAULT_TERMS, Terms, commit_update, default_clip, open_round
from zkkrum.rounds.roundfile import save_round
from zkkrum.rounds.tensors import SUFFIXES, Tensors
from zkkrum.rounds.updates import check_same_layout, flatten, layout_hash, save_update


def client_names(n: int) -> tuple[str, ...]:
    """Return ``client-00``, ``client-01``, …"""
    return tuple(f"client-{i:0{max(2, len(str(n - 1)))}d}" for i in range(n))


def truth_of(n: int, attackers: Sequence[int], attack: str, strength: float | None, seed: int) -> Truth:
    """Return what ``truth.json`` says of a simulated round of n clients, given the attackers' positions."""
    names = client_names(n)
    return Truth(byzantine=tuple(names[i] for i in attackers), attack=attack, strength=strength, seed=seed)


def simulated_updates(
    n: int, d: int, byzantine: int, attack: str, strength: float | None, heterogeneity: float, seed: int
) -> tuple[list[Tensors], tuple[int, ...]]:
    """Return one float32 vector a client as tensors, and the attackers' positions.

    Parameters
    ----------
    heterogeneity
        σ of the clients' log-normal norms; see `honest_updates`.

    Raises
    ------
    InputError
        For an unknown attack or a number of attackers outside [0, n).
    """
    rng = np.random.default_rng(seed)
    sent, attackers = attacked_round(honest_updates(n, d, heterogeneity, rng), byzantine, attack, rng, strength)
    return [{"update": row.astype(np.float32)} for row in sent], attackers


def write_round(
    out: Path, tensors: Sequence[Tensors], truth: Truth, hash: Hash, terms: Terms = DEFAULT_TERMS, suffix: str = ".npy"
) -> Round:
    """Let every client quantize and commit, and write the whole round directory.

    Parameters
    ----------
    out
        Must not exist, or be an empty folder.
    tensors
        One client's update each, all of the same layout.
    truth
        Written to ``truth.json``.
    suffix
        Format of the raw updates: ``.npy``, ``.npz`` or ``.safetensors``.

    Raises
    ------
    InputError
        If ``out`` has something in it, or a bound of the protocol does not hold.
    """
    if suffix not in SUFFIXES:
        raise InputError(f"format: expected {', '.join(SUFFIXES)}, found {suffix!r}")
    refuse_full(out)
    names = client_names(len(tensors))
    updates = [flatten(t, client) for t, client in zip(tensors, names, strict=True)]
    layout = check_same_layout(updates)
    clip = terms.clip or default_clip(updates)
    round = open_round(names, updates[0].vector.size, clip, terms, subject=layout_hash(layout))
    with whole_folder(out) as folder:
        home = RoundDirectory(folder)
        home.updates.mkdir()
        save_round(home.round_file, round)
        for client, update, raw in zip(names, updates, tensors, strict=True):
            save_update(home.updates / f"{client}{suffix}", raw)
            home.save_commitment(round, client, *commit_update(round, client, update, hash))
        write_whole(home.truth, (truth.model_dump_json(indent=2) + "\n").encode())
    return round
