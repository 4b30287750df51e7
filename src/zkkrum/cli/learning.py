"""Commands around the learning itself: `evaluate`, `calibrate`, `experiment`, `report`.

Only parses, prints and exits; what is computed stands in the modules of the same names.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from zkkrum import calibrate as calibration
from zkkrum import evaluate as evaluation
from zkkrum.attacks import ATTACKS
from zkkrum.errors import InputError
from zkkrum.files import write_whole
from zkkrum.params import Detection
from zkkrum.rounds import RoundDirectory, load_round, save_round

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


@click.command()
@click.argument("rounds", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--max-false-flag",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Share of clean rounds in which flagging somebody is to be borne.",
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("calibration.toml"),
    show_default=True,
    help="Where z and gamma are written.",
)
@click.option(
    "--round",
    "round_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A round.toml nobody has committed under yet, to write them into.",
)
@click.option(
    "--attack",
    multiple=True,
    type=click.Choice(list(ATTACKS)),
    default=("gaussian", "sign-flip", "scale", "ipm"),
    show_default=True,
    help="Attacks to replay on the clean rounds, for the cost in detection. Repeatable.",
)
@click.option("--attackers", type=click.IntRange(0), help="Per replayed round; default f, at least 1. 0: no replay.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the replay.")
@json_option
def calibrate(
    rounds: tuple[Path, ...],
    max_false_flag: float,
    output: Path,
    round_file: Path | None,
    attack: tuple[str, ...],
    attackers: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Choose z and gamma from clean past ROUNDs, oldest first.

    The rounds must be of one federation, and nobody may have attacked in them: whatever they contain is taken for
    honest. The thresholds are validated by leaving each round out in turn.
    """
    if round_file and (found := RoundDirectory(round_file.parent).commitments).is_dir():
        raise InputError(
            f"{found}: clients have committed under this round.toml already", "thresholds belong in the next round"
        )
    with progress_bar("reading") as progress:
        loaded = []
        for path in rounds:
            loaded.append(calibration.load_clean_round(path))
            progress(len(loaded), len(rounds))
    params = calibration.same_rules([(path, round) for path, (round, _) in zip(rounds, loaded, strict=True)])
    result = calibration.calibrate([calibration.scores_of(q, params) for _, q in loaded], params, max_false_flag)
    k = max(params.f, 1) if attackers is None else attackers
    costs = []
    if k and attack:
        with progress_bar("replaying attacks") as progress:
            costs = calibration.cost(loaded, result, attack, k, seed, progress)
    head = f"# {result.rounds} clean rounds, at most {max_false_flag:g} of rounds with a false flag\n[parameters]\n"
    write_whole(output, (head + result.toml()).encode())
    if round_file:
        round = load_round(round_file)
        save_round(round_file, replace(round, params=replace(round.params, z=result.z, gamma=result.gamma)))
    if as_json:
        report = {
            **asdict(result),
            "z": calibration.decimal(result.z),
            "gamma": calibration.decimal(result.gamma),
            "cost": [asdict(c) for c in costs],
            "output": str(output),
        }
        click.echo(json.dumps(report, indent=1))
        return
    click.echo(_describe_calibration(result, params.detection, params.z, params.gamma))
    if costs:
        rows = [[c.attack, evaluation.percent(c.before), evaluation.percent(c.after)] for c in costs]
        click.echo(f"\nAttackers flagged when {k} of {params.n} clients attack these rounds, percent:\n")
        click.echo(evaluation.markdown_table(["attack", "before", "after"], rows))
    click.echo(f"written: {output}" + (f", {round_file}" if round_file else ""))


def _describe_calibration(c: calibration.Calibration, detection: Detection, z: object, gamma: object) -> str:
    mad = detection is Detection.MAD
    unit = "of the median above the median" if mad else "standard deviations above the mean"
    before, after = (f"{100 * x:.0f} %" if mad else f"{x:.2f}" for x in (c.excess_before, c.excess_after))
    lines = [
        f"z = {calibration.decimal(c.z)}, gamma = {calibration.decimal(c.gamma)} (before: {z}, {gamma})",
        f"False flags: in {c.false_before} of {c.rounds} clean rounds before; in {c.false_left_out} when each is "
        "judged by thresholds chosen from the others.",
        f"How sure: from {c.rounds} rounds, the rate is below {100 * c.rate_at_most:.1f} % at 95 % confidence "
        f"(Clopper-Pearson). To show {100 * c.target:g} % takes {c.rounds_needed} clean rounds without a false flag.",
        f"Price: a score is flagged from {after} {unit}, before from {before}.",
    ]
    if c.extrapolated:
        basis = "a log-normal fit of the largest excess per round" if mad else "the largest excess seen"
        lines.append(f"So few rounds do not reach {100 * c.target:g} % by counting: the thresholds rest on {basis}.")
    if c.trend < 0.05:
        lines.append(
            f"The excess drifts over these rounds (Mann-Kendall p = {c.trend:.3f}): old rounds tell little of the "
            "next; calibrate on the latest, and again."
        )
    return "\n".join(lines)
