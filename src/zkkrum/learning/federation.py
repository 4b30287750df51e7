"""A whole run to try: clients train on digits and commit, the server proves, and the proved mean moves the model.

Must not know the command line. It plays every party in one process; the run it leaves is the one a federation would
hand out, and holds neither updates nor openings.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zkkrum.errors import InputError
from zkkrum.learning.simulate import client_names
from zkkrum.learning.training import Federation, Training, accuracy, flatten_model, initial_model, updates_of
from zkkrum.progress import Notify, unheard
from zkkrum.proof.material import Material
from zkkrum.proof.model import apply_aggregate
from zkkrum.proof.prove import prove
from zkkrum.protocol.aggregate import unproved_mean
from zkkrum.protocol.krum import Krum
from zkkrum.rounds.models import next_model, subject_of
from zkkrum.rounds.parties import DEFAULT_TERMS, Terms, default_clip, open_round
from zkkrum.rounds.run import Gap, Run
from zkkrum.rounds.tensors import Tensors
from zkkrum.rounds.updates import Update
from zkkrum.toolchain import Toolchain


@dataclass(frozen=True)
class Step:
    """One round of a run. Clients are numbered from 0."""

    number: int
    flagged: tuple[int, ...]
    accepted: tuple[int, ...]
    accuracy: float
    """Of the model after it."""
    proving: float
    """Seconds; zero where the round was not proved."""


@dataclass(frozen=True)
class Play:
    """Who plays, and for how long.

    Parameters
    ----------
    rounds, clients, attackers, attack
        The attackers are the same clients in every round, drawn from the seed.
    hidden
        Width of the model's hidden layer; None: softmax regression, d = 650.
    terms
        Of every round; without a clip, that of the first round's updates.
    prove_every
        Prove rounds K, 2K, …; the others are gaps.
    seed
        Of data, model and training; never of salts.
    """

    rounds: int = 3
    clients: int = 10
    attackers: int = 2
    attack: str = "sign-flip"
    hidden: int | None = None
    terms: Terms = DEFAULT_TERMS
    prove_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.rounds < 1 or not 0 <= self.attackers < self.clients or self.prove_every < 1:
            raise InputError(f"run: expected rounds >= 1, attackers in [0, clients), prove_every >= 1, found {self}")


def train(path: Path, play: Play, tools: Toolchain, say: Notify = unheard) -> list[Step]:
    """Train, prove and write a run (`zkkrum.rounds.run`).

    Parameters
    ----------
    path
        Must not exist, or be an empty folder.
    say
        Told what was done, round by round.

    Returns
    -------
    list of Step
        One a round.
    """
    start = np.random.default_rng(play.seed)
    federation = Federation.of_digits(play.clients, start)
    model: Tensors = initial_model(start, play.hidden)
    bad = tuple(sorted(int(i) for i in start.choice(play.clients, size=play.attackers, replace=False)))
    names, layout, clip = client_names(play.clients), flatten_model(model)[1], play.terms.clip
    run, steps = Run.create(path, model), []
    for number in range(1, play.rounds + 1):
        rng = np.random.default_rng([play.seed, number])
        sent = updates_of(federation, model, Training(), rng, bad, play.attack if bad else None)
        updates = [Update(name, row.astype(np.float64), layout) for name, row in zip(names, sent, strict=True)]
        clip = clip or default_clip(updates)
        round = open_round(names, updates[0].vector.size, clip, play.terms, subject=subject_of(model))
        place = run.round(number)
        material = Material.commit(round, updates, tools.bb.hash_many, by_clients=True)
        place.publish(round, dict(zip(names, material.commitments, strict=True)))
        proving = 0.0
        if number % play.prove_every == 0:
            done = prove(material, place.bundle, tools)
            verdict, proving = done.outcome.verdict, done.seconds["wall"]
            model = apply_aggregate(model, done.verification)
        else:
            verdict = Krum(round.params)(material.q).verdict
            accepted = verdict.accepted(round.params)
            model = next_model(model, unproved_mean(material.q, accepted, clip, round.params.b))
            place.save_gap(Gap.UNPROVED, f"one round in {play.prove_every} is proved", model)
        step = Step(number, verdict.flagged, verdict.accepted(round.params), accuracy(model, federation.test), proving)
        steps.append(step)
        run.save_accuracy({step.number: step.accuracy for step in steps})
        flagged = ", ".join(names[i] for i in step.flagged) or "nobody"
        how = f"proved in {proving:.1f} s" if proving else "not proved"
        say(f"round {number}: flagged {flagged}; {how}; test accuracy {100 * step.accuracy:.1f} %")
    return steps
