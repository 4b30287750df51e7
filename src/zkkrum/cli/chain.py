"""Commands for the chain: export, onchain-demo.

Only parses, prints and exits.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from zkkrum.cli.console import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    as_text,
    existing_folder,
    folder,
    json_option,
    print_json,
    refuse_together,
    say,
    show,
    spinner,
    table_of,
    tell,
)
from zkkrum.cli.rounds import ATTACK_HELP
from zkkrum.cli.terms import TERMS, params_of, terms_options
from zkkrum.errors import EXIT_DIFFERENT
from zkkrum.evm import demo
from zkkrum.evm import export as exporting
from zkkrum.evm.claims import ClaimState
from zkkrum.evm.solidity import CODE_SIZE_MAX
from zkkrum.evm.transactions import TRANSACTION_BYTES, TRANSACTION_GAS
from zkkrum.learning.attacks import ATTACKS
from zkkrum.rounds.parties import Terms
from zkkrum.rounds.roundfile import ParametersFile
from zkkrum.toolchain import Toolchain

plain_option = click.option(
    "--plain-verifier",
    is_flag=True,
    help="bb's unoptimized verifiers: three times the gas (under Osaka over four), and two libraries each to link.",
)


@click.command()
@click.argument("bundle", type=existing_folder, required=False)
@click.option("--clients", "-n", type=AT_LEAST_ONE, help="Instead of a bundle.")
@click.option("--dimension", "-d", type=AT_LEAST_ONE, help="Instead of a bundle.")
@click.option("--out", "-o", type=folder, default=Path("onchain"), show_default=True, help="Folder to write.")
@click.option("--next", "state", metavar="0x…", help="Only what is missing: what claimOf(round id, sender) answers.")
@click.option("--rehearse", is_flag=True, help="Try the transactions on an EVM in this process (extra zkkrum[evm]).")
@click.option("--check", "check", type=existing_folder, help="Render what this folder holds again, and compare.")
@plain_option
@terms_options
@json_option
@click.pass_context
def export(
    context: click.Context,
    bundle: Path | None,
    clients: int | None,
    dimension: int | None,
    out: Path,
    state: str | None,
    rehearse: bool,
    check: Path | None,
    plain_verifier: bool,
    terms: Terms,
    as_json: bool,
) -> None:
    """Write the Solidity verifiers, KrumRounds and, for a BUNDLE, its transactions in order, ready to be sent.

    For a BUNDLE, or for the constants given by --clients, --dimension and the options of `estimate`. Verifiers and
    contract are written together, bound to the same constants; --check exits with 9 if a folder is not exactly that,
    and shows what is filled into constructor.json.
    """
    if sum((bundle is not None, clients is not None or dimension is not None, check is not None)) != 1:
        raise click.UsageError("expected one of BUNDLE, --clients with --dimension, and --check")
    if bundle or check:
        refuse_together("the BUNDLE or the folder decides these; leave them out", *TERMS)
    if not bundle:
        refuse_together("only a BUNDLE has transactions", "state", "rehearse")
    if check:
        refuse_together("--check writes nothing, and the folder says which verifiers it has", "out", "plain_verifier")
    with spinner() as now, Toolchain.find(notify=say) as tools:
        if check:
            now("rendering again")
            differences = exporting.check(check, tools)
            filled = {} if differences else exporting.filled_in(check)
            if as_json:
                print_json({"ok": not differences, "differences": differences, "filled_in": filled})
            else:
                for line in differences or [f"{check}: exactly what this zkkrum renders"]:
                    tell(line)
                if filled:
                    tell("but for what somebody has filled into constructor.json, and only you can judge:")
                    for name, value in filled.items():
                        tell(f"  {name}: {json.dumps(value)}")
            context.exit(EXIT_DIFFERENT if differences else 0)
        now("rendering and compiling")
        if bundle:
            done = exporting.export_bundle(
                bundle,
                out,
                tools,
                optimized=not plain_verifier,
                state=ClaimState.parse(state) if state is not None else None,
                rehearsed=rehearse,
            )
        elif clients and dimension:
            done = exporting.export_shape(
                params_of(clients, dimension, terms), out, tools, optimized=not plain_verifier
            )
        else:
            raise click.UsageError("expected both --clients and --dimension")
    if as_json:
        print_json(
            {
                "folder": str(done.folder),
                "files": done.files,
                "runtime_bytes": done.sizes,
                "bound": done.bound,
                "claim": done.claim,
                "transactions": [vars(planned) for planned in done.transactions],
                "measured_gas": done.measured,
            }
        )
        return
    _print_exported(done)


def _print_exported(done: exporting.Exported) -> None:
    tell(f"{done.folder}: {len(done.files)} files; constructor.json says what is left to fill in")
    for name, size in done.sizes.items():
        tell(f"  {name:<20} {size:>6,} bytes of code (limit {CODE_SIZE_MAX:,})")
    if done.claim:
        tell(done.claim)
    if done.transactions:
        limits = f"limits {TRANSACTION_BYTES:,} and {TRANSACTION_GAS:,}"
        tell(f"transactions/, to be sent in this order from one address ({limits}):")
        numbers = ("bytes", "gas, forecast", *(["measured"] if done.measured else []))
        shown = table_of("file", "what", *numbers, numbers=numbers)
        for k, t in enumerate(done.transactions):
            measured = [f"{done.measured[k]:,}"] if done.measured else []
            shown.add_row(Path(t.file).name, t.title, f"{t.bytes:,}", f"{t.gas:,}", *measured)
        show(shown)
    if done.bound is False:
        tell(
            "the bundle's round names no chain and contract, or clients that are no addresses: "
            "KrumRounds will refuse it"
        )


@click.command("onchain-demo", epilog=ATTACK_HELP)
@click.option("--clients", "-n", type=AT_LEAST_ONE, default=10, show_default=True)
@click.option("--dimension", "-d", type=AT_LEAST_ONE, default=540, show_default=True)
@click.option(
    "--byzantine",
    type=NOT_NEGATIVE,
    default=2,
    show_default=True,
    help="How many clients attack; 0: honest round.",
)
@click.option("--attack", type=click.Choice(list(ATTACKS)), default="gaussian", show_default=True)
@click.option("--seed", type=NOT_NEGATIVE, default=0, show_default=True, help="Of the updates; never of salts.")
@click.option("--out", "-o", type=folder, help="Keep the bundle here.")
@click.option("--table", is_flag=True, help="Gas over n = 5, 10, 20, 40 instead, and Krum computed on chain.")
@plain_option
@terms_options
@json_option
def onchain_demo(
    clients: int,
    dimension: int,
    byzantine: int,
    attack: str,
    seed: int,
    out: Path | None,
    table: bool,
    plain_verifier: bool,
    terms: Terms,
    as_json: bool,
) -> None:
    """Run a round's whole life on an EVM: deploy, open, commit, prove, submit, slash; print the gas of each step.

    The EVM runs in this process (extra zkkrum[evm]); contracts, verifier and proof are the real ones.
    """
    if table:
        others = ("clients", "dimension", "byzantine", "attack", "seed", "out", "plain_verifier", *TERMS)
        refuse_together("--table measures shapes of its own", *others)
    with spinner() as now, Toolchain.find(notify=say) as tools:
        if table:
            lives, plain = demo.gas_table(tools, tell=now)
        else:
            done = demo.life(
                params_of(clients, dimension, terms),
                tools,
                byzantine=byzantine,
                attack=attack,
                seed=seed,
                clip=terms.clip,
                optimized=not plain_verifier,
                out=out,
                tell=now,
            )
    if table:
        report = {"lives": [_life(life) for life in lives], "plain": [vars(cost) for cost in plain]}
        if as_json:
            print_json(report)
        else:
            click.echo(demo.to_markdown(lives, plain))
        return
    if as_json:
        print_json(_life(done) | {"bundle": str(out) if out else None})
        return
    p = done.params
    gates = ", ".join(f"{name} {count:,}" for name, count in done.gates.items())
    tell(f"n = {p.n}, d = {p.d:,}, b = {p.b}: {p.score.value} + {p.detection.value}; gates: {gates}")
    shown = table_of("step", "gas", "calldata", "", numbers=("gas", "calldata"))
    for step in done.steps:
        calldata = f"{step.bytes:,}" if step.bytes else ""
        shown.add_row(step.name, f"{step.gas:,}" if step.gas else "-", calldata, as_text(step.note))
    show(shown)
    tell(f"the verdict: {sum(done.proving):,} gas in {len(done.proving)} transaction(s)")
    flagged = ", ".join(f"#{i + 1}" for i in done.verdict.flagged) or "nobody"
    tell(f"outcome on chain: {done.outcome.name.capitalize()}; flagged, by their place in the roster: {flagged}")
    if out:
        tell(f"bundle: {out}")


def _life(life: demo.Life) -> dict[str, Any]:
    p = life.params
    return {
        "parameters": ParametersFile.of(p).model_dump(),
        "gates": life.gates,
        "outcome": life.outcome.name.lower(),
        "malicious": life.verdict.malicious,
        "flagged": life.verdict.flagged,
        "selected": life.verdict.selected,
        "verify_gas": life.verify_gas,
        "runtime_bytes": life.sizes,
        "steps": [vars(step) for step in life.steps],
    }
