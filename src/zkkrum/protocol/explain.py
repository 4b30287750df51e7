"""The rules in words; and for the server's eyes only, why each client is flagged or not: score, threshold, excess.

Must not know files. An explanation must never enter a bundle: scores give away the geometry of the updates. The rules
decide in integers (`zkkrum.protocol.krum`); the floats here are for reading, and their signs agree with what was
decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt

from zkkrum.protocol.krum import Brackets, Mad, Outcome
from zkkrum.protocol.params import Acceptance, Detection, Params, Score


def rules(params: Params) -> list[tuple[str, str]]:
    """Return each rule in force: its name with its parameters, and a sentence that says what it does."""
    p = params
    score = f"{p.score.value}, f = {p.f}" if p.score is Score.KRUM_2017 else p.score.value
    others = f"the {p.neighbours} nearest others (n - f - 2)" if p.score is Score.KRUM_2017 else "all others"
    if p.detection is Detection.MAD:
        detection = (
            f"mad, z = {p.z}, γ = {p.gamma}",
            "Flagged is whose score lies above both M + z·A and (1 + γ)·M, where M is the median of the scores and A "
            "the median of their distances from it.",
        )
    else:
        detection = (
            f"brackets, z = {p.z}",
            "The round is malicious if more scores lie just below their mean µ (down to µ - σ/2) than above it (up to "
            "µ + 3σ/2), σ being their standard deviation; then flagged is whose score lies above µ + z·σ.",
        )
    if p.acceptance is Acceptance.UNFLAGGED:
        acceptance = "The next model takes the mean of everybody who is not flagged."
    else:
        acceptance = "The next model takes the mean of the selected who are not flagged."
    return [
        (
            f"score: {score}",
            f"A client's score is the sum of the squared distances from its update to {others}: high for whoever "
            "stands apart.",
        ),
        (f"detection: {detection[0]}", detection[1]),
        (
            f"selection: {'Krum' if p.m == 1 else f'Multi-Krum, m = {p.m}'}",
            "Selected is the client with the lowest score." if p.m == 1 else f"Selected are the {p.m} lowest scores.",
        ),
        (f"acceptance: {p.acceptance.value}", acceptance),
    ]


@dataclass(frozen=True)
class Reason:
    """What stands behind one client's place in the verdict.

    Parameters
    ----------
    client
        Position in the roster.
    score
        Krum's score, in squared units of the update.
    excess
        Score over threshold, minus 1: a flagged client lies so much above the threshold. None where that is zero.
    flagged, selected, accepted
        The verdict on this client.
    """

    client: int
    score: float
    excess: float | None
    flagged: bool
    selected: bool
    accepted: bool


@dataclass(frozen=True)
class Explanation:
    """Why the verdict is what it is.

    Parameters
    ----------
    line
        The formula in force: of the two lines of ``mad``, the higher.
    threshold
        Its value, in squared units of the update.
    nobody
        Why the rule flags nobody, whatever lies above the threshold; None where it flags who does.
    clients
        One entry a client, in roster order: flagged iff ``nobody`` is None and ``excess > 0``.
    """

    line: str
    threshold: float
    nobody: str | None
    clients: tuple[Reason, ...]


def explain(outcome: Outcome, params: Params, step: float = 1.0) -> Explanation:
    """Explain an outcome of the reference.

    Parameters
    ----------
    outcome
        Of `zkkrum.protocol.krum.Krum`.
    params
        The round's.
    step
        Of the quantization (`zkkrum.protocol.quantize.step`), in units of the update; 1 where these are steps.

    Examples
    --------
    >>> import numpy as np
    >>> from zkkrum.protocol.krum import Krum
    >>> params = Params.of(n=6, d=2, f=1)
    >>> found = explain(Krum(params)(np.array([[0, 0], [1, 0], [0, 1], [1, 1], [0, 1], [90, 90]])), params)
    >>> found.line, found.threshold, found.clients[5].flagged, round(found.clients[5].excess)
    ('M + z·A', 8.0, True, 5984)
    """
    detection = outcome.detection
    line, threshold, excesses = (
        _of_mad(detection, outcome.scores, params)
        if isinstance(detection, Mad)
        else _of_brackets(detection, outcome.scores, params)
    )
    verdict = outcome.verdict
    accepted = verdict.accepted(params)
    clients = tuple(
        Reason(i, score * step**2, excess, i in verdict.flagged, i in verdict.selected, i in accepted)
        for i, (score, excess) in enumerate(zip(outcome.scores, excesses, strict=True))
    )
    return Explanation(line, threshold * step**2, _nobody(outcome), clients)


def _nobody(outcome: Outcome) -> str | None:
    if outcome.scores_carry_no_scale:
        return "the median score is zero, so scores carry no scale (is clip too large?)"
    detection = outcome.detection
    if isinstance(detection, Mad) or detection.malicious:
        return None
    return (
        f"not more scores lie just below the mean ({detection.low}) than above it ({detection.high}), "
        "so brackets takes the round for honest"
    )


def _of_mad(mad: Mad, scores: Sequence[int], params: Params) -> tuple[str, float, list[float | None]]:
    lines = {
        "M + z·A": mad.median + params.z * mad.deviation,
        "(1 + γ)·M": (1 + params.gamma) * mad.median,
    }
    line = max(lines, key=lambda name: lines[name])
    threshold = lines[line]
    if threshold == 0:
        return line, 0.0, [None] * len(scores)
    return line, float(threshold), [float(Fraction(s) / threshold - 1) for s in scores]


def _of_brackets(brackets: Brackets, scores: Sequence[int], params: Params) -> tuple[str, float, list[float | None]]:
    n, z, deviation = len(scores), params.z, sqrt(brackets.variance)  # n·σ
    threshold = (float(sum(scores)) + float(z) * deviation) / n
    if threshold == 0:
        return "µ + z·σ", 0.0, [None] * n

    def excess(delta: int) -> float:
        if delta <= 0:
            return (delta - float(z) * deviation) / n / threshold
        # δ - z·√V, written so that its sign is the exact one: (δ² - z²·V) / (δ + z·√V)
        return float(delta * delta - z * z * brackets.variance) / (delta + float(z) * deviation) / n / threshold

    return "µ + z·σ", threshold, [excess(delta) for delta in brackets.deltas]
