"""What the commands share on the terminal: JSON, progress, notices. Progress goes to standard error.

Must not know what is computed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
folder = click.Path(file_okay=False, path_type=Path)
existing_folder = click.Path(exists=True, file_okay=False, path_type=Path)
existing_file = click.Path(exists=True, dir_okay=False, path_type=Path)
jobs_option = click.option(
    "--jobs", type=click.IntRange(min=1), help="Proofs at once [default: from cores and memory]."
)


def print_json(value: Any) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(value, indent=2, default=str))


def say(sentence: str) -> None:
    """Say something on standard error."""
    Console(stderr=True, highlight=False).print(escape(sentence), soft_wrap=True)


@contextlib.contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """Give a callback (what, done, total) that draws one bar per stage on stderr; they vanish at the end."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        stages: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in stages:
                stages[what] = bar.add_task(what, total=total or None)
            bar.update(stages[what], completed=done, total=total or None)

        yield advance


@contextlib.contextmanager
def spinner(what: str = "starting") -> Iterator[Callable[[str], None]]:
    """Give a function that says what is going on, beside a spinner on a terminal; elsewhere nothing is said."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(what) as status:
        yield lambda now: status.update(escape(now))
