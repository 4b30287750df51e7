"""Commands of whoever is given a bundle: verify, inspect.

Only parses, prints and exits.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from zkkrum.cli.console import (
    existing_file,
    existing_folder,
    existing_path,
    jobs_option,
    json_option,
    print_json,
    progress_bar,
    say,
    tell,
)
from zkkrum.errors import EXIT_INVALID, EXIT_UNEXPECTED
from zkkrum.proof.bundle import Manifest, load_manifest
from zkkrum.proof.verify import Verification
from zkkrum.proof.verify import verify as verify_bundle
from zkkrum.protocol.explain import rules
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.params import Round
from zkkrum.rounds.roundfile import RoundFile, load_round
from zkkrum.toolchain import Toolchain


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
    found: Verification,
    bundle: Path,
    as_json: bool,
    expect: str | None = None,
    strict: bool = False,
    bound: bool = False,
) -> None:
    """Print the answer of a verification, its statement, what it was compared with, and what it was not.

    ``bound``: the round's subject has been found to name the tensors of the aggregate.
    """
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
    sources = {
        "commitments": found.commitments if found.commitments_compared else None,
        "round": found.round_file if found.round_compared else None,
        "aggregate": found.aggregate_file if found.aggregate_compared else None,
    }
    if compared := [f"{name} ({source})" for name, source in sources.items() if source]:
        tell(f"Compared, and the same: {', '.join(compared)}.")
    if found.aggregate_compared:
        tell(
            "The values in the aggregate's file are the mean of the accepted clients' committed values."
            + ("" if bound else " Which tensors they are is the sender's word: `zkkrum aggregate --base` checks it.")
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
@click.argument("path", metavar="BUNDLE|ROUND.TOML", type=existing_path)
@json_option
def inspect(path: Path, as_json: bool) -> None:
    """Show what BUNDLE claims, or the terms in ROUND.TOML, a name and a value a line.

    Of a bundle: verdict, parameters, commitments, public inputs. Nothing is checked: `zkkrum verify` does that. What it
    cannot check is marked "unverified": who committed, times, circuits and versions are the maker's own word. Of a
    round.toml: what a client should read before it commits, with each rule in a sentence.
    """
    if path.is_file():
        _show_terms(load_round(path), as_json)
        return
    manifest = load_manifest(path)
    if as_json:
        print_json({**manifest.model_dump(), "unverified": sorted(manifest.unverified)})
        return
    for name, value in claims(manifest):
        tell(f"{name:<18} {value}")


def _show_terms(round: Round, as_json: bool) -> None:
    file = RoundFile.of(round)
    if as_json:
        print_json({**file.model_dump(), "context": hex_of(round.context)})
        return
    for name, value in terms(file):
        tell(f"{name:<18} {value}")
    tell(f"{'context':<18} {hex_of(round.context)}")
    for i, client in enumerate(round.roster):
        tell(f"{f'client #{i}':<18} {client!r}")
    for name, meaning in rules(round.params):
        tell(f"{name}: {meaning}")


def terms(file: RoundFile) -> Iterator[tuple[str, str]]:
    """Yield the terms of a round but its roster, a name and a value each."""
    for key, value in file.model_dump(exclude={"roster", "parameters"}).items():
        yield key, str(value)
    for key, value in file.parameters.model_dump().items():
        yield key, str(value)


def claims(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Yield what a manifest claims, a name and a value each; names of clients are quoted as in statements."""
    said = manifest.verdict
    yield "claims", "not checked here: `zkkrum verify` does, but for what is unverified"
    yield "form", manifest.form
    yield "malicious", "yes" if said.malicious else "no"
    for name, clients in (("flagged", said.flagged), ("selected", said.selected)):
        yield name, ", ".join(map(repr, clients)) or "nobody"
    yield "accepted", ", ".join(map(repr, said.accepted)) or "nobody"
    yield from terms(manifest.round)
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
