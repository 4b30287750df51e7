"""`zkkrum page`: write the page that verifies bundles in a browser, or check one.

Only parses, prints and exits.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from zkkrum.cli.console import (
    existing_file,
    existing_folder,
    json_option,
    new_file,
    print_json,
    refuse_together,
    say,
    tell,
)
from zkkrum.errors import EXIT_DIFFERENT
from zkkrum.files import write_whole
from zkkrum.page import make as pages
from zkkrum.proof.bundle import load_manifest
from zkkrum.rounds.roundfile import load_round
from zkkrum.toolchain import Toolchain


@click.command()
@click.option(
    "--out",
    "-o",
    type=new_file,
    default=Path("verify.html"),
    show_default=True,
    help="File to write.",
)
@click.option("--shape", "rounds", type=existing_file, multiple=True, help="A round.toml it is to know. Repeatable.")
@click.option("--bundle", "bundles", type=existing_folder, multiple=True, help="A bundle it is to know. Repeatable.")
@click.option("--check", "check", type=existing_file, help="Is this file exactly what this zkkrum makes?")
@json_option
@click.pass_context
def page(
    context: click.Context,
    out: Path,
    rounds: tuple[Path, ...],
    bundles: tuple[Path, ...],
    check: Path | None,
    as_json: bool,
) -> None:
    """Write one HTML file that verifies bundles in any browser, offline.

    It knows the verification keys of the shipped table, and those of the shapes of --shape and --bundle; of another
    shape it says that it cannot decide. --check exits with 9 if a file is not the page that this zkkrum makes.
    """
    if check:
        refuse_together("--check writes nothing, and takes the shapes from the file", "out", "rounds", "bundles")
    with Toolchain.find(notify=say) as tools:
        if check:
            reason = pages.check(check, tools, say)
            if as_json:
                print_json({"ok": not reason, "reason": reason})
            else:
                tell(f"{check}: {reason or 'exactly the page that this zkkrum makes'}")
            context.exit(EXIT_DIFFERENT if reason else 0)
        shapes = [
            *(load_round(path).params for path in rounds),
            *(load_manifest(path).round.parameters.params() for path in bundles),
        ]
        made = pages.make(shapes, tools, say)
    write_whole(out, made)
    digest = hashlib.sha256(made).hexdigest()
    if as_json:
        print_json({"page": str(out), "bytes": len(made), "sha256": digest})
        return
    tell(f"{out}: {len(made):,} bytes, SHA-256 {digest}")
    tell("open it in any browser and drop a bundle on it; it loads and sends nothing")
