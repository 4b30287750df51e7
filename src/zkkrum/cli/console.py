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
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from zkkrum.errors import InputError


class PathFromOutside(click.Path):
    """A path on the command line; one that does not exist or cannot be read is bad input (3), not wrong usage (2)."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Check and convert."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            raise InputError(error.message) from error


AT_LEAST_ONE, NOT_NEGATIVE = click.IntRange(min=1), click.IntRange(min=0)
POSITIVE = click.FloatRange(0, min_open=True)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
folder = PathFromOutside(file_okay=False, path_type=Path)
existing_folder = PathFromOutside(exists=True, file_okay=False, path_type=Path)
existing_path = PathFromOutside(exists=True, path_type=Path)
existing_file = PathFromOutside(exists=True, dir_okay=False, path_type=Path)
jobs_option = click.option("--jobs", type=AT_LEAST_ONE, help="Proofs at once [default: from cores and memory].")


def print_json(value: Any) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(value, indent=2, default=str))


def printable(text: str) -> str:
    """Escape whatever a terminal would obey instead of showing: control and format characters, line breaks."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_text(text: object, style: str = "") -> Text:
    """Return text for a table as it is: nothing in it is markup, an emoji's name, or obeyed by a terminal."""
    return Text(printable(str(text)), style)


def say(sentence: str) -> None:
    """Say something on standard error."""
    Console(stderr=True, highlight=False).print(Text("\n".join(map(printable, sentence.split("\n")))), soft_wrap=True)


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
        yield lambda now: status.update(as_text(now))


def given(*names: str) -> list[str]:
    """Return which of these parameters of the running command stand on its command line, as a person types them."""
    context = click.get_current_context()
    flags = {p.name: max(p.opts, key=len) for p in context.command.params}
    source = click.core.ParameterSource.COMMANDLINE
    return [str(flags[name]) for name in names if name in flags and context.get_parameter_source(name) is source]


def refuse_together(why: str, *names: str) -> None:
    """Refuse parameters that would be ignored: nothing that was typed is dropped in silence."""
    if found := given(*names):
        raise click.UsageError(f"{', '.join(found)}: {why}")
