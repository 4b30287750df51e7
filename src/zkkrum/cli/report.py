"""`zkkrum report`: one HTML page about a round, a bundle or a run.

Only parses, prints and exits.
"""

from __future__ import annotations

from pathlib import Path

import click

from zkkrum.cli.console import (
    existing_file,
    existing_folder,
    json_option,
    new_file,
    print_json,
    progress_bar,
    refuse_together,
    say,
    tell,
)
from zkkrum.errors import EXIT_INVALID
from zkkrum.files import write_whole
from zkkrum.proof.audit import audit
from zkkrum.proof.form import MANIFEST
from zkkrum.proof.verify import Verification, verify
from zkkrum.report.html import render, render_run
from zkkrum.report.page import of_path
from zkkrum.report.run_page import of_run
from zkkrum.rounds.run import Run
from zkkrum.toolchain import Toolchain

OF_BUNDLE, OF_RUN = ("no_verify", "commitments", "round_file", "aggregate"), ("initial", "final")


@click.command()
@click.argument("path", metavar="ROUND|BUNDLE|RUN", type=existing_folder)
@click.option(
    "--out",
    "-o",
    type=new_file,
    default=Path("report.html"),
    show_default=True,
    help="Page to write.",
)
@click.option("--no-verify", is_flag=True, help="Do not verify a BUNDLE first; the page then says so.")
@click.option("--commitments", type=existing_folder, help="BUNDLE: commitments as the clients published them.")
@click.option("--round", "round_file", type=existing_file, help="BUNDLE: the round.toml that was published.")
@click.option("--aggregate", type=existing_file, help="BUNDLE: the aggregate.npz you were given.")
@click.option("--initial", type=existing_file, help="RUN: your own copy of the initial model.")
@click.option("--final", type=existing_file, help="RUN: a model you were given: is it the one the run ends with?")
@json_option
@click.pass_context
def report(
    context: click.Context,
    path: Path,
    out: Path,
    no_verify: bool,
    commitments: Path | None,
    round_file: Path | None,
    aggregate: Path | None,
    initial: Path | None,
    final: Path | None,
    as_json: bool,
) -> None:
    """Write one self-contained HTML page about a ROUND, a BUNDLE or a RUN.

    From a ROUND it shows scores and distances and is for the server's eyes. From a BUNDLE it shows what everybody may
    see, and verifies it first; from a RUN, what `zkkrum audit` finds. Exit code 1, and no page, if that fails.
    """
    gaps: list[int] = []
    if (path / MANIFEST).is_file():
        refuse_together("this is a BUNDLE; only a RUN has models", *OF_RUN)
        if no_verify:
            refuse_together("--no-verify compares nothing", "commitments", "round_file", "aggregate")
        answer = None if no_verify else _verified(path, commitments, round_file, aggregate)
        reason = answer.reason if answer else ""
        text = "" if reason else render(of_path(path, answer))
        verified, private = answer is not None, False
    elif Run(path).rounds.is_dir():
        refuse_together("this is a RUN; only a BUNDLE is verified by itself", *OF_BUNDLE)
        with Toolchain.find(notify=say) as tools, progress_bar() as progress:
            found = audit(path, tools, initial=initial, final=final, progress=progress)
        reason = (f"round {found.failed}: " if found.failed else "") + found.reason
        text = render_run(of_run(path, found, out, initial, final)) if found.ok else ""
        verified, private, gaps = not found.gaps, False, [gap.number for gap in found.gaps]
    else:
        refuse_together("this is a ROUND; only a BUNDLE is verified, and only a RUN has models", *OF_BUNDLE, *OF_RUN)
        text, reason, verified, private = render(of_path(path)), "", False, True
    if text:
        write_whole(out, text.encode(), 0o600 if private else 0o644)
    if as_json:
        done = {"output": str(out) if text else None, "verified": verified and bool(text)}
        print_json({**done, "private": private, "reason": reason, "gaps": gaps})
    elif text:
        tell(f"written: {out}" + (" (private: scores and distances)" if private else ""))
    else:
        tell(f"INVALID: {reason}; no page written")
    context.exit(0 if text else EXIT_INVALID)


def _verified(path: Path, commitments: Path | None, round_file: Path | None, aggregate: Path | None) -> Verification:
    with Toolchain.find(notify=say) as tools, progress_bar() as progress:
        return verify(
            path, tools, commitments=commitments, round_file=round_file, aggregate=aggregate, progress=progress
        )
