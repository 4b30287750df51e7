"""Commands of whoever proves a round: estimate, prove.

Only parses, prints and exits. What it prints of scores and thresholds is the server's alone.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from zkkrum.cli.console import (
    AT_LEAST_ONE,
    as_text,
    existing_folder,
    existing_path,
    folder,
    given,
    jobs_option,
    json_option,
    labels_of,
    print_json,
    progress_bar,
    refuse_together,
    say,
    say_fallback,
    show,
    table_of,
    tell,
    tell_labels,
)
from zkkrum.cli.terms import agree, params_of, terms_options
from zkkrum.errors import InputError
from zkkrum.evm import gas
from zkkrum.proof import estimate as forecasts
from zkkrum.proof.bundle import is_bundle
from zkkrum.proof.form import Form, why
from zkkrum.proof.jobs import require_private
from zkkrum.proof.material import Material, load
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.prove import Proved
from zkkrum.proof.prove import prove as prove_round
from zkkrum.proof.work import load_unfinished, work_path
from zkkrum.protocol.explain import explain
from zkkrum.protocol.fitness import warnings
from zkkrum.protocol.forecast import largest_chunk
from zkkrum.protocol.krum import Krum
from zkkrum.protocol.params import Params
from zkkrum.protocol.quantize import step
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.parties import Terms
from zkkrum.rounds.roundfile import load_round
from zkkrum.toolchain import Toolchain, points_available


@click.command()
@click.argument("round_path", metavar="[ROUND]", type=existing_path, required=False)
@click.option("--clients", "-n", type=AT_LEAST_ONE, help="Instead of a round.")
@click.option("--dimension", "-d", type=AT_LEAST_ONE, help="Instead of a round.")
@click.option("--workers", type=AT_LEAST_ONE, default=1, show_default=True, help="Machines of a Dask cluster.")
@click.option("--cores", type=AT_LEAST_ONE, default=2, show_default=True, help="Cores of each machine.")
@click.option("--on-chain", is_flag=True, help="Gas and transactions on chain too, and what larger shards save there.")
@terms_options
@json_option
def estimate(
    round_path: Path | None,
    clients: int | None,
    dimension: int | None,
    workers: int,
    cores: int,
    on_chain: bool,
    terms: Terms,
    as_json: bool,
) -> None:
    """Forecast gates, points, memory, time and sizes of ROUND, or of --clients and --dimension, running nothing."""
    if round_path:
        refuse_together("ROUND decides these; give one or the other", "clients", "dimension")
        file = round_path if round_path.is_file() else RoundDirectory(round_path).round_file
        round = load_round(file)
        agree(round, file)
        params = round.params
    elif clients and dimension:
        params = params_of(clients, dimension, terms)
    else:
        raise click.UsageError("expected a ROUND, or --clients and --dimension")
    found = forecasts.estimate(params, workers, cores)
    if as_json:
        more = {"on_chain": _on_chain(params)} if on_chain else {}
        print_json({**asdict(found), "chunk": params.chunk, "chunks": params.chunks, **more})
        return
    tell(f"n = {params.n}, d = {params.d:,}, b = {params.b}, {params.score.value} + {params.detection.value}")
    tell(f"form       {found.form}: {found.reason}")
    for name, count in found.circuits.items():
        tell(f"{name:<10} about {count:,} gates")
    tell(f"proofs     {found.proofs:,}, {found.proof_bytes:,} bytes in all")
    here = points_available()
    fetch = f"; here are {here:,}, `zkkrum setup --points {found.points}` fetches them" if found.points > here else ""
    tell(f"reference  {found.points:,} points ({found.points * 64 / 2**20:.2g} MB){fetch}")
    each = f" here, {found.worker_megabytes:,} MB a worker" if found.worker_megabytes else ""
    tell(
        f"memory     about {found.megabytes:,} MB{each}; {found.compile_megabytes:,} MB while a shape is compiled first"
    )
    where = f"{found.workers} × {found.cores} cores" if found.workers > 1 else f"{found.cores} core(s)"
    seconds = "less than 1 s" if found.seconds < 1 else f"about {found.seconds:,.0f} s"
    tell(f"proving    {seconds} on {where}: {found.time_class}")
    held = largest_chunk(params, terms.shard_gates) * params.n
    tell(f"one shard of at most {terms.shard_gates:,} gates holds {held:,} committed values at n = {params.n}")
    if on_chain:
        _print_on_chain(params)


def _on_chain(params: Params) -> dict[str, Any]:
    found = gas.forecast(params)
    return {
        **asdict(found),
        "transactions": found.transactions,
        "verdict_gas": found.verdict_gas,
        "osaka_verdict_gas": found.osaka_verdict_gas,
        "larger_shards": [asdict(larger) for larger in gas.larger_shards(params)],
    }


def _print_on_chain(params: Params) -> None:
    found = gas.forecast(params)
    tell("on chain, with bb's optimized verifiers, under Cancun and Prague:")
    shown = table_of("transaction", "gas", "calldata", "times", numbers=("gas", "calldata", "times"))
    for cost in (*found.deployment, *found.round, *found.verdict):
        shown.add_row(cost.title, f"{cost.gas:,}", f"{cost.bytes:,}" if cost.bytes else "", f"{cost.count:,}")
    show(shown)
    tell(
        f"the verdict: {found.verdict_gas:,} gas in {found.transactions:,} transaction(s), "
        f"{found.verdict_gas / (params.n * params.d):,.1f} a committed value; under Osaka {found.osaka_verdict_gas:,}"
    )
    if params.chunks > 1:
        for larger in gas.larger_shards(params):
            shards = f"{larger.shards:,} shards" if larger.shards > 1 else "one circuit"
            tell(f"  with {larger.points:,} points: {shards}, {larger.gas:,} gas")


@click.command()
@click.argument("directory", metavar="ROUND", type=existing_folder)
@click.option("--out", "-o", "bundle", type=folder, help="Bundle to write [default: ROUND/bundle].")
@jobs_option
@click.option("--scheduler", metavar="tls://…", help="Prove on a Dask cluster (extra zkkrum[dask]).")
@click.option(
    "--insecure-scheduler",
    is_flag=True,
    help="Let openings travel in the clear to a --scheduler elsewhere that is not tls://: on a network you trust.",
)
@click.option("--resume", is_flag=True, help="Finish an interrupted run.")
@click.option("--restart", is_flag=True, help="Begin anew: drop an interrupted run, replace a finished bundle.")
@click.option("--keep", is_flag=True, help="Keep the private work directory.")
@terms_options
@json_option
def prove(
    directory: Path,
    bundle: Path | None,
    jobs: int | None,
    scheduler: str | None,
    insecure_scheduler: bool,
    resume: bool,
    restart: bool,
    keep: bool,
    terms: Terms,
    as_json: bool,
) -> None:
    """Prove the verdict on ROUND and write a bundle anybody can verify.

    The options --bits … --max-memory are for a ROUND that has only updates/: elsewhere round.toml decides.
    """
    if resume:
        refuse_together("an interrupted run is either finished or dropped", "restart")
    if scheduler:
        refuse_together("a cluster's workers decide it; their threads, or `dask worker --resources proof=N`", "jobs")
        require_private(scheduler, insecure_scheduler)
    elif insecure_scheduler:
        raise click.UsageError("--insecure-scheduler: there is no --scheduler")
    target, file = bundle or directory / "bundle", RoundDirectory(directory).round_file
    if file.exists():
        agree(load_round(file), file)
    if is_bundle(target) and not restart and not work_path(target).exists():
        raise InputError(
            f"{target}: a bundle is there already",
            "--restart proves anew and replaces it, under another salt: an aggregate.npz that you gave away is then no "
            "longer what its A commits to; -o writes elsewhere",
        )
    with Toolchain.find(notify=say) as tools, progress_bar() as progress:
        tools.ready()
        material = load_unfinished(directory, target, tools.bb.hash_many) if resume else None
        if material:
            agree(material.round, work_path(target))
        material = material or load(directory, tools.bb.hash_many, terms, progress)
        if not file.exists():
            say_fallback(material.round.params)
        if scheduler and Form.of(material.round.params) is Form.ROUND:
            say("--scheduler: this round is one circuit, proved here; a cluster takes shards")
        if given("jobs") and Form.of(material.round.params) is Form.ROUND:
            say("--jobs: this round is one circuit and has one proof, which takes all cores")
        options = ProveOptions(
            jobs, scheduler, insecure_scheduler=insecure_scheduler, resume=resume, restart=restart, keep=keep
        )
        doubts = warn(material)
        done = prove_round(material, target, tools, options, progress)
    print_proved(done, as_json, doubts=doubts)


def warn(material: Material) -> tuple[str, ...]:
    """Say on standard error where the rule is known to be unfit for a round, before it is proved; return it, too."""
    found = warnings(material.round, material.q, Krum(material.round.params)(material.q))
    for sentence in found:
        say(f"warning: {sentence}")
    return found


def print_proved(
    done: Proved, as_json: bool, byzantine: tuple[str, ...] | None = None, doubts: tuple[str, ...] = ()
) -> None:
    """Print what came of proving; scores, thresholds and margin go to the server, never into the bundle."""
    verdict, exact = done.outcome.verdict, done.float_outcome
    agrees = exact.verdict == verdict if exact else None
    if as_json:
        print_json(
            {
                "bundle": str(done.bundle),
                "malicious": verdict.malicious,
                "flagged": [done.round.roster[i] for i in verdict.flagged],
                "selected": [done.round.roster[i] for i in verdict.selected],
                "commitments_by": "clients" if done.by_clients else "server",
                "accepted": [done.round.roster[i] for i in done.accepted],
                "form": Form.of(done.round.params).value,
                "reason": why(done.round.params),
                "aggregate": str(done.aggregate),
                "gates": done.gates,
                "proofs": done.proofs,
                "seconds": done.seconds,
                "clipped": done.clipped,
                "float_agrees": agrees,
                "float_margin": exact.margin if exact else None,
                "warnings": doubts,
                "private": _reasons(done),
                "work": str(done.kept) if done.kept else None,
            }
        )
        return
    _reason_table(done, byzantine)
    tell(done.verification.statement)
    if not done.by_clients:
        tell("The commitments are the server's own: no client has committed to anything.")
    if exact:
        words = "agrees" if agrees else f"DIFFERS (flagged {exact.verdict.flagged}, selected {exact.verdict.selected})"
        tell(
            f"Floating point on the raw updates {words}; its closest comparison is decided by {exact.margin:.2g} of "
            "the largest score (private)."
        )
    if clipped := {client: share for client, share in done.clipped.items() if share > 0.001}:
        tell("Clipped entries: " + ", ".join(f"{client!r} {share:.1%}" for client, share in clipped.items()))
    tell(f"form: {Form.of(done.round.params).value} ({why(done.round.params)})")
    times = ", ".join(f"{name} {value:.2f} s" for name, value in done.seconds.items())
    counts = ", ".join(f"{name} {count:,}" for name, count in done.gates.items())
    tell(f"{done.proofs} proof(s); gates by key: {counts}; {times}")
    if done.kept:
        tell(f"private work directory kept: {done.kept}")
    tell(f"verified; bundle: {done.bundle}")
    tell(f"aggregate of {len(done.accepted)} accepted clients, for the roster alone: {done.aggregate}")


def _reasons(done: Proved) -> dict[str, Any]:
    """Return why each client is flagged or not, in squared units of the update: for the server alone."""
    found = explain(done.outcome, done.round.params, step(done.round.clip, done.round.params.b))
    clients = [
        {"client": client, "score": reason.score, "threshold": found.threshold, "excess": reason.excess}
        for client, reason in zip(done.round.roster, found.clients, strict=True)
    ]
    return {"threshold_is": found.line, "flags_nobody": found.nobody, "clients": clients}


def _reason_table(done: Proved, byzantine: tuple[str, ...] | None = None) -> None:
    """Print the verdict client by client, and why: for the server alone."""
    verdict, private = done.outcome.verdict, _reasons(done)
    numbers = ("score", "threshold", "excess")
    table = table_of("client", "verdict", *numbers, *(["in truth"] if byzantine is not None else []), numbers=numbers)
    labels = labels_of(done.round.roster)
    for i, (client, reason) in enumerate(zip(done.round.roster, private["clients"], strict=True)):
        marks = (("[red]flagged[/]", verdict.flagged), ("[green]selected[/]", verdict.selected))
        said = ", ".join(mark for mark, clients in marks if i in clients)
        excess = "-" if reason["excess"] is None else f"{100 * reason['excess']:+.1f} %"
        row: list[Text | str] = [
            as_text(labels[client]),
            said,
            f"{reason['score']:.5g}",
            f"{reason['threshold']:.5g}",
            excess,
        ]
        if byzantine is not None:
            row.append("Byzantine" if client in byzantine else "")
        table.add_row(*row)
    show(table)
    tell_labels(labels)
    tell(
        f"Private, never in the bundle: the scores, and the threshold {private['threshold_is']} that they are "
        "compared with."
    )
    if private["flags_nobody"]:
        tell(f"Nobody is flagged, whatever the excess: {private['flags_nobody']}.")
