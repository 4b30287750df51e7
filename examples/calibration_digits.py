"""Calibrate `mad` for federations of unlike clients on real digits, and see what it brings and what it costs.

Six federations (ten clients each, one Dirichlet split each) train a model again and again, ten rounds at a time,
nobody attacking. Thresholds are chosen from the first jobs of each federation and judged on its later ones:

    python examples/calibration_digits.py            # the tables of docs/detection.md
    python examples/calibration_digits.py --quick    # two federations, for a first look
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np

from zkkrum.learning.attacks import attack
from zkkrum.learning.calibrate import calibrate, scores_of
from zkkrum.learning.evaluate import markdown_table
from zkkrum.learning.training import Federation, Training, add, flatten_model, initial_model, updates_of
from zkkrum.protocol.fitness import doubts
from zkkrum.protocol.krum import Krum, detect
from zkkrum.protocol.params import Params
from zkkrum.protocol.quantize import quantize

PARAMS, CLIP = Params.of(n=10, d=650), 1.0
ROUNDS, LATER_JOBS, FEDERATIONS = 10, 30, 6
ATTACKS = (("sign-flip", 1), ("sign-flip", 3), ("ipm", 1), ("ipm", 3), ("scale", 3), ("gaussian", 3))


def job(federation: Federation, seed: int, rounds: int = ROUNDS) -> list[np.ndarray]:
    """Train from scratch; return what all clients sent, round by round."""
    rng = np.random.default_rng(seed)
    model, sent = initial_model(rng), []
    layout = flatten_model(model)[1]
    for _ in range(rounds):
        sent.append(updates_of(federation, model, Training(), rng))
        model = add(model, sent[-1].mean(axis=0, dtype=np.float64), layout)
    return sent


def scored(rounds: list[np.ndarray]) -> list[list[int]]:
    return [scores_of(quantize(u, CLIP, PARAMS.b), PARAMS) for u in rounds]


def false_flags(scores: list[list[int]], params: Params) -> float:
    return float(np.mean([bool(detect(s, params).flagged) for s in scores]))


def caught(rounds: list[np.ndarray], params: Params, name: str, k: int) -> float:
    """Return the share of attackers flagged when k clients, drawn at random, attack these rounds."""
    rng, hits = np.random.default_rng(k), 0
    for updates in rounds:
        bad = rng.choice(params.n, size=k, replace=False)
        sent = updates.astype(np.float64)
        sent[bad] = attack(name, np.delete(sent, bad, axis=0), sent[bad], rng)
        flagged = detect(scored([sent])[0], params).flagged
        hits += len(set(flagged) & set(bad.tolist()))
    return hits / (k * len(rounds))


def warned_of(rounds: list[np.ndarray]) -> list[str]:
    """Return how many clean rounds have a false flag, and in how many of these and of the others `prove` warns."""
    flagged, warned = [], []
    for updates in rounds:
        q = quantize(updates, CLIP, PARAMS.b)
        outcome = Krum(PARAMS)(q)
        flagged.append(outcome.verdict.malicious)
        warned.append(bool(doubts(PARAMS, q, outcome)))
    bad, told = np.array(flagged), np.array(warned)
    return [f"{100 * x.mean():.1f}" for x in (bad, told[bad], told[~bad])]


def show(rates: list[float]) -> str:
    return f"{100 * np.mean(rates):.1f} ({100 * np.max(rates):.1f})"


def splits_of(alpha: float | None, federations: int) -> list[Federation]:
    return [Federation.of_digits(PARAMS.n, np.random.default_rng(seed), alpha) for seed in range(federations)]


def later_rounds(split: Federation) -> list[np.ndarray]:
    """Return the rounds on which thresholds are judged."""
    return [u for seed in range(LATER_JOBS) for u in job(split, 1000 + seed)]


def calibrated_row(past: list[list[list[int]]], later: list[list[list[int]]], count: int, target: float) -> list[str]:
    """Choose thresholds from so many rounds of each federation and judge them on its later ones."""
    chosen = [calibrate(x[:count], PARAMS, target) for x in past]
    params = [replace(PARAMS, z=c.z, gamma=c.gamma) for c in chosen]
    left_out = sum(c.false_left_out for c in chosen) / sum(c.rounds for c in chosen)
    numbers = [left_out, max(c.rate_at_most for c in chosen)]
    medians = [float(np.median([float(getattr(c, t)) for c in chosen])) for t in ("z", "gamma")]
    default = [false_flags(x, PARAMS) for x in later]
    calibrated = [false_flags(x, p) for x, p in zip(later, params, strict=True)]
    measured = [*(f"{100 * x:.1f}" for x in numbers), *(f"{x:.2f}" for x in medians)]
    return [str(count), f"{100 * target:g}", show(default), show(calibrated), *measured]


def price_row(replayed: list[list[np.ndarray]], thresholds: list[Params]) -> list[str]:
    """Return the shares of attackers flagged under some thresholds, attack by attack."""
    rates = [[caught(u[::6], p, *a) for a in ATTACKS] for u, p in zip(replayed, thresholds, strict=True)]
    return [f"{100 * x:.0f}" for x in np.mean(rates, axis=0)]


def sample() -> list[list[str]]:
    """Return the cheapest row of each table but the last, for `scripts/detection.py --check`."""
    splits = splits_of(None, FEDERATIONS)
    replayed = [later_rounds(s) for s in splits]
    return [
        ["IID", *calibrated_row([scored(job(s, 0)) for s in splits], [scored(r) for r in replayed], ROUNDS, 0.01)],
        ["IID", "default", *price_row(replayed, [PARAMS] * FEDERATIONS)],
        ["IID", *warned_of([u for rounds in replayed for u in rounds])],
    ]


def main(federations: int) -> None:
    rows, prices, told, drift = [], [], [], []
    for alpha, label in ((None, "IID"), (1.0, "Dirichlet 1"), (0.3, "Dirichlet 0.3")):
        splits = splits_of(alpha, federations)
        past = [scored([u for seed in range(30) for u in job(s, seed)]) for s in splits]
        replayed = [later_rounds(s) for s in splits]
        later = [scored(rounds) for rounds in replayed]
        for count, target in ((10, 0.01), (30, 0.01), (300, 0.01), (300, 0.05)):
            rows.append([label, *calibrated_row(past, later, count, target)])
        chosen = [calibrate(x[:300], PARAMS, 0.01) for x in past]
        for name, thresholds in (
            ("default", [PARAMS] * federations),
            ("calibrated", [replace(PARAMS, z=c.z, gamma=c.gamma) for c in chosen]),
        ):
            prices.append([label, name, *price_row(replayed, thresholds)])
        told.append([label, *warned_of([u for rounds in replayed for u in rounds])])
        long = [scored(job(s, 5000, 230)) for s in splits]
        chosen = [calibrate(x[:30], PARAMS, 0.01) for x in long]
        calibrated = [
            false_flags(x[30:], replace(PARAMS, z=c.z, gamma=c.gamma)) for x, c in zip(long, chosen, strict=True)
        ]
        warned = sum(c.trend < 0.05 for c in chosen)
        drift.append([label, show([false_flags(x[30:], PARAMS) for x in long]), show(calibrated)])
        drift[-1].append(f"{warned} of {federations}")
        print(f"{label}: done", file=sys.stderr)
    head = ["split", "clean rounds", "target", "default", "calibrated", "left out", "rate below (95 %)", "z", "gamma"]
    print(markdown_table(head, rows))
    print(markdown_table(["split", "thresholds", *(f"{name}, {k} of 10" for name, k in ATTACKS)], prices))
    print(markdown_table(["split", "rounds with a false flag", "of these warned", "of the others warned"], told))
    print(markdown_table(["split", "default", "calibrated on rounds 1-30", "warned of drift"], drift))


if __name__ == "__main__":
    main(2 if "--quick" in sys.argv else FEDERATIONS)
