"""Small runs, proved for real: what an honest federation leaves, and the pieces an adversary puts together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zkkrum.proof.material import Material
from zkkrum.proof.model import apply_aggregate
from zkkrum.proof.prove import prove
from zkkrum.rounds.models import subject_of
from zkkrum.rounds.parties import Terms, open_round
from zkkrum.rounds.run import Run, RunRound
from zkkrum.rounds.updates import Update, flatten
from zkkrum.toolchain import Toolchain

CLIENTS = ("alice", "bob", "carol", "dave", "eve")
CLIP = 1.0

Model = dict[str, NDArray[Any]]


def initial_model() -> Model:
    """Two float tensors of different dtypes, 60 values in all, and a buffer."""
    rng = np.random.default_rng(11)
    return {
        "w": rng.normal(size=(5, 10)).astype(np.float32),
        "b": rng.normal(size=10),
        "bn.num_batches_tracked": np.array(3),
    }


def deltas(model: Model, seed: int, scale: float = 0.1) -> list[Update]:
    """What the clients' training makes of a model; the last one attacks."""
    rng = np.random.default_rng(seed)
    found = []
    for client in CLIENTS:
        factor = scale * (9 if client == CLIENTS[-1] else 1)
        tensors = {name: (factor * rng.normal(size=t.shape)).astype(t.dtype) for name, t in model.items() if t.size > 1}
        found.append(flatten(tensors, client))
    return found


def proved(
    place: RunRound, model: Model, updates: Sequence[Update], tools: Toolchain, terms: Terms | None = None
) -> Model:
    """Let the clients commit and the server prove; return the next model."""
    terms = terms or Terms(b=12)
    round = open_round(CLIENTS, updates[0].vector.size, CLIP, terms, subject=subject_of(model))
    material = Material.commit(round, updates, tools.bb.hash_many, by_clients=True)
    place.publish(round, dict(zip(CLIENTS, material.commitments, strict=True)))
    return apply_aggregate(model, prove(material, place.bundle, tools).verification)


@dataclass(frozen=True, eq=False)
class Trained:
    """A run and the models it went through: the initial one, then one a round."""

    run: Run
    models: tuple[Model, ...]


def trained(path: Path, tools: Toolchain, seeds: Sequence[int]) -> Trained:
    """A run of proved rounds, one a seed."""
    models = [initial_model()]
    run = Run.create(path, models[0])
    for number, seed in enumerate(seeds, start=1):
        models.append(proved(run.round(number), models[-1], deltas(models[-1], seed), tools))
    return Trained(run, tuple(models))
