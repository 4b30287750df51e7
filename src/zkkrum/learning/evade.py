"""Attackers that know the rule and its thresholds: the largest strength at which it still lets them through.

Must not know files or the command line. They see everything (the honest updates, each other, the parameters of the
round) and ask the very rule in force, on quantized and clipped values, as the server will.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from zkkrum.errors import InputError
from zkkrum.learning.attacks import ATTACKS, Chooser, Send, Vectors
from zkkrum.protocol.krum import Krum
from zkkrum.protocol.params import Acceptance, Params
from zkkrum.protocol.quantize import quantize

LARGEST = 128.0
"""Attackers look no further: clipping leaves nothing to gain."""
HALVINGS = 12
"""So often is the strength halved in search of one that passes: down to 1/32."""
BISECTIONS = 10
"""Between a strength that passes and its double, which does not: to a tenth of a percent."""
EVASIVE = ("scale", "sign-flip")
"""Attacks that can be tuned so: their strength is a length, and they draw nothing at random."""


class Goal(str, Enum):
    """What attackers that know the rule make sure of; written after an attack's name, as in ``scale:unflagged``."""

    UNFLAGGED = "unflagged"
    """None of them is flagged."""
    ACCEPTED = "accepted"
    """As many of them are accepted as can be at once: what counts under ``selected``."""


Strength = float | Goal | None
"""A number, a goal from which it is found anew in every round, or None for the attack's default."""


def parse_attack(text: str, known: Sequence[str] = tuple(ATTACKS)) -> tuple[str, Strength]:
    """Return name and strength of ``NAME``, ``NAME:STRENGTH`` or ``NAME:GOAL``.

    Raises
    ------
    InputError
        For an unknown name, a strength that is neither a number nor a goal, or an attack that has none.

    Examples
    --------
    >>> parse_attack("sign-flip:4"), parse_attack("mimic")
    (('sign-flip', 4.0), ('mimic', None))
    >>> parse_attack("scale:unflagged")
    ('scale', <Goal.UNFLAGGED: 'unflagged'>)
    """
    name, colon, strength = text.partition(":")
    if name not in known:
        raise InputError(f"attack: expected one of {', '.join(known)}, found {name!r}")
    if not colon:
        return name, None
    if strength in {goal.value for goal in Goal}:
        if name not in EVASIVE:
            raise InputError(f"attack {name}: cannot be tuned to be {strength}, only {', '.join(EVASIVE)} can")
        return name, Goal(strength)
    try:
        return name, float(strength)
    except ValueError:
        goals = " or ".join(goal.value for goal in Goal)
        raise InputError(f"attack {name}: expected a number, {goals} after the colon, found {strength!r}") from None


def largest(passes: Callable[[float], bool]) -> float:
    """Return the largest strength that passes, 0 where none does.

    Whatever passes need not be an interval (far outliers inflate the deviation they are measured by under
    ``brackets``): strengths are halved from `LARGEST` on until one passes, and the gap above it is bisected.

    Examples
    --------
    >>> round(largest(lambda x: x < 3), 2), largest(lambda x: False)
    (3.0, 0.0)
    """
    strength = LARGEST
    for _ in range(HALVINGS):
        if passes(strength):
            break
        strength /= 2
    else:
        return 0.0
    if strength == LARGEST:
        return strength
    low, high = strength, 2 * strength
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class Evasion:
    """Finds the strength for one rule: call it as a `zkkrum.learning.attacks.Chooser`.

    Parameters
    ----------
    params, clip
        Of the round: the rule in force.
    goal
        What the attackers make sure of.
    """

    params: Params
    clip: float
    goal: Goal

    def __call__(self, send: Send, byzantine: tuple[int, ...]) -> float:
        """Return the largest strength at which the attackers reach their goal, 0 where none is.

        Who wants to be accepted and cannot have all in gives up one after the other.
        """
        k, p = len(byzantine), self.params
        if self.goal is Goal.UNFLAGGED:
            return self._largest(send, byzantine, k)
        possible = min(k, p.m) if p.acceptance is Acceptance.SELECTED else k
        for count in range(possible, 0, -1):
            if found := self._largest(send, byzantine, count):
                return found
        return 0.0

    def _largest(self, send: Send, byzantine: Sequence[int], count: int) -> float:
        return largest(lambda strength: self._through(send(strength), byzantine) >= count)

    def _through(self, sent: Vectors, byzantine: Sequence[int]) -> int:
        """Return how many attackers are let through when updates of shape (n, d) are sent."""
        p = self.params
        verdict = Krum(p)(quantize(sent, self.clip, p.b)).verdict
        if self.goal is Goal.UNFLAGGED:
            return len(set(byzantine) - set(verdict.flagged))
        return len(set(byzantine) & set(verdict.accepted(p)))


def play(strength: Strength, params: Params, clip: float, found: list[float]) -> float | Chooser | None:
    """Return a strength as attacks take it: a goal becomes a chooser under the rule in force.

    Parameters
    ----------
    strength
        As `parse_attack` returns it.
    params, clip
        Of the round.
    found
        Receives every strength that is found for a goal.
    """
    if not isinstance(strength, Goal):
        return strength
    evasion = Evasion(params, clip, strength)

    def choose(send: Send, byzantine: tuple[int, ...]) -> float:
        found.append(evasion(send, byzantine))
        return found[-1]

    return choose
