"""Commands of a round's life: simulate, open, commit, estimate, prove, verify, inspect.

Only parses, prints and exits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from zkkrum.cli.console import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    as_text,
    existing_file,
    existing_folder,
    existing_path,
    folder,
    given,
    jobs_option,
    json_option,
    labels_of,
    listing,
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
from zkkrum.errors import EXIT_INVALID, EXIT_UNEXPECTED, InputError
from zkkrum.evm import gas
from zkkrum.learning import simulate as simulation
from zkkrum.learning.attacks import ATTACKS
from zkkrum.proof import estimate as forecasts
from zkkrum.proof.bundle import Manifest, read_manifest
from zkkrum.proof.form import Form, why
from zkkrum.proof.jobs import require_private
from zkkrum.proof.material import Material, load
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.prove import Proved
from zkkrum.proof.prove import prove as prove_round
from zkkrum.proof.verify import Verification
from zkkrum.proof.verify import verify as verify_bundle
from zkkrum.proof.work import load_unfinished, work_path
from zkkrum.protocol.explain import explain
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.fitness import warnings
from zkkrum.protocol.forecast import SHARD_GATES, largest_chunk
from zkkrum.protocol.krum import Krum
from zkkrum.protocol.params import BITS, MAD_N_MIN, Acceptance, Detection, Params, Round, Score, parse_fraction
from zkkrum.protocol.poseidon2 import Hash, hash_many
from zkkrum.protocol.quantize import clipped_share, step
from zkkrum.rounds.directory import RoundDirectory, Truth
from zkkrum.rounds.models import check_subject, load_model, subject_of
from zkkrum.rounds.parties import Terms, commit_update, open_round
from zkkrum.rounds.roundfile import load_round, parse_bytes, save_round
from zkkrum.rounds.tensors import SUFFIXES
from zkkrum.rounds.updates import flatten, load_update
from zkkrum.toolchain import Toolchain

NATIVE_HASH_FROM = 20_000
"""Coordinates from which a client's commitment goes through bb (0.3 s instead of 4 for 10^6)."""

ATTACK_HELP = listing("Attacks", {name: attack.summary for name, attack in ATTACKS.items()})


TERMS_OPTIONS = (
    click.option("--bits", "-b", type=click.Choice([str(b) for b in BITS]), default="12", show_default=True),
    click.option(
        "--clip",
        type=POSITIVE,
        help="Quantization bound c [default, where updates are at hand: 4 rms of the median client].",
    ),
    click.option(
        "--tolerated",
        "-f",
        "f",
        type=NOT_NEGATIVE,
        help="Byzantine clients tolerated [default: floor((n-3)/2)].",
    ),
    click.option(
        "--select",
        "-m",
        "m",
        type=AT_LEAST_ONE,
        default=1,
        show_default=True,
        help="Clients selected (Multi-Krum).",
    ),
    click.option("--score", type=click.Choice([s.value for s in Score]), default="krum-2017", show_default=True),
    click.option(
        "--detection",
        type=click.Choice([d.value for d in Detection]),
        help=f"[default: mad; brackets where n < {MAD_N_MIN}]",
    ),
    click.option(
        "--accept",
        type=click.Choice([a.value for a in Acceptance]),
        default="unflagged",
        show_default=True,
        help="Who is aggregated: the unflagged, or the selected that are not flagged (-m n-f: Multi-Krum).",
    ),
    click.option("--z", help="Detection threshold, such as 5, 4.5 or 9/2."),
    click.option("--gamma", help="Least relative excess over the median (mad only)."),
    click.option(
        "--shard-gates",
        type=AT_LEAST_ONE,
        default=SHARD_GATES,
        show_default=True,
        help="Largest circuit; sets chunk.",
    ),
    click.option(
        "--max-memory",
        type=AT_LEAST_ONE,
        metavar="MB",
        help="Choose --shard-gates for this much memory a proof.",
    ),
)
"""What whoever opens a round decides."""


def terms_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `TERMS_OPTIONS`; the command receives them as one `Terms`."""

    @wraps(command)
    def with_terms(
        bits: str,
        clip: float | None,
        f: int | None,
        m: int,
        score: str,
        detection: str | None,
        accept: str,
        z: str | None,
        gamma: str | None,
        shard_gates: int,
        max_memory: int | None,
        **others: Any,
    ) -> Any:
        overrides = {
            "f": f,
            "m": m,
            "score": Score(score),
            "detection": Detection(detection) if detection else None,
            "z": parse_fraction(z, "--z") if z else None,
            "gamma": parse_fraction(gamma, "--gamma") if gamma else None,
            "acceptance": Acceptance(accept),
        }
        if max_memory:
            refuse_together("--max-memory chooses it", "shard_gates")
        ceiling = forecasts.gates_within(max_memory) if max_memory else shard_gates
        return command(terms=Terms(int(bits), clip, overrides, ceiling), **others)

    decorated: Callable[..., Any] = with_terms
    for option in reversed(TERMS_OPTIONS):
        decorated = option(decorated)
    return decorated


TERMS = ("bits", "clip", "f", "m", "score", "detection", "accept", "z", "gamma", "shard_gates", "max_memory")
"""The parameters of `TERMS_OPTIONS`."""


def _agree(round: Round, file: Path) -> None:
    """Refuse terms on the command line that a ``round.toml`` decides otherwise: they would be ignored."""
    p, typed = round.params, click.get_current_context().params
    decided: dict[str, tuple[object, Callable[[Any], object]]] = {
        "accept": (p.acceptance.value, str),
        "bits": (str(p.b), str),
        "clip": (round.clip, float),
        "f": (p.f, int),
        "m": (p.m, int),
        "score": (p.score.value, str),
        "detection": (p.detection.value, str),
        "z": (p.z, lambda text: parse_fraction(text, "--z")),
        "gamma": (p.gamma, lambda text: parse_fraction(text, "--gamma")),
    }
    for name in TERMS:
        for flag in given(name):
            if name not in decided:
                raise InputError(f"{flag}: {file} decides chunk already, as {p.chunk}", f"leave {flag} out")
            value, parse = decided[name]
            if parse(typed[name]) != value:
                raise InputError(f"{flag} {typed[name]}: {file} decides it otherwise, as {value}", f"leave {flag} out")


def _hash_for(d: int) -> Hash:
    """Return bb's hash for long vectors (installing the tools if needed), else the plain Python one."""
    if d < NATIVE_HASH_FROM:
        return hash_many
    return Toolchain.find(notify=say).bb.hash_many


def _reasons(done: Proved) -> dict[str, Any]:
    """Return why each client is flagged or not, in squared units of the update: for the server alone."""
    found = explain(done.outcome, done.round.params)
    unit = step(done.round.clip, done.round.params.b) ** 2
    threshold = found.threshold * unit
    clients = [
        {"client": client, "score": reason.score * unit, "threshold": threshold, "excess": reason.excess}
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


@click.command(epilog=ATTACK_HELP)
@click.argument("out", type=folder, default=Path("round"))
@click.option("--clients", "-n", type=AT_LEAST_ONE, default=10, show_default=True)
@click.option("--dimension", "-d", type=AT_LEAST_ONE, default=650, show_default=True)
@click.option("--byzantine", type=NOT_NEGATIVE, default=2, show_default=True, help="How many clients attack.")
@click.option("--attack", type=click.Choice(list(ATTACKS)), default="gaussian", show_default=True)
@click.option("--strength", type=float, help="Of the attack [default: its own].")
@click.option(
    "--heterogeneity", type=click.FloatRange(0), default=0.0, show_default=True, help="σ of log-normal norms."
)
@click.option("--seed", type=NOT_NEGATIVE, default=0, show_default=True, help="Of the updates; never of salts.")
@click.option("--format", "suffix", type=click.Choice([s[1:] for s in SUFFIXES]), default="npy", show_default=True)
@terms_options
@json_option
def simulate(
    out: Path,
    clients: int,
    dimension: int,
    byzantine: int,
    attack: str,
    strength: float | None,
    heterogeneity: float,
    seed: int,
    suffix: str,
    terms: Terms,
    as_json: bool,
) -> None:
    """Make a round directory OUT [default: ./round] of honest and Byzantine clients."""
    tensors, attackers = simulation.simulated_updates(
        clients, dimension, byzantine, attack, strength, heterogeneity, seed
    )
    names = simulation.client_names(clients)
    truth = Truth(byzantine=tuple(names[i] for i in attackers), attack=attack, strength=strength, seed=seed)
    round = simulation.write_round(out, tensors, truth, _hash_for(clients * dimension), terms, f".{suffix}")
    say_fallback(round.params)
    if as_json:
        print_json({"round": str(out), "context": hex_of(round.context), **truth.model_dump()})
        return
    tell(f"{out}: {clients} clients, d = {dimension}, {byzantine} Byzantine ({attack})")
    tell(f"next: zkkrum prove {out}")


@click.command("open")
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path), default=Path("round.toml"))
@click.option("--client", "roster", multiple=True, required=True, help="Id or 0x-address, in roster order. Repeatable.")
@click.option("--dimension", "-d", type=AT_LEAST_ONE, help="Values of an update, where no --base says.")
@click.option("--base", type=existing_file, help="The model that the round starts from: gives d and subject.")
@click.option("--subject", metavar="0x…", help="SHA-256 of tensor layout and base model [default: zero].")
@click.option("--chain-id", type=NOT_NEGATIVE, default=0, help="Chain where the verdict will be used.")
@click.option("--contract", metavar="0x…", help="Contract there [default: none, off chain].")
@terms_options
@json_option
def open_(
    out: Path,
    roster: tuple[str, ...],
    dimension: int | None,
    base: Path | None,
    subject: str | None,
    chain_id: int,
    contract: str | None,
    terms: Terms,
    as_json: bool,
) -> None:
    """Open a round: write its parameters and roster, with a fresh id, to OUT [default: ./round.toml]."""
    if out.exists():
        raise InputError(f"{out}: already exists", "a round id is never used twice: choose another file")
    if terms.clip is None:
        raise InputError(
            "--clip: expected a number, found none", "no update is known yet, so it cannot be chosen for you"
        )
    if base and not (dimension or subject):
        model = load_model(base)
        d, about = flatten(model, "model").vector.size, subject_of(model)
    elif dimension and not base:
        d, about = dimension, parse_bytes(subject, 32, "subject") if subject else bytes(32)
    else:
        raise click.UsageError("expected --base MODEL, or --dimension (with or without --subject)")
    round = open_round(
        roster,
        d,
        terms.clip,
        terms,
        subject=about,
        chain_id=chain_id,
        contract=parse_bytes(contract, 20, "contract") if contract else bytes(20),
    )
    save_round(out, round)
    say_fallback(round.params)
    if as_json:
        print_json({"round": str(out), "context": hex_of(round.context), "chunk": round.params.chunk})
        return
    tell(f"{out}: {round.params.n} clients, {round.params.chunks:,} chunk(s) of {round.params.chunk:,} coordinates")


@click.command()
@click.argument("update", type=existing_file)
@click.option("--round", "round_file", type=existing_file, default=Path("round.toml"), show_default=True)
@click.option("--client", help="Your id in the roster [default: the file's name].")
@click.option("--base", type=existing_file, help="The model you trained: refuse a round that does not start from it.")
@click.option("--out", "-o", type=folder, default=Path(), help="Round directory to write into [default: .].")
@json_option
def commit(update: Path, round_file: Path, client: str | None, base: Path | None, out: Path, as_json: bool) -> None:
    """Quantize UPDATE and commit to it: what a client runs.

    Writes commitments/CLIENT.json, to publish, and openings/CLIENT.npz, to send to the server once all n
    commitments are published: who opens earlier lets colluders adapt to it. A context is committed to once.
    """
    round = load_round(round_file)
    if base:
        check_subject(load_model(base), round)
    who = client or update.stem
    home = RoundDirectory(out)
    loaded = load_update(update, who)
    opening, commitment = commit_update(round, who, loaded, _hash_for(round.params.d))
    home.save_commitment(round, who, opening, commitment)
    clipped = clipped_share(loaded.vector, round.clip)
    report = {
        "client": who,
        "context": hex_of(round.context),
        "commitment": hex_of(commitment),
        "clipped": clipped,
        "left_out": loaded.left_out,
        "publish": str(home.commitments / f"{who}.json"),
        "send": str(home.openings / f"{who}.npz"),
    }
    if as_json:
        print_json(report)
        return
    tell(f"commitment of {who!r}: {report['commitment']}")
    tell(f"publish {report['publish']}; once all have published, send {report['send']} to the server")
    if loaded.left_out:
        tell(f"no part of the update, since they are buffers: {', '.join(loaded.left_out)}")
    if clipped:
        tell(f"{clipped:.2%} of the entries were clipped to ±{round.clip:g}")


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
        _agree(round, file)
        params = round.params
    elif clients and dimension:
        params = open_round(simulation.client_names(clients), dimension, terms.clip or 1.0, terms).params
        say_fallback(params)
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
    tell(f"reference  {found.points:,} points ({found.points * 64 / 2**20:.0f} MB)")
    each = f" here, {found.worker_megabytes:,} MB a worker" if found.worker_megabytes else ""
    tell(
        f"memory     about {found.megabytes:,} MB{each}; {found.compile_megabytes:,} MB while a shape is compiled first"
    )
    where = f"{found.workers} × {found.cores} cores" if found.workers > 1 else f"{found.cores} core(s)"
    tell(f"proving    about {found.seconds:,.0f} s on {where}: {found.time_class}")
    largest = largest_chunk(params)
    tell(f"one shard of at most {SHARD_GATES:,} gates holds {largest * params.n:,} committed values at n = {params.n}")
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
@click.option("--restart", is_flag=True, help="Drop an interrupted run and begin anew.")
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
        _agree(load_round(file), file)
    with Toolchain.find(notify=say) as tools, progress_bar() as progress:
        tools.ready()
        material = load_unfinished(directory, target, tools.bb.hash_many) if resume else None
        if material:
            _agree(material.round, work_path(target))
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
        tell(f"Floating point on the raw updates {words}; margin {exact.margin:.2g} of the largest score (private).")
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


@click.command()
@click.argument("bundle", type=existing_folder)
@click.option("--commitments", type=existing_folder, help="Commitments as the clients published them.")
@click.option("--round", "round_file", type=existing_file, help="The round.toml that was published.")
@click.option("--aggregate", type=existing_file, help="The aggregate.npz you were given: is it what was proved?")
@click.option("--expect", type=click.Choice(["honest", "malicious"]), help="Exit with 8 on the other verdict.")
@click.option("--strict", is_flag=True, help="Exit with 8 unless --commitments and --round were compared.")
@click.option("--rebuild", is_flag=True, help="Compile the circuits anew; take no key from the package or the cache.")
@jobs_option
@json_option
@click.pass_context
def verify(
    context: click.Context,
    bundle: Path,
    commitments: Path | None,
    round_file: Path | None,
    aggregate: Path | None,
    expect: str | None,
    strict: bool,
    rebuild: bool,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Verify BUNDLE, trusting nothing in it. Exit code 0: the proof is valid; 1: it is not.

    By itself a bundle only agrees with itself: give what the clients and the operator published, and --strict so that
    nothing passes without. It cannot tell who published what it is given.
    """
    with Toolchain.find(notify=say) as tools, progress_bar() as progress:
        found = verify_bundle(
            bundle,
            tools,
            commitments=commitments,
            round_file=round_file,
            aggregate=aggregate,
            jobs=jobs or 2,
            rebuild=rebuild,
            progress=progress,
        )
    print_verification(found, bundle, as_json, expect, strict)
    if not found.ok:
        context.exit(EXIT_INVALID)
    met = _as_expected(found, expect) and not (strict and found.not_compared)
    context.exit(0 if met else EXIT_UNEXPECTED)


def _as_expected(found: Verification, expect: str | None) -> bool:
    return expect is None or (found.verdict is not None and found.verdict.malicious == (expect == "malicious"))


def print_verification(
    found: Verification, bundle: Path, as_json: bool, expect: str | None = None, strict: bool = False
) -> None:
    """Print the answer of a verification, its statement, what it was compared with, and what it was not."""
    if as_json:
        verdict, roster = found.verdict, found.round.roster if found.round else ()
        accepted = verdict.accepted(found.round.params) if verdict and found.round else ()
        print_json(
            {
                "ok": found.ok,
                "reason": found.reason,
                "expected": expect,
                "as_expected": _as_expected(found, expect) if found.ok and expect else None,
                "strict": strict,
                "compared": {
                    "commitments": str(found.commitments) if found.commitments_compared else None,
                    "round": str(found.round_file) if found.round_compared else None,
                    "aggregate": str(found.aggregate_file) if found.aggregate_compared else None,
                },
                "not_compared": found.not_compared if found.ok else None,
                "statement": found.statement,
                "malicious": verdict.malicious if verdict else None,
                "flagged": [roster[i] for i in verdict.flagged] if verdict else None,
                "selected": [roster[i] for i in verdict.selected] if verdict else None,
                "form": found.form.value if found.form else "",
                "accepted": [roster[i] for i in accepted] if verdict else None,
                "aggregate": hex_of(found.aggregate) if found.ok else None,
                "claims": found.claims,
            },
            of="verify",
        )
        return
    if not found.ok:
        tell(f"INVALID: {found.reason}")
        return
    tell(f"VERIFIED: {bundle}")
    tell(found.statement)
    if not _as_expected(found, expect):
        tell(f"NOT AS EXPECTED: the proof is valid, but its verdict is not the expected {expect!r}.")
    if strict and found.not_compared:
        missing = " and ".join(f"--{name}" for name in found.not_compared)
        tell(f"NOT STRICT: the proof is valid, but not compared with outside sources: give {missing}.")
    if found.aggregate_compared:
        tell(
            "The values in the aggregate's file are the mean of the accepted clients' committed values. Which tensors "
            "they are is the sender's word, unless the round's subject or your own model says so."
        )
    else:
        tell("No aggregate was compared: give --aggregate to check the model update you were sent.")
    if found.commitments_by == "server":
        tell("By the bundle's own word the commitments are the server's, not the clients'.")
    if not (found.commitments_compared or found.round_compared):
        tell(
            "Nothing was compared with an outside source: this says that the bundle agrees with itself. "
            "Give --commitments and --round as the clients and the operator published them."
        )
    elif not found.commitments_compared:
        tell("The commitments were not compared with an outside source: give --commitments.")
    elif not found.round_compared:
        tell("The parameters were not compared with an outside source: give --round.")


@click.command()
@click.argument("bundle", type=existing_folder)
@json_option
def inspect(bundle: Path, as_json: bool) -> None:
    """Show what BUNDLE claims, a name and a value a line: verdict, parameters, commitments, public inputs.

    Nothing is checked: `zkkrum verify` does that. What it cannot check is marked "unverified": who committed, times,
    circuits and versions are the maker's own word.
    """
    try:
        manifest = read_manifest(bundle)
    except ValueError as error:
        raise InputError(f"{bundle}: its manifest is not valid: {error}") from error
    if as_json:
        print_json({**manifest.model_dump(), "unverified": sorted(manifest.unverified)})
        return
    for name, value in claims(manifest):
        tell(f"{name:<18} {value}")


def claims(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what a manifest claims, a name and a value each; names of clients are quoted as in statements."""
    said = manifest.verdict
    yield "claims", "not checked here: `zkkrum verify` does, but for what is unverified"
    yield "form", manifest.form
    yield "malicious", "yes" if said.malicious else "no"
    for name, clients in (("flagged", said.flagged), ("selected", said.selected)):
        yield name, ", ".join(map(repr, clients)) or "nobody"
    yield "accepted", ", ".join(map(repr, said.accepted)) or "nobody"
    for key, value in manifest.round.model_dump(exclude={"roster", "parameters"}).items():
        yield key, str(value)
    for key, value in manifest.round.parameters.model_dump().items():
        yield key, str(value)
    for entry in manifest.commitments:
        yield f"commitment[{entry.client!r}]", entry.commitment
    yield "aggregate", manifest.aggregate
    for word in manifest.public_inputs:
        yield f"input {word.name}", word.value
    yield "unverified", f"commitments by the {manifest.commitments_by}"
    yield "unverified", f"made with zkkrum {manifest.zkkrum}, noir {manifest.noir}, bb {manifest.bb}"
    for name, circuit in manifest.circuits.items():
        yield "unverified", f"{circuit.gates:,} gates of {name} ({circuit.crate})"
    for name, seconds in manifest.seconds.items():
        yield "unverified", f"{seconds:.3f} s of {name}"
