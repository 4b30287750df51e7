"""Rules that were looked at and left out, measured: flagging copies, a two-sided `mad`, nearest-neighbour mixing.

python examples/left_out.py            # the tables of docs/detection.md
python examples/left_out.py --quick    # a few rounds, for a first look
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from zkkrum.learning.attacks import attacked_round, honest_updates
from zkkrum.learning.evaluate import Scenario, markdown_table, percent
from zkkrum.protocol.krum import Krum, Outcome, nearest
from zkkrum.protocol.params import Acceptance, Params
from zkkrum.protocol.quantize import Integers, quantize

N, D, K = 20, 1000, 6
CLOSE = 0.01
"""Two updates count as copies where their squared distance is less than this share of the median one."""
Rule = Callable[[Outcome, Params], set[int]]
COUNT = 200
"""Rounds a row."""
NOISES = (0.0, 0.06, 0.2)
"""Of colluders, in distances of an honest client from the honest mean."""


def copies(outcome: Outcome, params: Params) -> set[int]:
    """Flag clients who send nearly the same."""
    pairs = outcome.distances[np.triu_indices(params.n, 1)]
    close = outcome.distances < CLOSE * np.median(pairs)
    np.fill_diagonal(close, False)
    return set(np.flatnonzero(close.any(axis=1)).tolist())


def two_sided(outcome: Outcome, params: Params) -> set[int]:
    """Flag scores that lie as far below the median as `mad` asks above it."""
    s = np.array(outcome.scores, dtype=np.float64)
    median = np.sort(s)[(len(s) - 1) // 2]
    off = np.abs(s - median)
    far = (off > 5 * np.sort(off)[(len(s) - 1) // 2]) & ((s > 1.25 * median) | (s < median / 1.25))
    return set(np.flatnonzero(far).tolist())


def nearest_neighbour_mixing(q: Integers, outcome: Outcome, params: Params) -> NDArray[np.float64]:
    """Average everybody's mean over itself and its n - f - 1 nearest (Allouah et al. 2023)."""
    mixed = [q[[i, *nearest(outcome.distances, i, params.n - params.f - 1)]].mean(axis=0) for i in range(params.n)]
    return np.asarray(np.mean(mixed, axis=0))


def rounds(scenario: Scenario, noise: float, count: int) -> Iterator[tuple[Integers, set[int]]]:
    """Draw rounds whose colluders add independent noise; yield quantized updates and who colludes."""
    n, d, heterogeneity, attack, k = scenario
    for r in range(count):
        rng = np.random.default_rng([r, n, d])
        updates, bad = attacked_round(honest_updates(n, d, heterogeneity, rng), k, attack, rng)
        honest = np.delete(updates, bad, axis=0)
        radius = float(np.sqrt(honest.var(axis=0).mean()))
        updates[list(bad)] += noise * radius * rng.standard_normal((k, d))
        yield quantize(updates, 6 * float(np.sqrt(np.mean(honest**2))), 12), set(bad)


def detection_row(rule: Rule, scenario: Scenario, noise: float, count: int) -> list[str]:
    """Return the shares of attackers and honest clients flagged, and of rounds in which an honest one is."""
    n, d, *_, k = scenario
    params, caught, honest, false = Params.of(n=n, d=d), 0, 0, 0
    for q, bad in rounds(scenario, noise, count):
        flagged = rule(Krum(params)(q), params)
        caught += len(flagged & bad)
        honest += len(flagged - bad)
        false += bool(flagged - bad)
    return [percent(caught / (k * count) if k else None), percent(honest / ((n - k) * count)), percent(false / count)]


def error_row(heterogeneity: float, attack: str, count: int) -> list[str]:
    """Return the mean errors, as in the tables above, of mixing, Multi-Krum, the unflagged mean and everybody's."""
    unflagged = Params.of(n=N, d=D)
    selected = Params.of(n=N, d=D, m=N - unflagged.f, acceptance=Acceptance.SELECTED)
    errors = []
    for q, bad in rounds(Scenario(N, D, heterogeneity, attack, K), 0.0, count):
        truth = np.delete(q, list(bad), axis=0).mean(axis=0)
        outcomes = [(Krum(p)(q), p) for p in (selected, unflagged)]
        means = [nearest_neighbour_mixing(q, *outcomes[1])]
        means += [q[list(o.verdict.accepted(p))].mean(axis=0) for o, p in outcomes]
        errors.append([np.linalg.norm(x - truth) / np.linalg.norm(truth) for x in (*means, q.mean(axis=0))])
    return [percent(float(x)) for x in np.mean(errors, axis=0)]


def caught_row(h: float, attack: str, noise: float, count: int) -> list[str]:
    """Return whom both rules flag among colluders who add noise."""
    scenario = Scenario(N, D, h, attack, K)
    found = [x for rule in (copies, two_sided) for x in detection_row(rule, scenario, noise, count)[:2]]
    return [f"{h:g}", attack, f"{noise:g}", *found]


def clean_row(d: int, count: int) -> list[str]:
    """Return how often both rules flag somebody in clean rounds."""
    quiet = [Scenario(N, d, h, "scale", 0) for h in (0.0, 0.25)]
    return [str(d), *(detection_row(rule, q, 0.0, count)[2] for q in quiet for rule in (copies, two_sided))]


def sample() -> list[list[str]]:
    """Return a row of each table, for `scripts/detection.py --check`."""
    error = ["0.25", "min-max", *error_row(0.25, "min-max", COUNT)]
    return [caught_row(0.25, "min-max", 0.2, COUNT), clean_row(8, COUNT), error]


def main(count: int) -> None:
    hs, unseen = (0.0, 0.25), ("alie", "mimic", "ipm", "min-max")
    rows = [caught_row(h, attack, noise, count) for h in hs for attack in unseen for noise in NOISES]
    heads = [f"{rule}: {x}" for rule in ("copies", "two-sided") for x in ("caught", "honest")]
    print(f"n = {N}, d = {D}, {K} attack, {count} rounds a row, percent\n")
    print(markdown_table(["heterogeneity", "attack", "noise", *heads], rows))
    print("Clean rounds, percent with an honest client flagged:\n")
    clean = [clean_row(d, count) for d in (1, 2, 4, 8, 30, 1000)]
    print(markdown_table(["d", *(f"{rule}, {h:g}" for h in (0.0, 0.25) for rule in ("copies", "two-sided"))], clean))
    print(f"Error of the aggregate, n = {N}, d = {D}, {K} attack, percent:\n")
    attacks = ("gaussian", "sign-flip", "ipm", "alie", "min-max", "mimic")
    errors = [[f"{h:g}", attack, *error_row(h, attack, count)] for h in hs for attack in attacks]
    print(markdown_table(["heterogeneity", "attack", "mixing", "multi-krum", "unflagged", "everybody"], errors))


if __name__ == "__main__":
    main(5 if "--quick" in sys.argv else COUNT)
