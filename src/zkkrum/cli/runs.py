"""Commands around the model that comes back: aggregate, audit.

Only parses, prints and exits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from zkkrum.cli.console import (
    as_text,
    existing_file,
    existing_folder,
    jobs_option,
    json_option,
    labels_of,
    new_file,
    print_json,
    progress_bar,
    say,
    show,
    table_of,
    tell,
    tell_labels,
)
from zkkrum.cli.verify import print_verification
from zkkrum.errors import EXIT_GAP, EXIT_INVALID, InputError
from zkkrum.files import write_whole
from zkkrum.proof.audit import Audit, AuditedRound, State
from zkkrum.proof.audit import audit as audit_run
from zkkrum.proof.model import apply_aggregate, mean_of
from zkkrum.proof.prove import aggregate_path
from zkkrum.proof.verify import Verification
from zkkrum.proof.verify import verify as verify_bundle
from zkkrum.protocol.field import hex_of
from zkkrum.rounds.models import buffers, check_subject, load_model, subject_of
from zkkrum.rounds.tensors import SINGLE, SUFFIXES, Layout, Tensors, TensorSpec, cut, to_bytes
from zkkrum.rounds.updates import layout_hash
from zkkrum.toolchain import Toolchain


def _check_suffix(path: Path) -> Path:
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: expected a file {', '.join(SUFFIXES)}, found {path.suffix!r}")
    return path


def _write(path: Path, tensors: Tensors, mode: int = 0o644) -> str:
    """Write tensors; return the SHA-256 of the file."""
    data = to_bytes(tensors, path)
    write_whole(path, data, mode)
    return hashlib.sha256(data).hexdigest()


@click.command()
@click.argument("bundle", type=existing_folder)
@click.option("--aggregate", type=existing_file, help="The aggregate.npz you were given [default: beside BUNDLE].")
@click.option("--base", type=existing_file, help="The model that the round started from: write the next model.")
@click.option("--out", "-o", type=new_file, help="[default: model.safetensors with --base, else mean.safetensors]")
@click.option("--commitments", type=existing_folder, help="Commitments as the clients published them.")
@click.option("--round", "round_file", type=existing_file, help="The round.toml that was published.")
@jobs_option
@json_option
@click.pass_context
def aggregate(
    context: click.Context,
    bundle: Path,
    aggregate: Path | None,
    base: Path | None,
    out: Path | None,
    commitments: Path | None,
    round_file: Path | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Verify BUNDLE and its aggregate; write the mean update, or with --base the next model.

    The mean is written in float64, as it is computed. Exit code 1, and nothing written, if anything does not verify.
    """
    target = _check_suffix(out or Path("model.safetensors" if base else "mean.safetensors"))
    model = load_model(base) if base else None
    file = aggregate or aggregate_path(Path.cwd() / bundle)
    if not file.exists():
        raise InputError(f"{file}: no such file", "name the aggregate.npz that you were given with --aggregate")
    with Toolchain.find(notify=say) as tools, progress_bar() as progress:
        found = verify_bundle(
            bundle,
            tools,
            commitments=commitments,
            round_file=round_file,
            aggregate=file,
            jobs=jobs or 2,
            progress=progress,
        )
    if not found.ok:
        if as_json:
            print_json({"ok": False, "reason": found.reason, "out": None})
        else:
            tell(f"INVALID: {found.reason}; nothing written")
        context.exit(EXIT_INVALID)
    assert found.round is not None
    if model is not None:
        tensors: Tensors = apply_aggregate(model, found, any_base=True)
        bound = check_subject(model, found.round, any_base=True)
    else:
        layout = _layout(found)
        bound = found.round.subject == layout_hash(layout)
        tensors = cut(mean_of(found), layout)
    digest = _write(target, tensors, 0o644 if base else 0o600)  # of one accepted client it is the update
    left = buffers(model) if model is not None else ()
    if as_json:
        print_json(
            {
                "ok": True,
                "reason": "",
                "out": str(target),
                "sha256": digest,
                "subject": hex_of(subject_of(tensors)) if model is not None else None,
                "bound": bound,
                "left_out": left,
                "commitments_compared": found.commitments_compared,
                "round_compared": found.round_compared,
            }
        )
        return
    print_verification(found, bundle, False, bound=bound)
    if left:
        tell(f"Buffers, as they were: {', '.join(map(repr, left))}")
    if not bound:
        tell(
            "The round's subject does not name this model: that the mean belongs on it is your own knowledge."
            if model is not None
            else "The round's subject does not name these tensors: their names and shapes are the sender's word."
        )
    if model is not None:
        tell(f"subject of a round that starts from the next model: {hex_of(subject_of(tensors))}")
    tell(f"written: {target} (sha256 {digest})")


def _layout(found: Verification) -> Layout:
    """Return the layout in the aggregate's file, or that of a single vector."""
    assert found.opened is not None
    return found.opened.layout or (TensorSpec(SINGLE, found.opened.aggregate.total.shape, np.dtype(np.float64).name),)


@click.command()
@click.argument("run", type=existing_folder)
@click.option("--initial", type=existing_file, help="Your own copy of the initial model [default: believe the run's].")
@click.option("--final", type=existing_file, help="A model you were given: is it the one the run ends with?")
@click.option("--save", type=new_file, help="Write the final model.")
@jobs_option
@json_option
@click.pass_context
def audit(
    context: click.Context,
    run: Path,
    initial: Path | None,
    final: Path | None,
    save: Path | None,
    jobs: int | None,
    as_json: bool,
) -> None:
    """Audit RUN: verify every round, and that each starts from the model which the one before yields.

    So that anybody with the initial model can say: this model is exactly what federated averaging, guarded by Krum, of
    the committed updates gives. docs/training.md has the layout of a run.
    """
    if save:
        _check_suffix(save)
    with Toolchain.find(notify=say) as tools, progress_bar() as progress:
        found = audit_run(run, tools, initial=initial, final=final, jobs=jobs or 2, progress=progress)
    digest = None
    if save and found.model is not None:
        digest = _write(save, found.model)
    if as_json:
        print_json(_as_dict(found, save if digest else None, digest))
    else:
        print_audit(found, run, initial is not None, final, save, digest)
    context.exit(EXIT_INVALID if not found.ok else EXIT_GAP if found.gaps else 0)


def _as_dict(found: Audit, save: Path | None, digest: str | None) -> dict[str, Any]:
    return {
        "ok": found.ok,
        "reason": found.reason,
        "failed_round": found.failed,
        "initial": hex_of(found.initial),
        "final": hex_of(found.final) if found.ok else None,
        "gaps": [gap.number for gap in found.gaps],
        "verified": [
            {"first": s.first, "last": s.last, "start": hex_of(s.start), "end": hex_of(s.end)} for s in found.stretches
        ],
        "rounds": [_row(row) for row in found.rounds],
        "saved": str(save) if save else None,
        "sha256": digest,
    }


def _row(row: AuditedRound) -> dict[str, Any]:
    plain = {name: value for name, value in asdict(row).items() if name != "round"}
    return {
        **plain,
        "state": row.state.value,
        "clients": row.round.params.n if row.round else None,
        "round_id": hex_of(row.round.round_id) if row.round else None,
    }


def print_audit(
    found: Audit,
    run: Path,
    own_initial: bool = False,
    final: Path | None = None,
    save: Path | None = None,
    digest: str | None = None,
) -> None:
    """Print the table of an audit and its answer."""
    numbers = ("round", "clients", "accepted", "seconds")
    table = table_of("round", "clients", "flagged", "accepted", "verdict", "seconds", numbers=numbers)
    for row in found.rounds:
        if row.state is State.VERIFIED and row.round:
            verdict = "[red]flagged[/]" if row.flagged else "unattributed" if row.malicious else "[green]honest[/]"
            labels = labels_of(row.round.roster)
            who = as_text(_some([labels[client] for client in row.flagged]) or "-")
            n, accepted = str(row.round.params.n), str(len(row.accepted))
            table.add_row(str(row.number), n, who, accepted, verdict, f"{row.seconds:.2f}")
        else:
            table.add_row(str(row.number), "", "", "", f"[yellow]{row.state.value}[/]", "")
    show(table)
    for row in found.rounds:
        if row.round:
            flagged = {client: label for client, label in labels_of(row.round.roster).items() if client in row.flagged}
            tell_labels(flagged, f"round {row.number}: ")
        if row.reason:
            tell(f"round {row.number} is {row.state.value}, by the server's word: {row.reason}")
        if row.changed:
            tell(f"round {row.number} changes {', '.join(row.changed)}")
    if not found.ok:
        where = f"round {found.failed}: " if found.failed else ""
        tell(f"INVALID: {where}{found.reason}")
        return
    for s in found.stretches:
        which = f"round {s.first}" if s.first == s.last else f"rounds {s.first} to {s.last}"
        tell(f"verified from {hex_of(s.start)} to {hex_of(s.end)}: {which}")
    if found.gaps:
        gaps = ", ".join(str(gap.number) for gap in found.gaps)
        one = len(found.gaps) == 1
        tell(
            f"GAPS: round{'' if one else 's'} {gaps}: the rest is verified, {'this is' if one else 'these are'} the "
            "server's word"
        )
    else:
        tell(
            f"VERIFIED: {run}: the final model is exactly what "
            + ("the proved round makes" if len(found.rounds) == 1 else f"the {len(found.rounds)} proved rounds make")
            + " of the initial one"
        )
    if final:
        tell(f"{final} is that model.")
    if not own_initial:
        tell("The initial model is the run's own: give --initial to compare with yours.")
    tell(
        "Terms and commitments are the run's own, too: `zkkrum verify --commitments --round` compares a round's with "
        "those that were published."
    )
    if not all(row.commitments_compared for row in found.rounds if row.state is State.VERIFIED):
        tell("Not every round holds the commitments that the clients published.")
    if any(row.commitments_by == "server" for row in found.rounds):
        tell("By the bundles' own word, commitments of some rounds are the server's, not the clients'.")
    tell(f"final model, SHA-256 of layout and values (its rounds' subject): {hex_of(found.final)}")
    if digest:
        tell(f"written: {save} (sha256 {digest})")


def _some(names: Sequence[str]) -> str:
    most = 4
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
