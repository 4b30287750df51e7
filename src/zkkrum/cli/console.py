"""What the commands share on the terminal: JSON, sentences, tables, progress. Progress goes to standard error.

Must not know what is computed. On a terminal sentences are wrapped between words at its width, and tables fit it; into
a file or a pipe a sentence is a line, however long, for ``grep``.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from zkkrum.errors import InputError
from zkkrum.progress import Notify, Progress, silent
from zkkrum.protocol.params import MAD_N_MIN, Params

JSON_VERSION = 1
"""Of what every command prints with ``--json``: it grows when a name in it goes or changes its meaning."""
TEXT_WIDTH_MAX = 100
"""Longer lines are hard to read, however wide the terminal."""
HELP_WIDTH = 78
"""Of click's help, on a terminal of 80 columns."""
NAME_WIDTH = 24
"""Ids up to so many characters stand whole in a table at 80 columns; an address has 42."""
WIDE = 100_000
"""Of a table in a file or a pipe: a row is a line."""


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
new_file = PathFromOutside(dir_okay=False, path_type=Path)
existing_folder = PathFromOutside(exists=True, file_okay=False, path_type=Path)
existing_path = PathFromOutside(exists=True, path_type=Path)
existing_file = PathFromOutside(exists=True, dir_okay=False, path_type=Path)
jobs_option = click.option("--jobs", type=AT_LEAST_ONE, help="Proofs at once [default: from cores and memory].")


# How loud


@dataclass
class Manner:
    """How one call of the program answers: what stands before the command, and whether it asks for JSON."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False


def manner() -> Manner:
    """Return that of the running call; the plain one outside of any."""
    context = click.get_current_context(silent=True)
    found = context.find_root().obj if context else None
    return found if isinstance(found, Manner) else Manner()


# JSON


def print_json(value: Mapping[str, Any], of: str | None = None) -> None:
    """Print one JSON object, which begins with its schema: ``zkkrum-COMMAND-1``, of the running command or ``of``."""
    name = of or click.get_current_context().command.name
    click.echo(json.dumps({"schema": f"zkkrum-{name}-{JSON_VERSION}", **value}, indent=2, default=str))


# Text


def width_of(stream: TextIO) -> int | None:
    """Return the columns of a terminal, None where the stream is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def on_terminal() -> bool:
    """Tell whether standard output is one."""
    return width_of(sys.stdout) is not None


def wrapped(text: str, width: int | None, hanging: str = "  ") -> str:
    """Wrap every line of a text between words; a word that is wider than the terminal stays whole.

    Examples
    --------
    >>> print(wrapped("the verdict is: flagged: 'client-03'", 20))
    the verdict is:
      flagged:
      'client-03'
    >>> wrapped("as it is", None)
    'as it is'
    """
    if width is None:
        return text
    wrap = textwrap.TextWrapper(
        min(width, TEXT_WIDTH_MAX),
        break_long_words=False,
        break_on_hyphens=False,
        subsequent_indent=hanging,
        replace_whitespace=False,
    )
    return "\n".join(wrap.fill(line) for line in text.split("\n"))


def printable(text: str) -> str:
    """Escape whatever a terminal would obey instead of showing: control and format characters, line breaks.

    Examples
    --------
    >>> printable("client" + chr(27) + "[2J")
    'client\\\\x1b[2J'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def as_text(text: object) -> Text:
    """Return text for a table as it is: nothing in it is markup, an emoji's name, or obeyed by a terminal."""
    return Text(printable(str(text)))


def tell(sentence: str = "") -> None:
    """Say something on standard output: one line, or one that is wrapped."""
    click.echo(wrapped(printable(sentence), width_of(sys.stdout)))


def say(sentence: str) -> None:
    """Say something on standard error, unless told to be quiet."""
    if not manner().quiet:
        with contextlib.suppress(OSError):  # a full disk behind standard error ends no work
            for line in sentence.split("\n"):
                click.echo(wrapped(printable(line), width_of(sys.stderr)), err=True)


def table_of(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """Return an empty table: ``numbers`` are set to the right and never wrapped, the rest is wrapped, never cut."""
    table = Table(box=None, pad_edge=False)
    for column in columns:
        if column in numbers:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table


def labels_of(roster: Sequence[str]) -> dict[str, str]:
    """Return what stands for each client in a table: its quoted id, or where that would be broken its place.

    A place is no quoted id, so that no client can pass for another, nor its id for a word of the table.
    """
    whole = NAME_WIDTH if on_terminal() else WIDE
    return {client: repr(client) if len(repr(client)) <= whole else f"#{i}" for i, client in enumerate(roster)}


def tell_labels(labels: Mapping[str, str], where: str = "") -> None:
    """Say whom the places of a table mean, a line each."""
    for client, label in labels.items():
        if label != repr(client):
            tell(f"{where}{label} is {client!r}")


def show(table: Table) -> None:
    """Print a table on standard output, as wide as the terminal; elsewhere a row is a line."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)


def show_rows(head: Sequence[str], rows: Sequence[Sequence[str]], markdown: Callable[..., str]) -> None:
    """Print rows as a table on a terminal; elsewhere as the Markdown that documents are made of."""
    if not on_terminal():
        click.echo(markdown(head, rows).rstrip())
        return
    table = table_of(*head, numbers=head[1:])
    for row in rows:
        table.add_row(*map(as_text, row))
    show(table)


def listing(title: str, rows: Mapping[str, str]) -> str:
    """Return a list for the end of a help text, wrapped: click leaves it as it is."""
    lines = []
    for name, meaning in rows.items():
        start = f"  {name}  "
        fill = textwrap.TextWrapper(
            HELP_WIDTH, initial_indent=start, subsequent_indent=" " * 4, break_long_words=False, break_on_hyphens=False
        )
        lines.append(fill.fill(meaning))
    return f"\b\n{title}:\n" + "\n".join(lines)


def say_fallback(params: Params) -> None:
    """Say that a rule was chosen which nobody named, because the default one needs more clients."""
    if params.n < MAD_N_MIN and not given("detection"):
        say(f"detection: {params.detection.value}, since mad needs {MAD_N_MIN} clients and there are {params.n}")


# Progress


@contextlib.contextmanager
def progress_bar() -> Iterator[Progress]:
    """Give a callback (what, done, total) that draws one bar per stage on stderr; they vanish at the end.

    Nothing is written where standard error is no terminal, or under ``-q``; with ``-v`` every step is a line there.
    """
    console, how = Console(stderr=True), manner()
    if how.quiet or not console.is_terminal:
        yield _steps() if how.verbose and not how.quiet else silent
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        stages: dict[str, Any] = {}

        def advance(what: str, done: int, total: int) -> None:
            if what not in stages:
                stages[what] = bar.add_task(escape(printable(what)), total=total or None)
            bar.update(stages[what], completed=done, total=total or None)

        yield advance


def _steps() -> Progress:
    started = time.perf_counter()

    def step(what: str, done: int, total: int) -> None:
        count = f" {done}/{total}" if total else ""
        with contextlib.suppress(OSError):
            click.echo(f"{time.perf_counter() - started:7.1f} s  {what}{count}", err=True)

    return step


@contextlib.contextmanager
def spinner(what: str = "starting") -> Iterator[Notify]:
    """Give a function that says what is going on, beside a spinner on a terminal; elsewhere with ``-v`` only."""
    console, how = Console(stderr=True, highlight=False), manner()
    if how.quiet or not console.is_terminal:
        steps = _steps() if how.verbose and not how.quiet else silent
        yield lambda now: steps(now, 0, 0)
        return
    with console.status(as_text(what)) as status:
        yield lambda now: status.update(as_text(now))


# What was typed


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
