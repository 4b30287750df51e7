"""Where a rule is known to be unfit for a round: what to say to the server before it proves anything.

Must not know files. Nothing here changes a verdict; `zkkrum evaluate` measures how often the doubts are right
(docs/detection.md, "When `prove` warns").
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from fractions import Fraction

import numpy as np

from zkkrum.protocol.explain import explain
from zkkrum.protocol.krum import Outcome
from zkkrum.protocol.params import DEFAULT_GAMMA, Detection, Params, Round, default_z
from zkkrum.protocol.quantize import Integers

FEW_COORDINATES = 100
"""Below, uncalibrated `mad` flags honest clients of a clean round: in 4 % of the rounds at d = 100, in 26 % at 30."""
UNLIKE = Fraction(11, 10)
"""Clients are unlike where even the half of them that agree best in length spans more than this ratio."""
NARROW = 0.5
"""A flag is narrow where the score lies less than this share above the threshold, as in clean rounds of real data."""
BRACKETS_LIMIT = Fraction(28, 100)
"""Share of malicious clients from which `brackets` seldom flags anybody."""


class Doubt(Enum):
    """A reason to distrust a verdict before it is proved."""

    FEW_COORDINATES = "few coordinates"
    UNLIKE_CLIENTS = "unlike clients"
    NARROW_FLAG = "narrow flag"
    MANY_MALICIOUS = "many malicious"


def is_uncalibrated(params: Params) -> bool:
    """Return whether z and γ are the defaults, chosen for no federation in particular."""
    detection = params.detection
    return (params.z, params.gamma) == (default_z(params.n, detection), DEFAULT_GAMMA[detection])


def unlikeness(q: Integers) -> Fraction:
    """Return how unlike the clients are: the smallest square of the ratio in length that spans half of them.

    Parameters
    ----------
    q
        Quantized updates, shape (n, d).

    Returns
    -------
    Fraction
        The least ``|u_j|² / |u_i|²`` such that floor(n/2) + 1 clients are no shorter than u_i and no longer than u_j.
        However long or short a minority makes its updates, it cannot raise this above what the others span. Zero
        updates count as of length 1 step.

    Examples
    --------
    >>> unlikeness(np.array([[3], [3], [4], [4], [90]]))
    Fraction(16, 9)
    """
    squares = sorted(max(int(x), 1) for x in np.einsum("ij,ij->i", q, q, dtype=np.int64))
    half = len(squares) // 2
    return min(Fraction(squares[i + half], squares[i]) for i in range(len(squares) - half))


def doubts(params: Params, q: Integers, outcome: Outcome) -> tuple[Doubt, ...]:
    """Return what speaks against the round's detection rule on these updates.

    Parameters
    ----------
    params, q, outcome
        The round's, its quantized updates of shape (n, d), and the outcome of the reference on them.
    """
    flagged = outcome.verdict.flagged
    if params.detection is Detection.BRACKETS:
        many = max(params.f, len(flagged)) > BRACKETS_LIMIT * params.n
        return (Doubt.MANY_MALICIOUS,) if many else ()
    if not is_uncalibrated(params):
        return ()
    found = []
    if params.d < FEW_COORDINATES:
        found.append(Doubt.FEW_COORDINATES)
    elif unlikeness(q) > UNLIKE**2:  # on fewer coordinates lengths differ by chance alone
        found.append(Doubt.UNLIKE_CLIENTS)
    if narrow_flags(outcome, params):
        found.append(Doubt.NARROW_FLAG)
    return tuple(found)


def narrow_flags(outcome: Outcome, params: Params) -> tuple[int, ...]:
    """Return the flagged clients whose scores lie less than `NARROW` above the threshold."""
    if not outcome.verdict.flagged:
        return ()
    reasons = explain(outcome, params).clients
    return tuple(r.client for r in reasons if r.flagged and r.excess is not None and r.excess < NARROW)


def warnings(round: Round, q: Integers, outcome: Outcome) -> tuple[str, ...]:
    """Say the doubts about a round, one sentence a rule, with the command that helps.

    Parameters
    ----------
    round, q, outcome
        As in `doubts`.

    Returns
    -------
    tuple of str
        Empty where nothing is known against the rule.
    """
    p, found = round.params, doubts(round.params, q, outcome)
    if Doubt.MANY_MALICIOUS in found:
        return (_of_brackets(p, len(outcome.verdict.flagged)),)
    if not found:
        return ()
    narrow = [round.roster[i] for i in narrow_flags(outcome, p)]
    reasons = {
        Doubt.FEW_COORDINATES: f"d = {p.d} is below {FEW_COORDINATES} coordinates, where clean rounds are flagged by "
        "chance (one of four at d = 30)",
        Doubt.UNLIKE_CLIENTS: "the clients are unlike: in length even the half of them that agree best differ by "
        f"{100 * (float(unlikeness(q)) ** 0.5 - 1):.0f} %",
        Doubt.NARROW_FLAG: f"{_names(narrow)} would be flagged by less than {100 * NARROW:.0f} % above the threshold, "
        "as honest clients of real data are",
    }
    return (
        f"mad is not calibrated (z = {p.z}, gamma = {p.gamma}) and may flag honest clients here: "
        + "; ".join(reasons[doubt] for doubt in found)
        + "; `zkkrum calibrate CLEAN_ROUND… --round NEXT/round.toml` chooses thresholds from clean rounds.",
    )


def _of_brackets(p: Params, flagged: int) -> str:
    how_many = f"tolerates f = {p.f}" if p.f >= flagged else f"would flag {flagged}"
    rules = " ".join(f"--rule {p.score.value}/{detection.value}" for detection in (Detection.BRACKETS, Detection.MAD))
    return (
        f"brackets seldom flags anybody once more than {100 * float(BRACKETS_LIMIT):.0f} % of the clients are "
        f"malicious, and this round {how_many} of {p.n}: open the next one with --detection mad; "
        f"`zkkrum evaluate -n {p.n} -d {p.d} {rules}` compares them."
    )


def _names(clients: Sequence[str]) -> str:
    shown = ", ".join(map(repr, clients[:3]))
    return shown if len(clients) <= 3 else f"{shown} and {len(clients) - 3} others"
