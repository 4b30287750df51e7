"""Commands around the learning itself: `evaluate`, `calibrate`, `experiment`, `report`.

Only parses, prints and exits; what is computed stands in the modules of the same names.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zkkrum import evaluate as evaluation
from zkkrum.attacks import ATTACKS
from zkkrum.files import write_whole

ATTACK_HELP = "\b\n" + "\n".join(f"{name}: {attack.summary}" for name, attack in ATTACKS.items())


@contextlib.contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Give a callback (done, total) that draws a bar on stderr; it vanishes at the end."""
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _write(path: Path | None, text: str) -> None:
    if path:
        write_whole(path, text.encode())
        click.echo(f"written: {path}", err=True)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


@click.command(epilog=ATTACK_HELP)
@click.option("--clients", "-n", multiple=True, type=int, default=(20,), show_default=True, help="Repeatable.")
@click.option("--dimension", "-d", type=int, default=1000, show_default=True)
@click.option("--bits", "-b", type=int, default=12, show_default=True)
@click.option("--byzantine", "-f", type=int, help="f, tolerated; default floor((n-3)/2).")
@click.option(
    "--share",
    multiple=True,
    type=click.FloatRange(0, 1, max_open=True),
    default=evaluation.SHARES,
    show_default=True,
    help="Share of malicious clients. Repeatable.",
)
@click.option(
    "--attack",
    multiple=True,
    type=click.Choice(list(ATTACKS)),
    default=tuple(ATTACKS),
    help="Default: all. Repeatable.",
)
@click.option("--strength", type=float, help="Of the attacks; default: each one's own.")
@click.option(
    "--heterogeneity",
    multiple=True,
    type=click.FloatRange(0),
    default=(0.0, 0.25),
    show_default=True,
    help="Sigma of the honest clients' log-normal norms. Repeatable.",
)
@click.option(
    "--rule",
    multiple=True,
    default=tuple(map(str, evaluation.RULES)),
    show_default=True,
    help="SCORE/DETECTION. Repeatable.",
)
@click.option(
    "--clip", type=float, default=evaluation.CLIP, show_default=True, help="In root mean squares of the honest entries."
)
@click.option("--rounds", type=int, default=100, show_default=True, help="Per combination.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--csv", "csv_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write a CSV file.")
@click.option(
    "--markdown", "markdown_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the tables."
)
@json_option
def evaluate(
    clients: tuple[int, ...],
    dimension: int,
    bits: int,
    byzantine: int | None,
    share: tuple[float, ...],
    attack: tuple[str, ...],
    strength: float | None,
    heterogeneity: tuple[float, ...],
    rule: tuple[str, ...],
    clip: float,
    rounds: int,
    seed: int,
    csv_path: Path | None,
    markdown_path: Path | None,
    as_json: bool,
) -> None:
    """Measure detection quality on simulated rounds, rule by rule.

    Who is flagged, rightly and wrongly, and how often Krum's choice is honest, over every combination of clients,
    share of attackers, attack and heterogeneity. Nothing is proved: the reference decides as the circuit would.
    """
    grid = evaluation.Grid(
        clients=clients,
        heterogeneity=heterogeneity,
        shares=share,
        attacks=attack,
        rules=tuple(map(evaluation.Rule.parse, rule)),
        d=dimension,
        b=bits,
        clip=clip,
        rounds=rounds,
        seed=seed,
        f=byzantine,
        strength=strength,
    )
    with progress_bar("rounds") as progress:
        cells = evaluation.evaluate(grid, progress)
    _write(csv_path, evaluation.to_csv(cells))
    _write(markdown_path, evaluation.to_markdown(cells))
    click.echo(json.dumps([asdict(c) for c in cells], indent=1) if as_json else evaluation.to_markdown(cells).rstrip())
