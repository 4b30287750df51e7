"""Detection quality of the rules over many simulated rounds: who is flagged, who is accepted, who wins, at what harm.

Must not know files, circuits or the command line. Rounds are drawn from `attacks.honest_updates`, quantized and
judged by the exact reference, so every figure is one of the rule that is proved.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from math import isfinite, sqrt
from typing import NamedTuple

import numpy as np

from zkkrum.errors import InputError
from zkkrum.learning.attacks import ATTACKS, Vectors, attacked_round, honest_updates
from zkkrum.learning.evade import Goal, parse_attack, play
from zkkrum.progress import Progress, silent
from zkkrum.protocol.fitness import doubts
from zkkrum.protocol.krum import Outcome, Verdict, detect, scores, select, squared_distances
from zkkrum.protocol.params import Acceptance, Detection, Params, Score
from zkkrum.protocol.quantize import Integers, quantize

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

    def params(
        self, n: int, d: int, b: int, f: int | None, acceptance: Acceptance = Acceptance.UNFLAGGED, m: int | None = None
    ) -> Params:
        """Return a round's parameters under this rule; m defaults to n - f, so that ``selected`` is Multi-Krum."""
        f = f if self.score is Score.KRUM_2017 else None
        default = Params.of(n=n, d=d, b=b, f=f, score=self.score, detection=self.detection)
        return replace(default, acceptance=acceptance, m=n - default.f if m is None else m)


RULES = tuple(Rule(score, detection) for score, detection in product(Score, Detection))
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
        Numbers n; coordinates d; σ of the log-normal norms; shares of malicious clients in [0, 1); attacks as
        `parse_attack` reads them; rules.
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
        Of the attacks that state none; None for their defaults.
    acceptance, m
        Who is aggregated; how many are selected, None for n - f.
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
    acceptance: Acceptance = Acceptance.UNFLAGGED
    m: int | None = None

    def __post_init__(self) -> None:
        def require(ok: bool, rule: str, found: object) -> None:
            if not ok:
                raise InputError(f"evaluate: {rule}, found {found}")

        require(self.rounds >= 1, "rounds must be >= 1", self.rounds)
        require(self.seed >= 0, "seed must be >= 0", self.seed)
        require(isfinite(self.clip) and self.clip > 0, "clip must be finite and > 0", self.clip)
        for share in self.shares:
            require(0 <= share < 1, "shares must be in [0, 1)", share)
        for text in self.attacks:
            name = parse_attack(text)[0]
            require(":" not in text or self.strength is None, f"one strength for {name}, not two", self.strength)
        for rule, n, d in product(self.rules, self.clients, self.dimensions):
            self.params(rule, n, d)

    def params(self, rule: Rule, n: int, d: int) -> Params:
        """Return the parameters of a round of n clients under a rule."""
        return rule.params(n, d, self.b, self.f, self.acceptance, self.m)

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


@dataclass(frozen=True, eq=False)
class Judged:
    """What one rule makes of one round; ``error`` and ``undefended`` as in `Cell`."""

    verdict: Verdict
    accepted: tuple[int, ...]
    winner: int
    doubtful: bool
    error: float
    undefended: float


@dataclass
class Tally:
    """Sums over rounds, from which the rates follow."""

    rounds: int = 0
    attackers: int = 0
    attackers_flagged: int = 0
    attackers_accepted: int = 0
    honest: int = 0
    honest_flagged: int = 0
    false_flag_rounds: int = 0
    malicious_rounds: int = 0
    warned_rounds: int = 0
    winner_honest: int = 0
    error: float = 0.0
    undefended: float = 0.0
    strengths: list[float] = field(default_factory=list)

    def add(self, n: int, byzantine: Iterable[int], judged: Judged) -> None:
        """Count one round."""
        bad, out = set(byzantine), set(judged.verdict.flagged)
        self.rounds += 1
        self.attackers += len(bad)
        self.attackers_flagged += len(bad & out)
        self.attackers_accepted += len(bad & set(judged.accepted))
        self.honest += n - len(bad)
        self.honest_flagged += len(out - bad)
        self.false_flag_rounds += bool(out - bad)
        self.malicious_rounds += judged.verdict.malicious
        self.warned_rounds += judged.doubtful
        self.winner_honest += judged.winner not in bad
        self.error += judged.error
        self.undefended += judged.undefended

    def rate(self, name: str) -> float:
        """Return a count as a share of the rounds."""
        return float(getattr(self, name)) / self.rounds

    def of_attackers(self, count: int) -> float | None:
        """Return a count as a share of all attackers; None where there are none."""
        return count / self.attackers if self.attackers else None


@dataclass(frozen=True)
class Cell:
    """One line of the table: rates in [0, 1] of one rule in one scenario. ``k > f`` is beyond what Krum promises."""

    rule: str
    f: int
    acceptance: str
    m: int
    n: int
    d: int
    heterogeneity: float
    attack: str
    k: int
    rounds: int
    attackers_flagged: float | None
    """Of all attackers; None in clean rounds."""
    attackers_accepted: float | None
    """Of all attackers, those that are aggregated; None in clean rounds."""
    honest_flagged: float
    """Of all honest clients."""
    false_flag_rounds: float
    """Rounds in which at least one honest client is flagged."""
    malicious_rounds: float
    """Rounds with ``malicious = 1``, attributed or not."""
    warned_rounds: float
    """Rounds in which ``prove`` warns that the rule may be unfit."""
    winner_honest: float
    """Rounds in which Krum's choice (m = 1) is honest."""
    error: float
    """Mean distance of the accepted clients' mean from the honest clients' mean, in lengths of the latter."""
    undefended: float
    """The same for the mean of everybody."""
    strength: float | None
    """Mean strength that attackers found who know the rule; None for other attacks."""

    @classmethod
    def of(cls, rule: Rule, params: Params, scenario: Scenario, t: Tally) -> Cell:
        """Turn counts into rates."""
        return cls(
            rule=str(rule),
            f=params.f,
            acceptance=params.acceptance.value,
            m=params.m,
            **scenario._asdict(),
            rounds=t.rounds,
            attackers_flagged=t.of_attackers(t.attackers_flagged),
            attackers_accepted=t.of_attackers(t.attackers_accepted),
            honest_flagged=t.honest_flagged / t.honest,
            false_flag_rounds=t.rate("false_flag_rounds"),
            malicious_rounds=t.rate("malicious_rounds"),
            warned_rounds=t.rate("warned_rounds"),
            winner_honest=t.rate("winner_honest"),
            error=t.rate("error"),
            undefended=t.rate("undefended"),
            strength=float(np.mean(t.strengths)) if t.strengths else None,
        )


def judge(
    updates: Vectors, byzantine: Sequence[int], clip: float, params: Sequence[Params], tallies: Sequence[Tally]
) -> None:
    """Quantize updates of shape (n, d), apply each rule and count the outcome in its tally."""
    q = quantize(updates, clip, params[0].b)
    distances = squared_distances(q)
    honest = [i for i in range(len(q)) if i not in set(byzantine)]
    length = float(np.linalg.norm(q[honest].mean(axis=0))) or 1.0
    undefended = _between_means(distances, range(len(q)), honest) / length
    cached: dict[Score, list[int]] = {}
    for p, tally in zip(params, tallies, strict=True):
        if p.score not in cached:
            cached[p.score] = scores(distances, p)
        s = cached[p.score]
        detection = detect(s, p)
        verdict = Verdict(detection.malicious, detection.flagged, select(s, p.m))
        accepted = verdict.accepted(p)
        doubtful = bool(doubts(p, q, Outcome(verdict, distances, tuple(s), detection)))
        error = _between_means(distances, accepted, honest) / length
        tally.add(p.n, byzantine, Judged(verdict, accepted, select(s, 1)[0], doubtful, error, undefended))


def _between_means(distances: Integers, some: Sequence[int], others: Sequence[int]) -> float:
    """Return the distance between the means of two sets of clients: -½ wᵀDw, w their weights, which sum to 0."""
    weights = np.zeros(len(distances))
    weights[list(some)] += 1 / len(some)
    weights[list(others)] -= 1 / len(others)
    return sqrt(max(float(-weights @ distances @ weights) / 2, 0.0))


def _generator(*key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(key))


def evaluate(grid: Grid, progress: Progress = silent) -> list[Cell]:
    """Run a grid.

    Parameters
    ----------
    grid
        What to run.
    progress
        Told after each round.

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
    scenarios = grid.scenarios()
    total, done, cells = len(scenarios) * grid.rounds, 0, []
    for scenario in scenarios:
        params = [grid.params(rule, scenario.n, scenario.d) for rule in grid.rules]
        tallies = [Tally() for _ in params]
        for r in range(grid.rounds):
            _play(grid, scenario, r, params, tallies)
            done += 1
            progress("rounds", done, total)
        cells += [Cell.of(rule, p, scenario, t) for rule, p, t in zip(grid.rules, params, tallies, strict=True)]
    return cells


def _play(grid: Grid, scenario: Scenario, r: int, params: Sequence[Params], tallies: Sequence[Tally]) -> None:
    """Draw round r of a scenario and judge it by every rule."""
    n, d, h, attack, k = scenario
    key = (grid.seed, r, n, d, round(h * 10**6))
    updates = honest_updates(n, d, h, _generator(*key))
    clip = grid.clip * float(np.sqrt(np.mean(updates**2)))
    if not k:
        judge(updates, (), clip, params, tallies)
        return
    name, strength = parse_attack(attack)
    chance = (*key, [NONE, *ATTACKS].index(name), k)
    if not isinstance(strength, Goal):
        given = grid.strength if strength is None else strength
        sent, byzantine = attacked_round(updates, k, name, _generator(*chance), given)
        judge(sent, byzantine, clip, params, tallies)
        return
    for p, tally in zip(params, tallies, strict=True):  # each rule is sent what it just lets through
        chosen = play(strength, p, clip, tally.strengths)
        sent, byzantine = attacked_round(updates, k, name, _generator(*chance), chosen)
        judge(sent, byzantine, clip, [p], [tally])


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
    text = f"{100 * rate:.0f}"
    if text == "0" and rate > 0:
        return "<1"
    return ">99" if text == "100" and rate < 1 else text


def to_markdown(cells: Sequence[Cell]) -> str:
    """Return the cells as Markdown tables, one per score rule, the detection rules side by side.

    Under each detection rule, in percent: attackers flagged ("caught"), attackers accepted under ``selected``
    ("accepted"), honest clients flagged ("honest"), rounds with at least one honest client flagged ("rounds"), and the
    mean "error" of what is aggregated, relative to the honest mean; "strength" is what attackers found who know the
    rule. Tables of clean rounds show "warned" (rounds in which ``prove`` warns) instead of what only attackers have;
    where attackers send every rule the same, "undefended" is the error of the mean of everybody.
    Rows whose attackers outnumber the f of ``krum-2017`` are marked ``*``: there Krum promises nothing.
    """
    out = []
    for score in dict.fromkeys(c.rule.partition("/")[0] for c in cells):
        mine = [c for c in cells if c.rule.startswith(score + "/")]
        fixed = {"n": {c.n for c in mine}, "d": {c.d for c in mine}, "f": {c.f for c in mine}}
        caption = [f"{name} = {min(values)}" for name, values in fixed.items() if len(values) == 1]
        m = "/".join(map(str, sorted({c.m for c in mine})))
        selected = mine[0].acceptance == Acceptance.SELECTED.value
        caption.append(f"aggregated: {mine[0].acceptance}" + (f", m = {m}" if selected else ""))
        out.append(", ".join([f"**{score}**", *caption, f"{mine[0].rounds} rounds a row, percent\n"]))
        lines: dict[tuple[object, ...], list[Cell]] = {}
        for c in mine:
            lines.setdefault((c.n, c.d, c.heterogeneity, c.attack, c.k), []).append(c)
        rows = [to_row(line) for line in lines.values()]
        head = [name for name, values in fixed.items() if len(values) > 1] + _shown(mine)
        out.append(markdown_table(head, [[row[name] for name in head] for row in rows]))
    return "\n".join(out)


def _shown(cells: Sequence[Cell]) -> list[str]:
    """Return the columns of a table besides n, d and f, by name in `to_row`."""
    rules = [rule.partition("/")[2] for rule in dict.fromkeys(c.rule for c in cells)]
    if not any(c.k for c in cells):
        return ["heterogeneity", *(f"{rule}: {x}" for rule in rules for x in ("honest", "rounds", "warned"))]
    selected = cells[0].acceptance == Acceptance.SELECTED.value
    knowing = any(c.strength is not None for c in cells)
    columns = ["caught", *(["accepted"] if selected else []), "honest", "rounds", "error"]
    columns += ["strength"] if knowing else []
    after = [] if knowing else ["undefended", "winner honest"]  # who knows the rule sends each rule something else
    return ["heterogeneity", "attack", "attackers", *(f"{rule}: {x}" for rule in rules for x in columns), *after]


def to_row(line: Sequence[Cell]) -> dict[str, str]:
    """Return a line of a table, column by column: one scenario under one score rule, a cell for each detection rule.

    All columns of `to_markdown` are in it, whether a table shows them or not.
    """
    first = line[0]
    beyond = first.rule.startswith(Score.KRUM_2017.value) and first.k > first.f
    row = {"n": str(first.n), "d": str(first.d), "f": str(first.f), "heterogeneity": f"{first.heterogeneity:g}"}
    row |= {"attack": first.attack, "attackers": f"{first.k}{'*' if beyond else ''}"}
    row |= {"undefended": percent(first.undefended), "winner honest": percent(first.winner_honest)}
    for c in line:
        rates = {
            "caught": percent(c.attackers_flagged),
            "accepted": percent(c.attackers_accepted),
            "honest": percent(c.honest_flagged),
            "rounds": percent(c.false_flag_rounds),
            "warned": percent(c.warned_rounds),
            "error": percent(c.error),
            "strength": "-" if c.strength is None else f"{c.strength:.2f}",
        }
        row |= {f"{c.rule.partition('/')[2]}: {name}": text for name, text in rates.items()}
    return row


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return an aligned Markdown table, ending in a newline."""
    widths = [max(len(row[j]) for row in (head, *rows)) for j in range(len(head))]
    lines = [head, ["-" * w for w in widths], *rows]
    return "".join("| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |\n" for line in lines)
