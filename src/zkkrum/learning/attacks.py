"""What Byzantine clients send, by attack id, and a model of what honest ones send.

Must not know rules, quantization or files. All randomness comes from the generator the caller hands in.
Attackers know everything: the honest updates of the round, and each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from zkkrum.errors import InputError

Vectors = NDArray[np.float64]

Send = Callable[[float], Vectors]
"""What all n clients send, shape (n, d), when the attackers play with a strength."""
Chooser = Callable[[Send, tuple[int, ...]], float]
"""Chooses the attackers' strength, from `Send` and their positions."""

SIGNAL = 0.5
"""Root mean square of the common direction in `honest_updates`, where the noise around it has 1."""


def honest_updates(n: int, d: int, heterogeneity: float, rng: np.random.Generator) -> Vectors:
    """Draw honest updates: one common direction, Gaussian noise around it, and unequal norms.

    ``u_i = exp(h·a_i) · (g + e_i)`` with g ~ N(0, 1/4), e_i ~ N(0, 1) per coordinate and a_i ~ N(0, 1) per client:
    log-normal norms, as unequal amounts of data or of local steps make them.

    Parameters
    ----------
    n, d
        Clients and coordinates.
    heterogeneity
        The h above (σ of the logarithm of the norms), >= 0; 0 is a homogeneous (IID) federation.
    rng
        Source of all randomness.

    Returns
    -------
    ndarray of float64, shape (n, d)
        Entries of root mean square about 1.1 at h = 0.

    Examples
    --------
    >>> honest_updates(3, 2, 0.0, np.random.default_rng(0)).shape
    (3, 2)
    """
    if not (isfinite(heterogeneity) and heterogeneity >= 0):
        raise InputError(f"heterogeneity must be finite and >= 0, found {heterogeneity}")
    common = SIGNAL * rng.standard_normal(d)
    norms = np.exp(heterogeneity * rng.standard_normal(n))
    updates: Vectors = norms[:, None] * (common + rng.standard_normal((n, d)))
    return updates


def _rms(honest: Vectors) -> float:
    return float(np.sqrt(np.mean(honest**2)))


def _gaussian(honest: Vectors, own: Vectors, strength: float, rng: np.random.Generator) -> Vectors:
    """N(0, s²) per coordinate, s = strength · rms of the honest entries (Blanchard et al. 2017, section 5)."""
    return np.asarray(strength * _rms(honest) * rng.standard_normal(own.shape))


def _sign_flip(honest: Vectors, own: Vectors, strength: float, rng: np.random.Generator) -> Vectors:
    """``-c`` times the own honest update, c = strength (Li et al. 2019, RSA)."""
    return -strength * own


def _scale(honest: Vectors, own: Vectors, strength: float, rng: np.random.Generator) -> Vectors:
    """``c`` times the own honest update, c = strength (model replacement, Bagdasaryan et al. 2020)."""
    return strength * own


def _repeat(row: Vectors, own: Vectors) -> Vectors:
    return np.tile(row, (len(own), 1))


def _ipm(honest: Vectors, own: Vectors, strength: float, rng: np.random.Generator) -> Vectors:
    """``-ε·µ``, ε = strength: inner-product manipulation (Xie et al. 2019, Fall of Empires)."""
    return _repeat(-strength * honest.mean(axis=0), own)


def alie_z(n: int, k: int) -> float:
    """Return ALIE's z for n clients of which k are Byzantine (Baruch et al. 2019, algorithm 3).

    ``z = Φ⁻¹((n - k - s) / (n - k))`` with ``s = floor(n/2 + 1) - k``: the attackers and the s honest clients
    beyond them are a majority. Few attackers get z <= 0, returned as 0: they send the mean. A majority would get
    infinity; the argument is then held at 1 - 1/(2(n - k)).

    Examples
    --------
    >>> round(alie_z(50, 24), 2)
    1.43
    """
    honest = n - k
    share = (n - n // 2 - 1) / honest
    return max(NormalDist().inv_cdf(min(share, 1 - 1 / (2 * honest))), 0.0) if share > 0 else 0.0


def _alie(honest: Vectors, own: Vectors, strength: float | None, rng: np.random.Generator) -> Vectors:
    """``µ - z·σ``, coordinate by coordinate, z = strength or `alie_z` (Baruch et al. 2019, A Little Is Enough)."""
    z = alie_z(len(honest) + len(own), len(own)) if strength is None else strength
    return _repeat(honest.mean(axis=0) - z * honest.std(axis=0), own)


def _min_max(honest: Vectors, own: Vectors, strength: float, rng: np.random.Generator) -> Vectors:
    """``µ - strength·γ·σ`` with the largest γ that keeps every honest update within the honest diameter.

    Shejwalkar & Houmansadr 2021 (Manipulating the Byzantine), perturbation "inverse standard deviation". γ is the
    smallest over the honest updates h of the larger root of ``|µ - γσ - h|² = R²``: no search is needed.
    """
    mean, deviation = honest.mean(axis=0), honest.std(axis=0)
    norms = (honest**2).sum(axis=1)
    diameter = max(float((norms[:, None] + norms[None, :] - 2 * honest @ honest.T).max()), 0.0)
    offsets = mean - honest
    a = float(deviation @ deviation)
    if a == 0:
        return _repeat(mean, own)
    b = -offsets @ deviation
    c = (offsets**2).sum(axis=1) - diameter
    gamma = float(((-b + np.sqrt(np.maximum(b * b - a * c, 0))) / a).min())
    return _repeat(mean - strength * gamma * deviation, own)


def _mimic(honest: Vectors, own: Vectors, strength: float, rng: np.random.Generator) -> Vectors:
    """A copy of one honest update, the same for all attackers (Karimireddy et al. 2022)."""
    return _repeat(honest[rng.integers(len(honest))], own)


def _sybil(honest: Vectors, own: Vectors, strength: float, rng: np.random.Generator) -> Vectors:
    """Gaussian around one common point as tight as the honest ones are around theirs.

    The point is ``µ + strength · rms · N(0, 1)`` per coordinate. Sent by a majority it is the original zk-Krum's
    figure for 51 %: the sybils are the crowd, and the honest clients the outliers.
    """
    point = honest.mean(axis=0) + strength * _rms(honest) * rng.standard_normal(own.shape[1])
    spread = float(np.sqrt(np.mean(honest.var(axis=0))))
    return np.asarray(point + spread * rng.standard_normal(own.shape))


@dataclass(frozen=True)
class Attack:
    """An attack by its id.

    Parameters
    ----------
    summary
        One line for help texts.
    strength
        Default strength; None where it follows from n and k, or (``mimic``) there is none.
    tunable
        Whether a strength may be given.
    craft
        (honest, own, strength, rng) to what the attackers send.
    """

    summary: str
    strength: float | None
    craft: Callable[..., Vectors]
    tunable: bool = True


ATTACKS: dict[str, Attack] = {
    "gaussian": Attack("N(0, s²) per coordinate, s = strength · rms of the honest entries", 10.0, _gaussian),
    "sign-flip": Attack("-strength · own honest update", 1.0, _sign_flip),
    "scale": Attack("strength · own honest update", 10.0, _scale),
    "ipm": Attack("-strength · honest mean (inner-product manipulation)", 0.5, _ipm),
    "alie": Attack("honest mean - strength · deviation (A Little Is Enough; strength from n and k)", None, _alie),
    "min-max": Attack("as far from the mean as the honest diameter allows, times strength", 1.0, _min_max),
    "mimic": Attack("a copy of one honest update", None, _mimic, tunable=False),
    "sybil": Attack("Gaussian around one common point, strength · rms away", 10.0, _sybil),
}


def attack(
    name: str, honest: Vectors, own: Vectors, rng: np.random.Generator, strength: float | None = None
) -> Vectors:
    """Return what the attackers send.

    Parameters
    ----------
    name
        A key of `ATTACKS`.
    honest
        Shape (h, d), h >= 1: the honest updates of the round.
    own
        Shape (k, d): what the attackers would have sent honestly.
    rng
        Source of all randomness.
    strength
        None for the attack's default.

    Returns
    -------
    ndarray of float64, shape (k, d)

    Raises
    ------
    InputError
        For an unknown attack or an unusable strength.

    Examples
    --------
    >>> ones = np.ones((2, 3))
    >>> attack("sign-flip", ones, ones[:1], np.random.default_rng(0)).tolist()
    [[-1.0, -1.0, -1.0]]
    """
    if name not in ATTACKS:
        raise InputError(f"attack: expected one of {', '.join(ATTACKS)}, found {name!r}")
    chosen = ATTACKS[name]
    if strength is not None and not chosen.tunable:
        raise InputError(f"attack {name}: has no strength, found {strength}")
    if strength is not None and not (isfinite(strength) and strength >= 0):
        raise InputError(f"attack {name}: strength must be finite and >= 0, found {strength}")
    if len(honest) == 0:
        raise InputError(f"attack {name}: needs at least one honest client")
    if len(own) == 0:
        return own.astype(np.float64)
    return chosen.craft(honest, own, chosen.strength if strength is None else strength, rng)


def attacked_round(
    updates: Vectors, k: int, name: str, rng: np.random.Generator, strength: float | Chooser | None = None
) -> tuple[Vectors, tuple[int, ...]]:
    """Let k clients, drawn at random, attack a round.

    Parameters
    ----------
    updates
        Shape (n, d): what all would have sent honestly.
    k
        Number of attackers, 0 <= k < n.
    name, rng, strength
        As in `attack`; a `Chooser` only for attacks that draw nothing at random.

    Returns
    -------
    sent
        Shape (n, d), a copy.
    byzantine
        The attackers' positions, ascending.
    """
    n = len(updates)
    if not 0 <= k < n:
        raise InputError(f"attackers: expected a number in [0, {n}), found {k}")
    byzantine = np.sort(rng.choice(n, size=k, replace=False))
    honest = np.setdiff1d(np.arange(n), byzantine)
    before, positions = updates.astype(np.float64), tuple(int(i) for i in byzantine)
    others, own = before[honest], before[byzantine]

    def send(strength: float | None) -> Vectors:
        sent = before.copy()
        sent[byzantine] = attack(name, others, own, rng, strength)
        return sent

    return send(strength(send, positions) if callable(strength) else strength), positions
