"""Detection thresholds for a federation, chosen from its own clean rounds, and what they cost in detection.

Must not know the command line or proofs. Only past rounds of the same federation, in which nobody attacked, say how
far honest clients stray; few rounds say little, and every result says how little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from math import atan, ceil, cos, erfc, exp, isfinite, lgamma, log, log1p, pi, sin, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.learning.attacks import attacked_round
from zkkrum.learning.evade import parse_attack, play
from zkkrum.learning.evaluate import Tally, judge
from zkkrum.progress import Progress, silent
from zkkrum.protocol.krum import Brackets, Mad, detect, scores, squared_distances
from zkkrum.protocol.params import Detection, Params, Round
from zkkrum.protocol.quantize import Integers, dequantize
from zkkrum.rounds.directory import RoundDirectory, read_truth
from zkkrum.rounds.history import load_past_round

CONFIDENCE = 0.95
MIN_ROUNDS = 5
DECIMALS = 3
"""Thresholds are written with so many decimals, rounded up."""
LARGEST = 10**6
"""Larger thresholds are cut to this, which flags practically nobody and still fits the circuit's 32 bits."""


@dataclass(frozen=True)
class Calibration:
    """Thresholds and how sure one can be of them.

    Parameters
    ----------
    z, gamma
        Exact decimals, for ``round.toml``.
    rounds
        Clean rounds they were chosen from.
    target
        Rounds with a false flag that are to be borne, as a share.
    extrapolated
        True where the rounds are too few for the target: beyond the largest excess seen, the thresholds then rest
        on the assumption that excesses are log-normal (``mad``), or on nothing (``brackets``). False: an order
        statistic that meets the target at 95 % confidence, assuming only that future rounds are like these.
    false_before
        Of the clean rounds, those with a false flag under the thresholds they were played with.
    false_left_out
        Of the clean rounds, those with a false flag under thresholds chosen from the *other* rounds.
    rate_at_most
        One-sided upper Clopper-Pearson bound, at 95 % confidence, of the rate behind ``false_left_out``.
    rounds_needed
        Clean rounds without a single left-out false flag that would show the target at 95 % confidence.
    excess_before, excess_after
        Mean over the rounds of how far above the median score a client is flagged, as a share of the median
        (``mad``), or above the mean in deviations (``brackets``): the price in detection.
    trend
        Two-sided p-value of a Mann-Kendall test for drift over the rounds in the order given; small means that the
        rounds change, and old ones tell little of the next.
    """

    z: Fraction
    gamma: Fraction
    rounds: int
    target: float
    extrapolated: bool
    false_before: int
    false_left_out: int
    rate_at_most: float
    rounds_needed: int
    excess_before: float
    excess_after: float
    trend: float

    def toml(self) -> str:
        """Return the lines for ``[parameters]`` of a ``round.toml``."""
        return f'z = "{decimal(self.z)}"\ngamma = "{decimal(self.gamma)}"\n'


def decimal(value: Fraction) -> str:
    """Return a fraction of at most `DECIMALS` decimals as exact decimal text.

    Examples
    --------
    >>> decimal(Fraction(1853, 250))
    '7.412'
    """
    scaled = value * 10**DECIMALS
    assert scaled.denominator == 1
    whole, rest = divmod(scaled.numerator, 10**DECIMALS)
    return f"{whole}.{rest:0{DECIMALS}}".rstrip("0").rstrip(".")


def _up(x: float) -> Fraction:
    return Fraction(ceil(min(x, LARGEST) * 10**DECIMALS + 1e-6) if x else 0, 10**DECIMALS)


@dataclass(frozen=True, eq=False)
class _Spreads:
    """How far the scores of each round lie from its middle; one row per round, one column per client.

    Client i of round t is flagged iff ``a[t, i] > z`` and ``g[t, i] > γ``: ``a`` in deviations (inf where the deviation
    is 0), ``g`` relative to the middle. ``ratio`` is the deviation relative to the middle. Rounds in which no
    thresholds could flag anybody are not ``known``; their rows are 0.
    """

    a: NDArray[np.float64]
    g: NDArray[np.float64]
    ratio: NDArray[np.float64]
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, rounds: Sequence[Sequence[int]], params: Params) -> _Spreads:
        shape = len(rounds), params.n
        a, g, ratio, known = np.zeros(shape), np.zeros(shape), np.zeros(shape[0]), np.zeros(shape[0], dtype=bool)
        for t, s in enumerate(rounds):
            x = np.array(s, dtype=np.float64)
            detection = detect(s, params)
            if isinstance(detection, Mad):
                known[t] = detection.median > 0
                middle, deviation = float(detection.median), float(detection.deviation)
            else:
                known[t] = detection.malicious
                middle, deviation = float(x.mean()), float(x.std())
            if known[t]:
                with np.errstate(divide="ignore", invalid="ignore"):
                    a[t] = np.where(x > middle, (x - middle) / deviation, 0.0)
                g[t], ratio[t] = x / middle - 1, deviation / middle
        return cls(a, g, ratio, known)

    def without(self, t: int) -> _Spreads:
        """Leave a round out."""
        rest = np.arange(len(self.known)) != t
        return _Spreads(self.a[rest], self.g[rest], self.ratio[rest], self.known[rest])

    def factors(self, z: float, gamma: float) -> NDArray[np.float64]:
        """Return for each round the smallest multiple of (z, γ) at which it has no flag."""
        over_z = self.a / z if z else np.where(self.a > 0, np.inf, 0.0)
        over_gamma = self.g / gamma if gamma else np.full_like(self.g, np.inf)
        return np.asarray(np.where(self.known, np.minimum(over_z, over_gamma).max(axis=1), 0.0))


def _thresholds(spreads: _Spreads, params: Params, target: float) -> tuple[Fraction, Fraction, bool]:
    """Choose (z, γ, extrapolated).

    Both thresholds grow together along one ray, whose direction is the median over the rounds of the largest
    deviation and the largest relative excess, so that each round is summed up in one number: how far along the ray
    its last flag vanishes. Of these, as many are left beyond the thresholds as still show the target at 95 %
    confidence (a one-sided tolerance limit, Wilks 1941). Where the rounds are too few even for none, the thresholds
    are the largest or, under ``mad``, the upper prediction limit of a log-normal sample (Whitmore 1986), whichever
    is greater. (Under ``brackets`` the excess is bounded and often absent: nothing is assumed beyond the largest.)
    """
    count, brackets = len(spreads.known), params.detection is Detection.BRACKETS
    if not spreads.known.any():
        if brackets:  # never low > high: whatever z flags nobody
            return params.z, params.gamma, count < rounds_needed(target)
        raise InputError("calibrate: the scores of every round carry no scale (median 0): is clip too large?")
    farthest = spreads.a[spreads.known].max(axis=1)
    finite = farthest[np.isfinite(farthest)]
    z = float(np.median(finite)) if finite.size else 0.0
    gamma = 0.0 if brackets else float(np.median(spreads.g[spreads.known].max(axis=1)))
    if z == gamma == 0:
        raise InputError("calibrate: the scores do not vary at all: are these real rounds?")
    factors = np.sort(spreads.factors(z, gamma))
    extrapolated = count < rounds_needed(target)
    factor = float(factors[-1 - _may_lie_beyond(count, target)])
    if extrapolated and not brackets:
        factor = max(factor, _prediction_limit(np.maximum(factors, 1e-3), 1 - target))
    if not isfinite(factor):
        raise InputError(
            "calibrate: no finite thresholds: in some rounds the median deviation is 0 and yet a client stands out",
            "too few distinct scores: is clip too large, or d too small?",
        )
    return _up(factor * z), _up(factor * gamma), extrapolated


@cache
def _may_lie_beyond(count: int, target: float) -> int:
    """Return how many of the rounds may lie beyond the thresholds and still show the target at 95 % confidence."""
    beyond = 0
    while rate_at_most(beyond + 1, count) <= target:
        beyond += 1
    return beyond


def _prediction_limit(sample: NDArray[np.float64], confidence: float) -> float:
    """Return what the next value of a log-normal sample stays below, with the given probability."""
    logs, count = np.log(sample), len(sample)
    spread = float(logs.std(ddof=1)) * sqrt(1 + 1 / count)
    return exp(min(float(logs.mean()) + t_quantile(confidence, count - 1) * spread, log(1e6)))


def t_quantile(p: float, degrees: int) -> float:
    """Return the quantile of Student's t, 1/2 <= p < 1, from its finite series (Abramowitz & Stegun 26.7.3-4).

    Examples
    --------
    >>> round(t_quantile(0.99, 4), 3), round(t_quantile(0.975, 9), 3)
    (3.747, 2.262)
    """

    def below(t: float) -> float:
        angle = atan(t / sqrt(degrees))
        term = total = 1.0 if degrees % 2 == 0 else cos(angle)
        for k in range(degrees % 2 + 2, degrees - 1, 2):
            term *= (k - 1) / k * cos(angle) ** 2
            total += term
        if degrees % 2 == 0:
            return 0.5 + 0.5 * sin(angle) * total
        return 0.5 + (angle + (sin(angle) * total if degrees > 1 else 0.0)) / pi

    low, high = 0.0, 1.0
    while below(high) < p:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if below(middle) < p else (low, middle)
    return high


def rate_at_most(events: int, trials: int, confidence: float = CONFIDENCE) -> float:
    """Return the one-sided upper Clopper-Pearson bound of a rate; without events, about 3/trials.

    Examples
    --------
    >>> round(rate_at_most(0, 30), 3), round(rate_at_most(2, 30), 3)
    (0.095, 0.195)
    """
    if events >= trials:
        return 1.0

    ways = [lgamma(trials + 1) - lgamma(k + 1) - lgamma(trials - k + 1) for k in range(events + 1)]

    def at_most(p: float) -> float:  # by logarithms: binomial coefficients of a thousand rounds are beyond every float
        return sum(exp(way + k * log(p) + (trials - k) * log1p(-p)) for k, way in enumerate(ways))

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(middle) > 1 - confidence else (low, middle)
    return high


def rounds_needed(target: float) -> int:
    """Return how many rounds without an event show at 95 % confidence that the rate is below a target.

    Examples
    --------
    >>> rounds_needed(0.01), rounds_needed(0.05)
    (299, 59)
    """
    return ceil(log(1 - CONFIDENCE) / log(1 - target))


def trend(values: Sequence[float]) -> float:
    """Return the two-sided p-value of a Mann-Kendall test for a monotone trend.

    Examples
    --------
    >>> trend([1, 2, 3, 4, 5, 6, 7, 8]) < 0.01 < trend([1, 3, 2, 4, 1, 3, 2, 4])
    True
    """
    x, count = np.asarray(values, dtype=np.float64), len(values)
    total = float(np.sign(x[None, :] - x[:, None])[np.triu_indices(count, 1)].sum())
    deviation = sqrt(count * (count - 1) * (2 * count + 5) / 18)
    return erfc(max(abs(total) - 1, 0) / deviation / sqrt(2))


def _flags(s: Sequence[int], params: Params, z: Fraction, gamma: Fraction) -> bool:
    """Return whether anybody is flagged, exactly. ``z`` may be beyond what params admits under brackets."""
    if params.detection is Detection.MAD:
        return bool(Mad.of(s, replace(params, z=z, gamma=gamma)).flagged)
    return bool(z * z < params.n - 1 and Brackets.of(s, replace(params, z=z)).flagged)


def calibrate(rounds: Sequence[Sequence[int]], params: Params, target: float) -> Calibration:
    """Choose thresholds from the scores of clean rounds.

    Parameters
    ----------
    rounds
        One exact score vector of length n per clean round, in the order in which they were played.
    params
        Rules and the thresholds in use so far; every round has the same but for these.
    target
        Share of rounds with a false flag that is to be borne, in (0, 1).

    Returns
    -------
    Calibration

    Raises
    ------
    InputError
        For fewer than 5 rounds, rounds without scale, or where ``brackets`` would need a z that flags nobody.
    """
    if not 0 < target < 1:
        raise InputError(f"calibrate: the target must be in (0, 1), found {target}")
    if len(rounds) < MIN_ROUNDS:
        raise InputError(f"calibrate: at least {MIN_ROUNDS} clean rounds are needed, found {len(rounds)}")
    spreads = _Spreads.of(rounds, params)
    z, gamma, extrapolated = _thresholds(spreads, params, target)
    if params.detection is Detection.BRACKETS and z * z >= params.n - 1:
        raise InputError(
            f"calibrate: brackets would need z = {decimal(z)}, but z^2 must be < n - 1 = {params.n - 1}",
            "use mad, or bear more false flags",
        )
    left_out = 0
    for i, s in enumerate(rounds):
        left_out += _flags(s, params, *_thresholds(spreads.without(i), params, target)[:2])

    def excess(z: Fraction, gamma: Fraction) -> float:
        if params.detection is Detection.BRACKETS:
            return float(z)
        return float(np.maximum(float(z) * spreads.ratio[spreads.known], float(gamma)).mean())

    return Calibration(
        z=z,
        gamma=gamma,
        rounds=len(rounds),
        target=target,
        extrapolated=extrapolated,
        false_before=sum(_flags(s, params, params.z, params.gamma) for s in rounds),
        false_left_out=left_out,
        rate_at_most=rate_at_most(left_out, len(rounds)),
        rounds_needed=rounds_needed(target),
        excess_before=excess(params.z, params.gamma),
        excess_after=excess(z, gamma),
        trend=trend(spreads.factors(float(z), float(gamma)).tolist()),
    )


@dataclass(frozen=True)
class Cost:
    """What k attackers do to clean rounds before and after calibration (pairs): how many are flagged, at what harm.

    ``flagged`` is their share, ``error`` the mean distance of what is accepted from the honest clients' mean, in
    lengths of that; ``strength`` what attackers find who know the thresholds, None for others.
    """

    attack: str
    k: int
    flagged: tuple[float, float]
    error: tuple[float, float]
    strength: tuple[float, float] | None


def cost(
    rounds: Sequence[tuple[Round, Integers]],
    calibration: Calibration,
    attacks: Sequence[str],
    k: int,
    seed: int,
    progress: Progress = silent,
) -> list[Cost]:
    """Replay clean rounds with k attackers drawn at random, under both pairs of thresholds.

    Parameters
    ----------
    rounds
        Each round with its quantized updates of shape (n, d); what attackers see and send is q·Δ.
    calibration
        The thresholds to compare with those of the last round, whose acceptance says who is aggregated.
    attacks, k, seed
        Attacks as `parse_attack` reads them, attackers per round, and the seed of the replay.
    progress
        Told after each replayed round.
    """
    before = rounds[-1][0].params
    pair = before, replace(before, z=calibration.z, gamma=calibration.gamma)
    out, done = [], 0
    for attack in attacks:
        name, strength = parse_attack(attack)
        tallies = Tally(), Tally()
        for params, tally in zip(pair, tallies, strict=True):
            rng = np.random.default_rng([seed, *name.encode()])  # the same attackers under both
            for round, q in rounds:
                chosen = play(strength, params, round.clip, tally.strengths)
                sent, byzantine = attacked_round(dequantize(q, round.clip, params.b), k, name, rng, chosen)
                judge(sent, byzantine, round.clip, [params], [tally])
                done += 1
                progress("rounds replayed", done, 2 * len(rounds) * len(attacks))
        b, a = tallies
        out.append(
            Cost(
                attack,
                k,
                (b.attackers_flagged / max(b.attackers, 1), a.attackers_flagged / max(a.attackers, 1)),
                (b.rate("error"), a.rate("error")),
                (float(np.mean(b.strengths)), float(np.mean(a.strengths))) if b.strengths else None,
            )
        )
    return out


def load_clean_round(path: Path) -> tuple[Round, Integers]:
    """Read a past round as `load_past_round` does.

    Raises
    ------
    InputError
        Also where the round's ``truth.json`` names attackers.
    """
    home = RoundDirectory(path)
    if not home.round_file.exists() and (path / "rounds").is_dir():
        raise InputError(f"{path}: a run, not a round", f"name its rounds, oldest first: {path}/rounds/*")
    if home.truth.is_file() and (attackers := read_truth(home).byzantine):
        raise InputError(
            f"{path}: not a clean round: {home.truth.name} names {len(attackers)} Byzantine clients",
            "thresholds come from rounds in which nobody attacked",
        )
    return load_past_round(path)


def same_rules(rounds: Sequence[tuple[Path, Round]]) -> Params:
    """Return the last round's parameters; all must agree but for z, γ and chunk (`InputError` names the round)."""

    def key(p: Params) -> tuple[object, ...]:
        return p.n, p.d, p.b, p.f, p.score.value, p.detection.value

    last_path, last = rounds[-1]
    for path, round in rounds:
        if key(round.params) != key(last.params):
            raise InputError(
                f"{path}: expected (n, d, b, f, score, detection) = {key(last.params)} as in {last_path}, "
                f"found {key(round.params)}",
                "calibrate from rounds of one federation under one rule",
            )
    return last.params


def scores_of(q: Integers, params: Params) -> list[int]:
    """Return the exact scores of quantized updates of shape (n, d)."""
    return scores(squared_distances(q), params)
