"""Training under attack: what each way of aggregating makes of it, round by round.

Must not know the command line. Whatever is aggregated are dequantized integers q·Δ, their mean taken as the protocol
says; the one exception, ``raw-average``, is the server without zkkrum, for comparison.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.extras import require
from zkkrum.learning.evade import parse_attack, play
from zkkrum.learning.simulate import client_names
from zkkrum.learning.training import (
    TRAINING_ATTACKS,
    Federation,
    Model,
    Training,
    accuracy,
    add,
    flatten_model,
    initial_model,
    updates_of,
)
from zkkrum.progress import Progress, silent
from zkkrum.proof.material import Material
from zkkrum.proof.prove import prove as prove_round
from zkkrum.protocol.aggregate import unproved_mean
from zkkrum.protocol.krum import Krum, Outcome
from zkkrum.protocol.params import Acceptance, Params
from zkkrum.protocol.quantize import Integers, quantize
from zkkrum.rounds.parties import Terms, open_round
from zkkrum.toolchain import Toolchain

HONEST_ONLY = "honest-only"
"""The arm without attackers: they are left out, and the others averaged."""
NONE = "none"
KNOWING = ("scale:unflagged", "sign-flip:unflagged", "sign-flip:accepted")
"""Attackers that know the rule in force: as strong as it lets them be."""
ATTACKS = (
    *("gaussian:30", "sign-flip:3", "scale", "sybil:30", "label-flip", "ipm", "alie", "min-max", "mimic"),
    *KNOWING,
)
"""The default attacks, three of them stronger than their own default: weak ones hardly hurt so small a model."""
RAW_AVERAGE, AVERAGE, KRUM, MULTI_KRUM, UNFLAGGED = "raw-average", "average", "krum", "multi-krum", "unflagged"
AGGREGATIONS = {
    RAW_AVERAGE: "mean of the raw updates: no quantization, no rule",
    AVERAGE: "mean of all q·Δ: clipped, no rule",
    KRUM: "the one selected by Krum (--accept selected, m = 1)",
    MULTI_KRUM: "mean of the n - f selected by Multi-Krum (--accept selected, m = n - f)",
    UNFLAGGED: "mean of those the detection rule does not flag (--accept unflagged)",
}
"""Aggregations by id. Those that accept whom a rule says can be proved; nobody who is flagged is ever among them."""
PROVABLE = (KRUM, MULTI_KRUM, UNFLAGGED)


@dataclass(frozen=True)
class Setup:
    """One experiment.

    Parameters
    ----------
    clients, attackers
        n and k; the attackers are the same clients in every round, drawn from the seed.
    rounds
        Of training, per arm.
    attacks, aggregations
        Ids of `TRAINING_ATTACKS`, with or without a strength (``sign-flip:4``), and of `AGGREGATIONS`; every attack
        meets every aggregation.
    alpha, hidden, training
        Dirichlet split (None: IID), hidden layer (None: softmax regression), local training.
    f
        Tolerated; Krum plays with m = 1, Multi-Krum with m = n - f, both under acceptance ``selected``.
    clip
        The same in every round.
    seed
        Equal seeds give equal results.
    """

    clients: int = 10
    attackers: int = 3
    rounds: int = 20
    attacks: tuple[str, ...] = ATTACKS
    aggregations: tuple[str, ...] = tuple(AGGREGATIONS)
    alpha: float | None = None
    hidden: int | None = None
    training: Training = field(default_factory=Training)
    b: int = 12
    clip: float = 1.0
    f: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        def check(ok: bool, rule: str, found: object) -> None:
            if not ok:
                raise InputError(f"experiment: {rule}, found {found}")

        check(0 <= self.attackers < self.clients, "attackers must be in [0, clients)", self.attackers)
        check(self.rounds >= 1, "rounds must be >= 1", self.rounds)
        check(self.seed >= 0, "seed must be >= 0", self.seed)
        check(isfinite(self.clip) and self.clip > 0, "clip must be finite and > 0", self.clip)
        for attack in self.attacks:
            parse_attack(attack, TRAINING_ATTACKS)
        for name in self.aggregations:
            check(name in AGGREGATIONS, f"aggregations must be among {', '.join(AGGREGATIONS)}", name)
        for name in AGGREGATIONS:
            self.params(name)

    @property
    def d(self) -> int:
        """Parameters of the model."""
        return int(flatten_model(initial_model(np.random.default_rng(0), self.hidden))[0].size)

    def params(self, aggregation: str) -> Params:
        """Return the parameters of a round that accepts whom an aggregation takes."""
        default = Params.of(n=self.clients, d=self.d, b=self.b, f=self.f)
        if aggregation not in (KRUM, MULTI_KRUM):
            return default
        m = 1 if aggregation == KRUM else self.clients - default.f
        return replace(default, m=m, acceptance=Acceptance.SELECTED)

    def arms(self) -> list[tuple[str, str]]:
        """Return (attack, aggregation) of every arm, the one without attackers first."""
        attacks = [*self.attacks] if self.attackers else [NONE]
        return [(NONE, HONEST_ONLY), *((a, how) for a in attacks for how in self.aggregations)]


@dataclass(frozen=True)
class Step:
    """One round of one arm. Clients are numbered from 0; ``proof`` is a bundle's path, where one was made."""

    attack: str
    aggregation: str
    round: int
    accuracy: float
    flagged: tuple[int, ...]
    selected: tuple[int, ...]
    attackers_flagged: int
    honest_flagged: int
    attackers_used: int
    """Attackers whose updates went into the model."""
    strength: float | None = None
    """What attackers that know the rule found; None for others."""
    proof: str | None = None


@dataclass(frozen=True)
class Result:
    """All steps, and who the attackers were."""

    byzantine: tuple[int, ...]
    steps: tuple[Step, ...]

    def curve(self, attack: str, aggregation: str) -> list[float]:
        """Return the accuracy of an arm after each round."""
        return [s.accuracy for s in self.steps if (s.attack, s.aggregation) == (attack, aggregation)]


Prove = Callable[[str, int, Params, Integers, Outcome], str]
"""Proves a round: (name of the arm, round, parameters, q of shape (n, d), outcome of the reference) to a path."""


def run(
    setup: Setup,
    *,
    prove: Prove | None = None,
    prove_every: int = 0,
    progress: Progress = silent,
) -> Result:
    """Run every arm of an experiment.

    Parameters
    ----------
    setup
        What to run. Clients train with the same generators in every arm, so arms differ by what they aggregate only.
    prove, prove_every
        How to prove a round, and which: rounds K, 2K, … of the arms that apply a rule; 0 for none.
    progress
        Told after each round.

    Raises
    ------
    InputError, ToolMissingError
        For a bad split; without scikit-learn.
    """
    start = np.random.default_rng(setup.seed)
    federation = Federation.of_digits(setup.clients, start, setup.alpha)
    first = initial_model(start, setup.hidden)
    layout = flatten_model(first)[1]
    byzantine = tuple(sorted(int(i) for i in start.choice(setup.clients, size=setup.attackers, replace=False)))
    honest = [i for i in range(setup.clients) if i not in byzantine]
    arms, steps = setup.arms(), []
    for attack, how in arms:
        model, rule = first, Krum(setup.params(how))
        bad = () if attack == NONE else byzantine
        for r in range(1, setup.rounds + 1):
            rng = np.random.default_rng([setup.seed, r])
            sent, strength = _received(setup, federation, model, rng, bad, attack, rule.params)
            q = quantize(sent, setup.clip, setup.b)
            outcome = rule(q)
            used = _used(how, outcome, rule.params, honest)
            proof = None
            if prove and prove_every and r % prove_every == 0 and how in PROVABLE:
                proof = prove(f"{attack}-{how}", r, rule.params, q, outcome)
            raw = how == RAW_AVERAGE
            mean = sent.astype(np.float64).mean(axis=0) if raw else unproved_mean(q, used, setup.clip, setup.b)
            model = add(model, mean, layout)
            verdict = outcome.verdict
            steps.append(
                Step(
                    attack,
                    how,
                    r,
                    accuracy(model, federation.test),
                    verdict.flagged,
                    verdict.selected,
                    len(set(verdict.flagged) & set(bad)),
                    len(set(verdict.flagged) - set(bad)),
                    len(set(used) & set(bad)),
                    strength,
                    proof,
                )
            )
            progress("rounds", len(steps), len(arms) * setup.rounds)
    return Result(byzantine, tuple(steps))


def _received(
    setup: Setup,
    federation: Federation,
    model: Model,
    rng: np.random.Generator,
    byzantine: tuple[int, ...],
    attack: str,
    params: Params,
) -> tuple[NDArray[np.float32], float | None]:
    """Return what is sent in a round, and the strength where attackers chose it from the rule in force."""
    name, strength = (None, None) if attack == NONE else parse_attack(attack, TRAINING_ATTACKS)
    found: list[float] = []
    chosen = play(strength, params, setup.clip, found)
    sent = updates_of(federation, model, setup.training, rng, byzantine, name, chosen)
    return sent, found[0] if found else None


def _used(how: str, outcome: Outcome, params: Params, honest: Sequence[int]) -> tuple[int, ...]:
    """Return whose updates an aggregation takes."""
    if how in PROVABLE:
        return outcome.verdict.accepted(params)
    return tuple(honest) if how == HONEST_ONLY else tuple(range(params.n))


def to_csv(result: Result) -> str:
    """Return the steps as CSV; client lists are separated by blanks."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([f.name for f in fields(Step)])
    for step in result.steps:
        row = [getattr(step, f.name) for f in fields(Step)]
        writer.writerow([" ".join(map(str, x)) if isinstance(x, tuple) else x for x in row])
    return out.getvalue()


def to_dict(setup: Setup, result: Result) -> dict[str, Any]:
    """Return setup and result as plain values for JSON."""
    return {
        "setup": {**asdict(setup), "d": setup.d},
        "byzantine": list(result.byzantine),
        "steps": [asdict(step) for step in result.steps],
    }


def summary(setup: Setup, result: Result) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table: final accuracy (mean of the last three rounds) by attack and aggregation.

    Under ``unflagged``, also how many of the attackers were flagged, in how many rounds an honest client was, and the
    mean strength of attackers that know the rule.
    """

    def final(attack: str, how: str) -> str:
        return f"{100 * float(np.mean(result.curve(attack, how)[-3:])):.1f}"

    head = ["attack", *setup.aggregations, "attackers flagged", "false-flag rounds", "strength"]
    rows = [[HONEST_ONLY, final(NONE, HONEST_ONLY), *[""] * (len(head) - 2)]]
    for attack in dict.fromkeys(a for a, how in setup.arms() if how != HONEST_ONLY):
        mine = [s for s in result.steps if (s.attack, s.aggregation) == (attack, UNFLAGGED)]
        possible = len(mine) * len(result.byzantine) if attack != NONE else 0
        caught = f"{100 * sum(s.attackers_flagged for s in mine) / possible:.0f}" if possible else "-"
        false = f"{100 * sum(s.honest_flagged > 0 for s in mine) / len(mine):.0f}" if mine else "-"
        strengths = [s.strength for s in mine if s.strength is not None]
        strength = f"{np.mean(strengths):.2f}" if strengths else "-"
        rows.append([attack, *(final(attack, how) for how in setup.aggregations), caught, false, strength])
    return head, rows


def prover(folder: Path, setup: Setup, tools: Toolchain) -> Prove:
    """Return a `Prove` that opens a round, commits to q as the clients would, and writes bundles into a folder."""

    def prove(name: str, r: int, params: Params, q: Integers, outcome: Outcome) -> str:
        names = ("f", "m", "z", "gamma", "acceptance")
        overrides = {name: getattr(params, name) for name in names}
        round = open_round(client_names(params.n), params.d, setup.clip, Terms(b=params.b, overrides=overrides))
        path = folder / f"{name.replace(':', '-')}-{r:03d}"
        done = prove_round(Material.commit_values(round, q, tools.bb.hash_many), path, tools)
        assert done.outcome.verdict == outcome.verdict
        assert done.accepted == outcome.verdict.accepted(params)
        return str(path)

    return prove


COLOURS = {
    HONEST_ONLY: "#222222",
    RAW_AVERAGE: "#b2182b",
    AVERAGE: "#ef8a62",
    KRUM: "#2166ac",
    MULTI_KRUM: "#67a9cf",
    UNFLAGGED: "#a6dba0",
}
MARKS = {RAW_AVERAGE: "v", AVERAGE: "^", KRUM: "*", MULTI_KRUM: "s", UNFLAGGED: "o"}
"""Arms by shape: colour is not the only thing that tells them apart."""
LABEL_INCHES = 2.05
"""What a label of the legend takes."""


def plot(setup: Setup, result: Result) -> bytes:
    """Draw accuracy against round, one panel per attack; return a PNG.

    Raises
    ------
    ToolMissingError
        Without matplotlib, naming the extra.
    """
    figure_type = require("matplotlib.figure", "plot").Figure
    attacks = list(dict.fromkeys(a for a, how in setup.arms() if how != HONEST_ONLY))
    columns = min(3, len(attacks))
    rows = -(-len(attacks) // columns)
    width = max(4.2 * columns, 7.0)  # title and legend want room, however few the panels
    figure = figure_type(figsize=(width, 3.1 * rows + 1.2), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    rounds = range(1, setup.rounds + 1)
    widths = {UNFLAGGED: 4.0, MULTI_KRUM: 2.2}  # arms often coincide: the broad ones lie below
    for place, (panel, attack) in enumerate(zip(panels, attacks, strict=False)):
        for how in sorted(setup.aggregations, key=lambda how: -widths.get(how, 1.6)):
            style = "-." if how in (RAW_AVERAGE, AVERAGE) else "-"
            label = {RAW_AVERAGE: "no defence (raw average)", AVERAGE: "average of q·Δ (clipped)"}.get(how, how)
            curve = 100 * np.array(result.curve(attack, how))
            place_of_marks = (list(AGGREGATIONS).index(how), max(1, setup.rounds // 4))
            line = {"color": COLOURS[how], "ls": style, "lw": widths.get(how, 1.6)}
            mark = {"marker": MARKS[how], "ms": 6, "markevery": place_of_marks, "mec": "#222222", "mew": 0.5}
            panel.plot(rounds, curve, label=label, **line, **(mark if setup.rounds > len(AGGREGATIONS) else {}))
        honest = 100 * np.array(result.curve(NONE, HONEST_ONLY))
        panel.plot(rounds, honest, color=COLOURS[HONEST_ONLY], ls=":", lw=1.4, label="honest clients only")
        panel.set_title(attack, fontsize=11)
        panel.set_ylim(0, 102)
        panel.locator_params(axis="x", integer=True)
        panel.grid(alpha=0.25)
        panel.label_outer()
        if place + columns >= len(attacks):
            panel.set_xlabel("round")
            panel.tick_params(labelbottom=True)
    for panel in panels[len(attacks) :]:
        panel.set_visible(False)
    split = "IID" if setup.alpha is None else f"Dirichlet({setup.alpha:g})"
    figure.suptitle(f"Digits, {setup.clients} clients ({split}), {setup.attackers} of them attack, d = {setup.d}")
    figure.supylabel("test accuracy, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), int(width / LABEL_INCHES)),
        frameon=False,
        fontsize=9,
    )
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()
