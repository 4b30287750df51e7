"""`zkkrum bench`: measure a grid of rounds and show what they cost.

Must not measure anything itself.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import click
from rich.table import Table

from zkkrum import bench as benchmark
from zkkrum.cli.console import (
    AT_LEAST_ONE,
    folder,
    jobs_option,
    json_option,
    print_json,
    progress_bar,
    refuse_together,
    say,
    say_fallback,
    show,
    table_of,
    tell,
)
from zkkrum.errors import ToolMissingError
from zkkrum.files import ScratchFolder, refuse_full, write_whole
from zkkrum.protocol.params import BITS, Score
from zkkrum.toolchain import Toolchain


@click.command()
@click.option("--clients", "-n", multiple=True, type=AT_LEAST_ONE, help="Clients; repeatable. Makes a grid of its own.")
@click.option("--dimension", "-d", multiple=True, type=AT_LEAST_ONE, help="Coordinates; repeatable.")
@click.option("--bits", "-b", multiple=True, type=click.Choice([str(b) for b in BITS]), help="Repeatable.")
@click.option("--quick", is_flag=True, help="Three small rounds.")
@click.option("--repeat", type=AT_LEAST_ONE, default=1, show_default=True, help="Keep the fastest of so many.")
@jobs_option
@click.option("--out", "-o", type=folder, default=Path("bench"), show_default=True, help="Folder for JSON and plot.")
@json_option
def bench(
    clients: tuple[int, ...],
    dimension: tuple[int, ...],
    bits: tuple[str, ...],
    quick: bool,
    repeat: int,
    jobs: int | None,
    out: Path,
    as_json: bool,
) -> None:
    """Measure gates, time, memory and proof size over a grid of rounds.

    Writes bench.json and bench.png. Without options the grid is that of docs/performance.md and takes some minutes.
    """
    if quick:
        refuse_together("--quick measures shapes of its own", "clients", "dimension", "bits")
    shapes: tuple[benchmark.Shape, ...] = benchmark.QUICK if quick else benchmark.GRID
    if clients or dimension or bits:
        grid = itertools.product(clients or (10,), dimension or (650,), map(int, bits or ("12",)))
        shapes = tuple(benchmark.Shape(n, d, b) for n, d, b in grid)
    refuse_full(out)
    found = []
    with Toolchain.find(notify=say) as tools, ScratchFolder() as scratch, progress_bar() as progress:
        for k, shape in enumerate(shapes):
            if not shape.original:
                say_fallback(benchmark.round_of(shape).params)
            name = f"n = {shape.n}, d = {shape.d:,}, b = {shape.b}"
            progress(name, 0, 0)
            progress("rounds", k, len(shapes))
            runs = [benchmark.measure(shape, tools, Path(scratch), jobs) for _ in range(repeat)]
            found.append(min(runs, key=lambda m: m.seconds.get("prove", 0.0)))
            progress(name, 1, 1)
            progress("rounds", k + 1, len(shapes))
    report = {
        "machine": benchmark.machine(),
        "original_gates": benchmark.ORIGINAL_GATES,
        "rounds": [m.to_json() for m in found],
    }
    write_whole(out / "bench.json", (json.dumps(report, indent=2) + "\n").encode())
    try:
        benchmark.plot(found, out / "bench.png")
    except ToolMissingError as error:
        say(f"no plot: {error}")
    if as_json:
        print_json(report)
        return
    _show(found)
    tell(", ".join(f"{key} {value}" for key, value in benchmark.machine().items()))
    tell(f"written to {out}")


def _show(found: list[benchmark.Measurement]) -> None:
    size = _numbers("n", "d", "b", "proofs", "gates", "gates/value")
    cost = _numbers("n", "d", "b", "prove s", "µs/value", "CPU s", "MB", "kB", "verify s")
    for m in found:
        head = (f"{'*' if m.score == Score.ALL_PAIRS.value else ''}{m.n}", f"{m.d:,}", str(m.b))
        size.add_row(*head, f"{m.proofs:,}", f"{m.total_gates:,}", f"{m.gates_per_value:,.2f}")
        if not m.skipped:
            cost.add_row(
                *head,
                f"{m.seconds['prove']:.2f}",
                f"{m.microseconds_per_value:,.0f}",
                f"{m.cpu_seconds:.1f}",
                f"{m.memory / 1e6:,.0f}",
                f"{m.proof_bytes / 1e3:,.0f}",
                f"{m.seconds['verify']:.2f}",
            )
    show(size)
    tell()
    show(cost)
    tell("prove: wall time, bundle verified; CPU: children included; MB: peak of all processes; kB: all proofs")
    if any(m.score == Score.ALL_PAIRS.value for m in found):
        tell("*: rules of the original circuit, all-pairs and brackets; the others krum-2017 and mad or brackets")
    for m in found:
        if m.skipped:
            tell(f"n = {m.n}, d = {m.d:,}: gates counted, not proved: {m.skipped}")
    original = ", ".join(f"{count:,} at n = {n}" for n, count in benchmark.ORIGINAL_GATES.items())
    tell(f"the original circuit at d = 2, without commitments: {original}")


def _numbers(*columns: str) -> Table:
    return table_of(*columns, numbers=columns)
