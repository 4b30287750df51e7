"""What a client agrees to be judged by: pinned terms, or anything.

Must not know Flower: it looks at rounds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction

from zkkrum.errors import InputError
from zkkrum.protocol.params import Acceptance, Detection, Params, Round, Score, parse_fraction


@dataclass(frozen=True)
class Pinned:
    """The terms a client insists on: in every round that it commits to, and in every round that moved its model.

    Parameters
    ----------
    clip
        Quantization bound, exactly.
    n_min
        Fewest clients in a round. The fewer there are, the more an aggregate says of each.
    roster
        Who may be in a round. None lets anybody in: then nothing keeps the server from filling it with its own.
    b, f, m, score, detection, z, gamma, acceptance
        As `zkkrum.protocol.params.Params.of`; None for the protocol's default at a round's n. Thresholds are exact
        text (``"5"``, ``"9/2"``).
    one_message
        Also send the model with the training reply, before anybody has committed: nothing binds a client then before
        the server has seen what others sent.
    reopened
        Also commit a second time to what was opened already, where a round was void after its openings. **Colluders,
        the server among them, have then seen the honest updates and may have adapted theirs to them.**
    unproved
        Also train on the model after a round that was not proved (`prove_every`). **It can then be any model.**

    Raises
    ------
    InputError
        If a threshold is no decimal or fraction.

    Examples
    --------
    >>> terms = Pinned(clip=1.0, n_min=5, roster=None)
    >>> params = Params.of(n=6, d=10, z=Fraction(50))
    >>> terms.refuses(Round(params, 1.0, tuple("abcdef"), bytes(32)))
    'z: expected 5, found 50'
    """

    clip: float
    n_min: int
    roster: Collection[str] | None
    b: int = 12
    f: int | None = None
    m: int = 1
    score: Score = Score.KRUM_2017
    detection: Detection | None = None
    z: str | Fraction | None = None
    gamma: str | Fraction | None = None
    acceptance: Acceptance = Acceptance.UNFLAGGED
    one_message: bool = False
    reopened: bool = False
    unproved: bool = False

    def __post_init__(self) -> None:
        for name in ("z", "gamma"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, parse_fraction(value, name))

    def refuses(self, round: Round) -> str:
        """Return why a round is refused: what was expected and what was found; empty where it is accepted."""
        p = round.params
        if p.n < self.n_min:
            return f"n: expected at least {self.n_min} clients, found {p.n}"
        if self.roster is not None and (strangers := sorted(set(round.roster) - set(self.roster))):
            return f"roster: {strangers[0]!r} is not among those who may be in it ({len(strangers)} such)"
        if round.clip != self.clip:
            return f"clip: expected {self.clip:g}, found {round.clip:g}"
        if round.chain_id or any(round.contract):
            return "chain_id, contract: expected a round off chain"
        try:
            expected = self._params(p)
        except InputError as error:
            return f"the pinned terms do not fit this round: {error.message}"
        for name in ("b", "f", "m", "score", "detection", "z", "gamma", "acceptance"):
            ours, theirs = getattr(expected, name), getattr(p, name)
            if ours != theirs:
                return f"{name}: expected {getattr(ours, 'value', ours)}, found {getattr(theirs, 'value', theirs)}"
        return ""

    def _params(self, p: Params) -> Params:
        assert not isinstance(self.z, str)
        assert not isinstance(self.gamma, str)
        options = {"f": self.f, "m": self.m, "z": self.z, "gamma": self.gamma}
        rules = {"score": self.score, "detection": self.detection, "acceptance": self.acceptance}
        return Params.of(p.n, p.d, self.b, **options, **rules)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Anything:
    """No terms at all: whatever the server says goes. Use `accept_anything`, so that it is said in so many words."""

    one_message: bool = True
    reopened: bool = True
    unproved: bool = True

    def refuses(self, round: Round) -> str:
        """Refuse nothing."""
        return ""


accept_anything = Anything()
"""For experiments: a client that has no terms. The server may then change clip, thresholds and roster at will."""
