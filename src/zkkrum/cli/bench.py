"""`zkkrum bench`: measure a grid of rounds and show what they cost.

Must not measure anything itself.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path

import click
from rich.console import Console
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
)
from zkkrum.errors import ToolMissingError
from zkkrum.files import write_whole
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
    found = []
    with Toolchain.find(notify=say) as tools, tempfile.TemporaryDirectory() as scratch, progress_bar() as progress:
        for k, shape in enumerate(shapes):
            progress(f"n = {shape.n}, d = {shape.d:,}, b = {shape.b}", 0, 0)
            progress("rounds", k, len(shapes))
            runs = [benchmark.measure(shape, tools, Path(scratch), jobs) for _ in range(repeat)]
            found.append(min(runs, key=lambda m: m.seconds.get("prove", 0.0)))
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
    click.echo(", ".join(f"{key} {value}" for key, value in benchmark.machine().items()))
    click.echo(f"written to {out}")


def _show(found: list[benchmark.Measurement]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("n", "d", "b", "proofs", "gates", "/value", "prove s", "µs/value", "CPU s", "MB", "kB", "verify s"):
        table.add_column(column, justify="right", no_wrap=True)
    for m in found:
        mark = "*" if m.score == Score.ALL_PAIRS.value else ""
        head = [
            f"{mark}{m.n}",
            f"{m.d:,}",
            str(m.b),
            f"{m.proofs:,}",
            f"{m.total_gates:,}",
            f"{m.gates_per_value:,.2f}",
        ]
        if m.skipped:
            table.add_row(*head, "-")
            continue
        table.add_row(
            *head,
            f"{m.seconds['prove']:.2f}",
            f"{m.microseconds_per_value:,.0f}",
            f"{m.cpu_seconds:.1f}",
            f"{m.memory / 1e6:,.0f}",
            f"{m.proof_bytes / 1e3:,.0f}",
            f"{m.seconds['verify']:.2f}",
        )
    console = Console(highlight=False)
    if not console.is_terminal:  # a file or a pipe is as wide as it needs
        console.width = 200
    console.print(table)
    click.echo("prove: wall time, bundle verified; CPU: children included; MB: peak of all processes; kB: all proofs")
    if any(m.score == Score.ALL_PAIRS.value for m in found):
        click.echo("*: rules of the original circuit, all-pairs and brackets; the others krum-2017 and mad or brackets")
    for m in found:
        if m.skipped:
            click.echo(f"n = {m.n}, d = {m.d:,}: gates counted, not proved: {m.skipped}")
    original = ", ".join(f"{count:,} at n = {n}" for n, count in benchmark.ORIGINAL_GATES.items())
    click.echo(f"the original circuit at d = 2, without commitments: {original}")
