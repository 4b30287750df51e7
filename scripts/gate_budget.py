"""The gate budget: exact counts of `bb gates` against what is recorded, the hard limits and the forecasts.

    python scripts/gate_budget.py             exit 1 if a circuit grew, breaks a limit, or its forecast is off
    python scripts/gate_budget.py --update    record the counts in scripts/gate_budget.json (limits still hold)

The integration tests run the check, so a circuit cannot grow unnoticed. One that shrank passes: record it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from zkkrum.proof.build import build, gates
from zkkrum.proof.circuit import Circuit, round_circuit, shard_circuit, verdict_circuit
from zkkrum.proof.shapes import LENET5
from zkkrum.protocol.forecast import round_gates, shard_gates, verdict_gates
from zkkrum.protocol.params import Acceptance, Detection, Params, Score
from zkkrum.toolchain import Toolchain

RECORDED = Path(__file__).with_suffix(".json")
FORECAST_TOLERANCE = 0.005
"""Coordinates of LeNet-5: the verdict depends on d only through the width of a distance."""


@dataclass(frozen=True)
class Entry:
    """A circuit of the budget; ``limit`` is one that must never be raised."""

    circuit: Circuit
    forecast: int
    limit: int | None = None


def original(n: int, d: int, b: int) -> Params:
    """Return parameters under the original zk-Krum's rules."""
    return Params.of(n, d, b, score=Score.ALL_PAIRS, detection=Detection.BRACKETS)


def of_round(params: Params, limit: int | None = None) -> Entry:
    return Entry(round_circuit(params), round_gates(params), limit)


def of_shard(n: int, coordinates: int, b: int, limit: int) -> Entry:
    params = Params.of(n, 2 * coordinates, b, chunk=coordinates)
    return Entry(shard_circuit(params, coordinates), shard_gates(params, coordinates), limit)


def of_verdict(
    n: int, limit: int | None = None, b: int = 12, detection: Detection = Detection.MAD, d: int = LENET5
) -> Entry:
    params = Params.of(n, d, b, detection=detection)
    sharded = replace(params, chunk=params.pack)  # the verdict does not depend on the chunk, but on there being shards
    return Entry(verdict_circuit(sharded), verdict_gates(sharded), limit)


# Limits were set with the design, 1 % above its prototype, and must never be raised; what circuits take is recorded.
ENTRIES = {
    "round n=5 d=3 b=12": of_round(Params.of(5, 3)),
    "round n=6 d=2 b=12 all-pairs brackets": of_round(original(6, 2, 12)),
    "round n=6 d=3 b=16 all-pairs mad": of_round(Params.of(6, 3, 16, score=Score.ALL_PAIRS)),
    "round n=6 d=40 b=8 krum-2017 brackets": of_round(Params.of(6, 40, 8, detection=Detection.BRACKETS)),
    "round n=10 d=100 b=10 m=4": of_round(Params.of(10, 100, 10, m=4)),
    "round n=10 d=496 b=8": of_round(Params.of(10, 496, 8)),
    "round n=10 d=589 b=8": of_round(Params.of(10, 589, 8)),
    "round n=10 d=504 b=12": of_round(Params.of(10, 504, 12)),
    "round n=10 d=567 b=12": of_round(Params.of(10, 567, 12)),
    "round n=10 d=650 b=12": of_round(Params.of(10, 650, 12), limit=29_768),
    "round n=10 d=650 b=12 selected m=7": of_round(
        Params.of(10, 650, 12, m=7, acceptance=Acceptance.SELECTED), limit=29_778
    ),
    "round n=10 d=540 b=14": of_round(Params.of(10, 540, 14), limit=28_194),
    "round n=10 d=594 b=14": of_round(Params.of(10, 594, 14)),
    "round n=20 d=100 b=12": of_round(Params.of(20, 100)),
    "round n=20 d=200 b=12": of_round(Params.of(20, 200), limit=24_608),
    "round n=50 d=2 b=14 all-pairs brackets": of_round(original(50, 2, 14), limit=18_996),
    "shard n=10 k=684 b=14": of_shard(10, 684, 14, limit=32_360),
    "shard n=10 k=806 b=8": of_shard(10, 806, 8, limit=29_522),
    "shard n=40 k=168 b=12": of_shard(40, 168, 12, limit=28_064),
    "verdict n=10": of_verdict(10, limit=3_405),
    "verdict n=20": of_verdict(20, limit=7_763),
    "verdict n=40": of_verdict(40, limit=19_249),
    "verdict n=49": of_verdict(49),
    "verdict n=49 d=650": of_verdict(49, d=650),  # limbs of 14 bits, the last one short
    "verdict n=30 d=650 brackets": of_verdict(30, d=650, detection=Detection.BRACKETS),
    "verdict n=10 b=14 brackets": of_verdict(10, b=14, detection=Detection.BRACKETS),
}


@dataclass(frozen=True)
class Slope:
    """Gates per further committed value between two sizes whose sponges end alike."""

    smaller: str
    larger: str
    values: int
    limit: float

    def of(self, found: Mapping[str, int]) -> float:
        return (found[self.larger] - found[self.smaller]) / self.values


SLOPES = (
    Slope("round n=10 d=496 b=8", "round n=10 d=589 b=8", 10 * (589 - 496), 3.60),
    Slope("round n=10 d=504 b=12", "round n=10 d=567 b=12", 10 * (567 - 504), 4.05),
    Slope("round n=10 d=540 b=14", "round n=10 d=594 b=14", 10 * (594 - 540), 4.26),
)


def recorded() -> dict[str, int]:
    """Return the recorded budgets."""
    found: dict[str, int] = json.loads(RECORDED.read_text())
    return found


def measure(tools: Toolchain) -> dict[str, int]:
    """Count every circuit, compiling what the cache does not have."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = pool.map(lambda entry: gates(build(entry.circuit, tools), tools), ENTRIES.values())
        return dict(zip(ENTRIES, counts, strict=True))


def problems(found: Mapping[str, int], budgets: Mapping[str, int]) -> list[str]:
    """Return a sentence for every budget, limit or forecast that does not hold."""
    wrong = []
    if set(budgets) != set(ENTRIES):
        wrong.append(f"not recorded, or no longer measured: {', '.join(sorted(set(budgets) ^ set(ENTRIES)))}")
    for name, entry in ENTRIES.items():
        count = found[name]
        if count > budgets.get(name, count):
            wrong.append(f"{name}: grew from {budgets[name]:,} to {count:,} gates")
        if entry.limit is not None and count > entry.limit:
            wrong.append(f"{name}: {count:,} gates are more than the limit {entry.limit:,}")
        if abs(entry.forecast - count) > FORECAST_TOLERANCE * count:
            wrong.append(f"{name}: the forecast {entry.forecast:,} is off by more than 0.5 % of {count:,}")
    for slope in SLOPES:
        if (value := slope.of(found)) > slope.limit:
            wrong.append(f"{slope.smaller} → {slope.larger}: {value:.3f} gates a value, limit {slope.limit}")
    return wrong


def table(found: Mapping[str, int], budgets: Mapping[str, int]) -> str:
    """Return what was measured."""
    lines = [f"{'circuit':<42} {'gates':>7} {'budget':>7} {'limit':>7} {'forecast':>9}"]
    for name, entry in ENTRIES.items():
        off = 100 * (entry.forecast / found[name] - 1)
        budget, limit = budgets.get(name, "-"), entry.limit or ""
        lines.append(f"{name:<42} {found[name]:>7} {budget:>7} {limit:>7} {off:>+8.2f}%")
    lines += [f"{s.smaller} → {s.larger}: {s.of(found):.3f} gates a value (limit {s.limit})" for s in SLOPES]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--update", action="store_true", help="record the counts as the new budgets")
    options = parser.parse_args()
    with Toolchain.find(notify=print) as tools:
        found = measure(tools)
    budgets = found if options.update else recorded()
    print(table(found, budgets))
    wrong = problems(found, budgets)
    for problem in wrong:
        print(problem, file=sys.stderr)
    if options.update and not wrong:
        RECORDED.write_text(json.dumps(found, indent=1) + "\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
