"""Detection quality of the rules over many simulated rounds: who is flagged, and who wins.

Must not know files, circuits or the command line. Rounds are drawn from `attacks.honest_updates`, quantized and
judged by the exact reference, so every figure is one of the rule that is proved.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from math import isfinite
from typing import NamedTuple

import numpy as np

from zkkrum.errors import InputError
from zkkrum.learning.attacks import ATTACKS, Vectors, attacked_round, honest_updates
from zkkrum.protocol.krum import detect, scores, select, squared_distances
from zkkrum.protocol.params import Detection, Params, Score
from zkkrum.protocol.quantize import quantize

NONE = "none"
"""The attack of a clean round."""

CLIP = 6.0
"""Default clip, in root mean squares of the round's honest entries: what a server knows from earlier rounds."""


@dataclass(frozen=True)
class Rule:
    """A score rule with a detection rule, at their default thresholds."""

    score: Score
    detection: Detection

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Parse ``krum-2017/mad``.

        Raises
        ------
        InputError
            If either part is unknown.

        Examples
        --------
        >>> str(Rule.parse("all-pairs/brackets"))
        'all-pairs/brackets'
        """
        score, _, detection = text.partition("/")
        try:
            return cls(Score(score), Detection(detection))
        except ValueError as error:
            raise InputError(f"rule: expected SCORE/DETECTION such as krum-2017/mad, found {text!r}") from error

    def __str__(self) -> str:
        return f"{self.score.value}/{self.detection.value}"

    def params(self, n: int, d: int, b: int, f: int | None) -> Params:
        """Return a round's parameters under this rule."""
        f = f if self.score is Score.KRUM_2017 else None
        return Params.of(n=n, d=d, b=b, f=f, score=self.score, detection=self.detection)


RULES = tuple(map(Rule.parse, ("krum-2017/mad", "krum-2017/brackets", "all-pairs/mad", "all-pairs/brackets")))
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.45)


class Scenario(NamedTuple):
    """What rounds are drawn from: n clients, d coordinates, k of the clients attack."""

    n: int
    d: int
    heterogeneity: float
    attack: str
    k: int


@dataclass(frozen=True)
class Grid:
    """What to evaluate: every combination of the tuples below.

    Parameters
    ----------
    clients, dimensions, heterogeneity, shares, attacks, rules
        Numbers n; coordinates d; σ of the log-normal norms; shares of malicious clients in [0, 1); attack ids; rules.
    b
        Bits.
    clip
        In root mean squares of the honest entries of the round.
    rounds
        Per combination.
    seed
        Equal seeds give equal tables, cell by cell, whatever else is in the grid.
    f
        None for the protocol's default.
    strength
        Of all attacks; None for their defaults.
    """

    clients: tuple[int, ...] = (20,)
    dimensions: tuple[int, ...] = (1000,)
    heterogeneity: tuple[float, ...] = (0.0, 0.25)
    shares: tuple[float, ...] = SHARES
    attacks: tuple[str, ...] = tuple(ATTACKS)
    rules: tuple[Rule, ...] = RULES
    b: int = 12
    clip: float = CLIP
    rounds: int = 100
    seed: int = 0
    f: int | None = None
    strength: float | None = None

    def __post_init__(self) -> None:
        def require(ok: bool, rule: str, found: object) -> None:
            if not ok:
                raise InputError(f"evaluate: {rule}, found {found}")

        require(self.rounds >= 1, "rounds must be >= 1", self.rounds)
        require(self.seed >= 0, "seed must be >= 0", self.seed)
        require(isfinite(self.clip) and self.clip > 0, "clip must be finite and > 0", self.clip)
        for share in self.shares:
            require(0 <= share < 1, "shares must be in [0, 1)", share)
        for name in self.attacks:
            require(name in ATTACKS, f"attacks must be among {', '.join(ATTACKS)}", name)
        for rule, n, d in product(self.rules, self.clients, self.dimensions):
            rule.params(n, d, self.b, self.f)

    def scenarios(self) -> list[Scenario]:
        """Return the scenarios in order; clean rounds are one scenario, not one per attack."""
        out: list[Scenario] = []
        for n, d, h in product(self.clients, self.dimensions, self.heterogeneity):
            counts = sorted({attackers(n, share) for share in self.shares})
            if 0 in counts:
                out.append(Scenario(n, d, h, NONE, 0))
            out += [Scenario(n, d, h, name, k) for name in self.attacks for k in counts if k]
        return out


def attackers(n: int, share: float) -> int:
    """Return the number of attackers that a share of n clients is, rounded half up.

    Examples
    --------
    >>> attackers(10, 0.45)
    5
    """
    return int(share * n + 0.5 + 1e-9)


@dataclass
class Tally:
    """Counts over rounds, from which the rates follow."""

    rounds: int = 0
    attackers: int = 0
    attackers_flagged: int = 0
    honest: int = 0
    honest_flagged: int = 0
    false_flag_rounds: int = 0
    malicious_rounds: int = 0
    winner_honest: int = 0

    def add(self, n: int, byzantine: Iterable[int], malicious: bool, flagged: Iterable[int], winner: int) -> None:
        """Count one round."""
        bad, out = set(byzantine), set(flagged)
        self.rounds += 1
        self.attackers += len(bad)
        self.attackers_flagged += len(bad & out)
        self.honest += n - len(bad)
        self.honest_flagged += len(out - bad)
        self.false_flag_rounds += bool(out - bad)
        self.malicious_rounds += malicious
        self.winner_honest += winner not in bad


@dataclass(frozen=True)
class Cell:
    """One line of the table: rates in [0, 1] of one rule in one scenario. ``k > f`` is beyond what Krum promises."""

    rule: str
    f: int
    n: int
    d: int
    heterogeneity: float
    attack: str
    k: int
    rounds: int
    attackers_flagged: float | None
    """Of all attackers; None in clean rounds."""
    honest_flagged: float
    """Of all honest clients."""
    false_flag_rounds: float
    """Rounds in which at least one honest client is flagged."""
    malicious_rounds: float
    """Rounds with ``malicious = 1``, attributed or not."""
    winner_honest: float
    """Rounds in which Krum's choice (m = 1) is honest."""

    @classmethod
    def of(cls, rule: Rule, f: int, scenario: Scenario, t: Tally) -> Cell:
        """Turn counts into rates."""
        return cls(
            rule=str(rule),
            f=f,
            **scenario._asdict(),
            rounds=t.rounds,
            attackers_flagged=t.attackers_flagged / t.attackers if t.attackers else None,
            honest_flagged=t.honest_flagged / t.honest,
            false_flag_rounds=t.false_flag_rounds / t.rounds,
            malicious_rounds=t.malicious_rounds / t.rounds,
            winner_honest=t.winner_honest / t.rounds,
        )


def judge(
    updates: Vectors, byzantine: Sequence[int], clip: float, params: Sequence[Params], tallies: Sequence[Tally]
) -> None:
    """Quantize updates of shape (n, d), apply each rule and count the outcome in its tally."""
    distances = squared_distances(quantize(updates, clip, params[0].b))
    cached: dict[Score, tuple[list[int], int]] = {}
    for p, tally in zip(params, tallies, strict=True):
        if p.score not in cached:
            s = scores(distances, p)
            cached[p.score] = s, select(s, 1)[0]
        s, winner = cached[p.score]
        outcome = detect(s, p)
        tally.add(p.n, byzantine, outcome.malicious, outcome.flagged, winner)


def _generator(*key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(key))


def evaluate(grid: Grid, progress: Callable[[int, int], None] | None = None) -> list[Cell]:
    """Run a grid.

    Parameters
    ----------
    grid
        What to run.
    progress
        Called with (rounds done, rounds in all) after each round.

    Returns
    -------
    list of Cell
        Scenario by scenario, one cell per rule. The honest updates of round r are the same under every attack.

    Examples
    --------
    >>> grid = Grid(clients=(8,), dimensions=(50,), heterogeneity=(0.0,), shares=(0.25,), attacks=("scale",), rounds=3)
    >>> cells = evaluate(grid)
    >>> cells[0].rule, cells[0].attackers_flagged, cells[0].winner_honest
    ('krum-2017/mad', 1.0, 1.0)
    """
    scenarios, names = grid.scenarios(), [NONE, *ATTACKS]
    total, done, cells = len(scenarios) * grid.rounds, 0, []
    for scenario in scenarios:
        n, d, h, name, k = scenario
        params = [rule.params(n, d, grid.b, grid.f) for rule in grid.rules]
        tallies = [Tally() for _ in params]
        for r in range(grid.rounds):
            key = (grid.seed, r, n, d, round(h * 10**6))
            updates = honest_updates(n, d, h, _generator(*key))
            clip = grid.clip * float(np.sqrt(np.mean(updates**2)))
            byzantine: tuple[int, ...] = ()
            if k:
                generator = _generator(*key, names.index(name), k)
                updates, byzantine = attacked_round(updates, k, name, generator, grid.strength)
            judge(updates, byzantine, clip, params, tallies)
            done += 1
            if progress:
                progress(done, total)
        cells += [Cell.of(rule, p.f, scenario, t) for rule, p, t in zip(grid.rules, params, tallies, strict=True)]
    return cells


def to_csv(cells: Sequence[Cell]) -> str:
    """Return the cells as CSV, rates in full precision, an empty field for None."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [f.name for f in fields(Cell)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(c) for c in cells)
    return out.getvalue()


def percent(rate: float | None) -> str:
    """Return a rate as a percentage that never rounds to a clean 0 or 100.

    Examples
    --------
    >>> percent(0.0), percent(0.001), percent(0.999), percent(1.0), percent(None)
    ('0', '<1', '>99', '100', '-')
    """
    if rate is None:
        return "-"
    if 0 < rate < 0.005:
        return "<1"
    if 0.995 <= rate < 1:
        return ">99"
    return f"{100 * rate:.0f}"


def to_markdown(cells: Sequence[Cell]) -> str:
    """Return the cells as Markdown tables, one per score rule, the detection rules side by side.

    Under each detection rule, in percent: attackers flagged ("caught"), honest clients flagged ("honest"), rounds
    with at least one honest client flagged ("rounds"). Rows whose attackers outnumber the f of ``krum-2017`` are
    marked ``*``: there Krum promises nothing.
    """
    out = []
    for score in dict.fromkeys(c.rule.partition("/")[0] for c in cells):
        mine = [c for c in cells if c.rule.startswith(score + "/")]
        names = [rule.partition("/")[2] for rule in dict.fromkeys(c.rule for c in mine)]
        fixed = {"n": {c.n for c in mine}, "d": {c.d for c in mine}, "f": {c.f for c in mine}}
        shapes = [name for name, values in fixed.items() if len(values) > 1]
        caption = [f"{name} = {min(values)}" for name, values in fixed.items() if len(values) == 1]
        out.append(", ".join([f"**{score}**", *caption, f"{mine[0].rounds} rounds a row, percent\n"]))
        heads = [f"{name}: {x}" for name in names for x in ("caught", "honest", "rounds")]
        head = [*shapes, "heterogeneity", "attack", "attackers", *heads, "winner honest"]
        rows = []
        for key in dict.fromkeys((c.n, c.d, c.heterogeneity, c.attack, c.k) for c in mine):
            line = [c for c in mine if (c.n, c.d, c.heterogeneity, c.attack, c.k) == key]
            first = line[0]
            rates = [percent(x) for c in line for x in (c.attackers_flagged, c.honest_flagged, c.false_flag_rounds)]
            beyond = score == Score.KRUM_2017.value and first.k > first.f
            shape = [str(getattr(first, name)) for name in shapes]
            what = [f"{first.heterogeneity:g}", first.attack, f"{first.k}{'*' if beyond else ''}"]
            rows.append([*shape, *what, *rates, percent(first.winner_honest)])
        out.append(markdown_table(head, rows))
    return "\n".join(out)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned Markdown table, ending in a newline."""
    widths = [max(len(row[j]) for row in (head, *rows)) for j in range(len(head))]
    lines = [head, ["-" * w for w in widths], *rows]
    return "".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |\n" for line in lines)
