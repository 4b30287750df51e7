"""Commands around the learning itself: `evaluate`, `calibrate`, `experiment`.

Only parses, prints and exits; what is computed stands in the modules of the same names.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click

from zkkrum.cli.console import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    as_text,
    existing_file,
    existing_folder,
    folder,
    json_option,
    listing,
    new_file,
    on_terminal,
    print_json,
    progress_bar,
    say,
    say_fallback,
    show,
    show_rows,
    table_of,
    tell,
)
from zkkrum.errors import InputError, ToolMissingError
from zkkrum.files import write_whole
from zkkrum.learning import calibrate as calibration
from zkkrum.learning import evaluate as evaluation
from zkkrum.learning import experiment as experiments
from zkkrum.learning.attacks import ATTACKS
from zkkrum.learning.evade import EVASIVE
from zkkrum.learning.training import Training
from zkkrum.protocol.params import BITS, Acceptance, Detection
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.roundfile import load_round, save_round
from zkkrum.toolchain import Toolchain

ATTACK = "NAME[:STRENGTH]"
ATTACK_ROWS = {name: attack.summary for name, attack in ATTACKS.items()} | {
    f"{name}:unflagged, {name}:accepted": "the strongest that the rule still lets through" for name in EVASIVE
}
ATTACK_HELP = listing("Attacks", ATTACK_ROWS)


def _write(path: Path | None, content: str | bytes) -> None:
    if path:
        write_whole(path, content if isinstance(content, bytes) else content.encode())
        say(f"written: {path}")


@click.command(epilog=ATTACK_HELP)
@click.option("--clients", "-n", multiple=True, type=AT_LEAST_ONE, default=(20,), show_default=True, help="Repeatable.")
@click.option(
    "--dimension",
    "-d",
    multiple=True,
    type=AT_LEAST_ONE,
    default=(1000,),
    show_default=True,
    help="Repeatable.",
)
@click.option("--bits", "-b", type=click.Choice(list(map(str, BITS))), default="12", show_default=True)
@click.option(
    "--tolerated", "-f", "f", type=NOT_NEGATIVE, help="Byzantine clients tolerated [default: floor((n-3)/2)]."
)
@click.option(
    "--share",
    multiple=True,
    type=click.FloatRange(0, 1, max_open=True),
    default=evaluation.SHARES,
    show_default=True,
    help="Share of malicious clients. Repeatable.",
)
@click.option("--attack", multiple=True, default=tuple(ATTACKS), metavar=ATTACK, help="Default: all. Repeatable.")
@click.option("--strength", type=float, help="Of the attacks that state none; default: each one's own.")
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
    "--clip",
    type=POSITIVE,
    default=evaluation.CLIP,
    show_default=True,
    help="In root mean squares of the honest entries.",
)
@click.option(
    "--accept",
    type=click.Choice([a.value for a in Acceptance]),
    default=Acceptance.UNFLAGGED.value,
    show_default=True,
    help="Who is aggregated: the unflagged, or the selected that are not flagged (Multi-Krum, unless -m says else).",
)
@click.option("--select", "-m", "m", type=AT_LEAST_ONE, help="Clients selected; default n - f, Multi-Krum.")
@click.option("--rounds", type=AT_LEAST_ONE, default=100, show_default=True, help="Per combination.")
@click.option("--seed", type=NOT_NEGATIVE, default=0, show_default=True)
@click.option("--csv", "csv_path", type=new_file, help="Also write a CSV file.")
@click.option("--markdown", "markdown_path", type=new_file, help="Also write the tables as Markdown.")
@json_option
def evaluate(
    clients: tuple[int, ...],
    dimension: tuple[int, ...],
    bits: str,
    f: int | None,
    share: tuple[float, ...],
    attack: tuple[str, ...],
    strength: float | None,
    heterogeneity: tuple[float, ...],
    rule: tuple[str, ...],
    clip: float,
    accept: str,
    m: int | None,
    rounds: int,
    seed: int,
    csv_path: Path | None,
    markdown_path: Path | None,
    as_json: bool,
) -> None:
    """Measure detection quality on simulated rounds, rule by rule.

    Who is flagged, rightly and wrongly, how far the aggregate is drawn away, and how often Krum's choice is honest,
    over every combination of clients, share of attackers, attack and heterogeneity. Nothing is proved: the reference
    decides as the circuit would.
    """
    grid = evaluation.Grid(
        clients=clients,
        heterogeneity=heterogeneity,
        shares=share,
        attacks=attack,
        rules=tuple(map(evaluation.Rule.parse, rule)),
        dimensions=dimension,
        b=int(bits),
        clip=clip,
        rounds=rounds,
        seed=seed,
        f=f,
        strength=strength,
        acceptance=Acceptance(accept),
        m=m,
    )
    with progress_bar() as progress:
        cells = evaluation.evaluate(grid, progress)
    _write(csv_path, evaluation.to_csv(cells))
    _write(markdown_path, evaluation.to_markdown(cells))
    if as_json:
        print_json({"cells": [asdict(c) for c in cells]})
    else:
        _show_cells(cells)


HEADS = {
    "k": "attackers; * where they are more than the f of krum-2017, and Krum promises nothing",
    "caught": "attackers that are flagged",
    "accepted": "attackers whose updates are aggregated",
    "honest": "honest clients that are flagged",
    "rounds": "rounds in which an honest client is flagged",
    "warned": "rounds in which `zkkrum prove` warns",
    "error": "how far the aggregate is from the honest mean, relative to that mean",
    "nothing": "the same error of the mean of everybody, without any rule",
    "winner": "rounds in which the client that Krum selects is honest",
    "strength": "what attackers found who know the rule",
}
"""Columns of `zkkrum evaluate` on a terminal, and what they mean."""


def _show_cells(cells: Sequence[evaluation.Cell]) -> None:
    """Print cells: on a terminal a table for each rule and federation, elsewhere the Markdown that documents hold."""
    if not on_terminal():
        click.echo(evaluation.to_markdown(cells).rstrip())
        return
    tables: dict[str, list[evaluation.Cell]] = {}
    for c in cells:
        title = f"{c.rule}: n = {c.n}, d = {c.d:,}, f = {c.f}, heterogeneity {c.heterogeneity:g}"
        tables.setdefault(title, []).append(c)
    selected = cells[0].acceptance == Acceptance.SELECTED.value
    attacked, knowing = any(c.k for c in cells), any(c.strength is not None for c in cells)
    left_out = {"warned"} if attacked else {"k", "caught", "error", "nothing", "winner"}
    left_out |= {name for name, wanted in (("accepted", attacked and selected), ("strength", knowing)) if not wanted}
    heads = [name for name in HEADS if name not in left_out]
    for title, mine in tables.items():
        table = table_of("attack", *heads, numbers=heads)
        for c in mine:
            row = evaluation.to_row([c])
            named = {name: row.get(f"{c.rule.partition('/')[2]}: {name}", "") for name in heads}
            named |= {"k": row["attackers"], "nothing": row["undefended"], "winner": row["winner honest"]}
            table.add_row(c.attack, *(named[name] for name in heads))
        tell(title)
        show(table)
        tell()
    m = f" (m = {'/'.join(map(str, sorted({c.m for c in cells})))})" if selected else ""
    tell(f"Percent, over {cells[0].rounds} rounds a row. Aggregated: the {cells[0].acceptance}{m}.")
    for name in heads:
        tell(f"{name:<9} {HEADS[name]}")


@click.command(epilog=ATTACK_HELP)
@click.argument("rounds", nargs=-1, required=True, type=existing_folder)
@click.option(
    "--max-false-flag",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.01,
    show_default=True,
    help="Share of clean rounds in which flagging somebody is to be borne.",
)
@click.option(
    "--out",
    "-o",
    type=new_file,
    default=Path("calibration.toml"),
    show_default=True,
    help="Where z and gamma are written.",
)
@click.option(
    "--round",
    "round_file",
    type=existing_file,
    help="A round.toml nobody has committed under yet, to write them into.",
)
@click.option(
    "--attack",
    multiple=True,
    default=("gaussian", "sign-flip", "scale", "ipm", "scale:unflagged", "sign-flip:unflagged"),
    show_default=True,
    metavar=ATTACK,
    help="Attacks to replay on the clean rounds, for the price in detection. Repeatable.",
)
@click.option("--attackers", type=NOT_NEGATIVE, help="Per replayed round; default f, at least 1. 0: no replay.")
@click.option("--seed", type=NOT_NEGATIVE, default=0, show_default=True, help="Of the replay.")
@json_option
def calibrate(
    rounds: tuple[Path, ...],
    max_false_flag: float,
    out: Path,
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
    with progress_bar() as progress:
        loaded = []
        for path in rounds:
            loaded.append(calibration.load_clean_round(path))
            progress("rounds read", len(loaded), len(rounds))
    params = calibration.same_rules([(path, round) for path, (round, _) in zip(rounds, loaded, strict=True)])
    result = calibration.calibrate([calibration.scores_of(q, params) for _, q in loaded], params, max_false_flag)
    k = max(params.f, 1) if attackers is None else attackers
    costs = []
    if k and attack:
        with progress_bar() as progress:
            costs = calibration.cost(loaded, result, attack, k, seed, progress)
    head = f"# {result.rounds} clean rounds, at most {max_false_flag:g} of rounds with a false flag\n[parameters]\n"
    write_whole(out, (head + result.toml()).encode())
    if round_file:
        round = load_round(round_file)
        save_round(round_file, replace(round, params=replace(round.params, z=result.z, gamma=result.gamma)))
    if as_json:
        report = {
            **asdict(result),
            "z": calibration.decimal(result.z),
            "gamma": calibration.decimal(result.gamma),
            "cost": [asdict(c) for c in costs],
            "output": str(out),
        }
        print_json(report)
        return
    for line in _describe_calibration(result, params.detection, params.z, params.gamma):
        tell(line)
    if costs:
        tell()
        tell(f"When {k} of {params.n} clients attack these rounds, percent, before -> after:")
        tell()
        show_rows(["attack", "attackers flagged", "error", "strength"], _costs(costs), evaluation.markdown_table)
        tell(f"error: of the mean of the {params.acceptance.value}, relative to the honest clients' mean.")
    tell(f"written: {out}" + (f", {round_file}" if round_file else ""))


def _costs(costs: Sequence[calibration.Cost]) -> list[list[str]]:
    def change(pair: tuple[float, float]) -> str:
        return " -> ".join(map(evaluation.percent, pair))

    def strength(pair: tuple[float, float] | None) -> str:
        return f"{pair[0]:.2f} -> {pair[1]:.2f}" if pair else "-"

    return [[c.attack, change(c.flagged), change(c.error), strength(c.strength)] for c in costs]


def _describe_calibration(c: calibration.Calibration, detection: Detection, z: object, gamma: object) -> list[str]:
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
    return lines


EXPERIMENT_HELP = "\n\n".join(
    [
        listing("Attacks", ATTACK_ROWS | {"label-flip": "trained on flipped labels"}),
        listing("Aggregations", experiments.AGGREGATIONS),
    ]
)


@click.command(epilog=EXPERIMENT_HELP)
@click.argument("out", type=folder, default=Path("experiment"))
@click.option("--clients", "-n", type=AT_LEAST_ONE, default=10, show_default=True)
@click.option("--attackers", "-k", type=NOT_NEGATIVE, default=3, show_default=True)
@click.option("--rounds", type=AT_LEAST_ONE, default=20, show_default=True)
@click.option(
    "--attack",
    multiple=True,
    default=experiments.ATTACKS,
    show_default=True,
    metavar=ATTACK,
    help="Repeatable.",
)
@click.option(
    "--aggregation",
    multiple=True,
    type=click.Choice(list(experiments.AGGREGATIONS)),
    default=tuple(experiments.AGGREGATIONS),
    help="Repeatable; default: all.",
)
@click.option(
    "--dirichlet",
    "alpha",
    type=POSITIVE,
    help="Non-IID split by Dirichlet(ALPHA); default: IID.",
)
@click.option(
    "--hidden", type=AT_LEAST_ONE, help="Width of a hidden layer; default: none (softmax regression, d = 650)."
)
@click.option("--epochs", type=AT_LEAST_ONE, default=2, show_default=True, help="Of local training.")
@click.option("--bits", "-b", type=click.Choice(list(map(str, BITS))), default="12", show_default=True)
@click.option("--clip", type=POSITIVE, default=1.0, show_default=True)
@click.option(
    "--tolerated", "-f", "f", type=NOT_NEGATIVE, help="Byzantine clients tolerated [default: floor((n-3)/2)]."
)
@click.option("--seed", type=NOT_NEGATIVE, default=0, show_default=True)
@click.option("--prove-every", type=NOT_NEGATIVE, default=0, help="Prove every K-th round of arms with a rule.")
@click.option("--no-plot", is_flag=True, help="Do not draw accuracy.png (needs zkkrum[plot]).")
@json_option
def experiment(
    out: Path,
    clients: int,
    attackers: int,
    rounds: int,
    attack: tuple[str, ...],
    aggregation: tuple[str, ...],
    alpha: float | None,
    hidden: int | None,
    epochs: int,
    bits: str,
    clip: float,
    f: int | None,
    seed: int,
    prove_every: int,
    no_plot: bool,
    as_json: bool,
) -> None:
    """Train on digits under attack, with and without defence; results into OUT [./experiment].

    Writes results.csv, results.json, accuracy.png (accuracy against round: honest clients only, attacked without
    defence, attacked with it) and, with --prove-every, bundles.
    """
    setup = experiments.Setup(
        clients=clients,
        attackers=attackers,
        rounds=rounds,
        attacks=attack,
        aggregations=aggregation,
        alpha=alpha,
        hidden=hidden,
        training=Training(epochs=epochs),
        b=int(bits),
        clip=clip,
        f=f,
        seed=seed,
    )
    say_fallback(setup.params(aggregation[0]))
    with contextlib.ExitStack() as stack:
        prove = None
        if prove_every:
            tools = stack.enter_context(Toolchain.find(notify=say))
            prove = experiments.prover(out / "bundles", setup, tools)
        progress = stack.enter_context(progress_bar())
        result = experiments.run(
            setup,
            prove=prove,
            prove_every=prove_every,
            progress=progress,
        )
    report = experiments.to_dict(setup, result)
    _write(out / "results.csv", experiments.to_csv(result))
    _write(out / "results.json", json.dumps(report, indent=1) + "\n")
    if not no_plot:
        try:
            _write(out / "accuracy.png", experiments.plot(setup, result))
        except ToolMissingError as error:
            say(f"no accuracy.png: {error}")
    if as_json:
        print_json(report)
        return
    tell("Test accuracy after the last rounds, percent (mean of three):")
    tell()
    _show_summary(*experiments.summary(setup, result))
    if proofs := sum(step.proof is not None for step in result.steps):
        tell()
        tell(f"{proofs} rounds proved and verified: {out / 'bundles'}")


def _show_summary(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a row for each attack, as in documents; on a terminal, which is too narrow, one for each aggregation."""
    if not on_terminal():
        click.echo(evaluation.markdown_table(head, rows).rstrip())
        return
    more = len(head) - 3  # what follows is of the detection rule alone
    table = table_of("attack", "aggregated", "accuracy", *head[more:], numbers=("accuracy", *head[more:]))
    for attack, *cells in rows:
        for how, accuracy in zip(head[1:more], cells, strict=False):
            if accuracy:
                mine = cells[more - 1 :] if how == experiments.UNFLAGGED else [""] * 3
                table.add_row(as_text(attack), how, accuracy, *mine)
    show(table)
