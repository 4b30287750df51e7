"""The command line: parses, prints and exits. Commands stand in the modules beside; what they compute does not.

Must not compute anything itself. Errors of `zkkrum.errors` end here, with one sentence and their exit code.
"""

from __future__ import annotations

import contextlib
import difflib
import errno
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from zkkrum.cli.console import Manner, listing, print_json, printable, width_of, wrapped
from zkkrum.errors import (
    EXIT_BUG,
    EXIT_CODES,
    EXIT_INTERRUPTED,
    EXIT_INVALID,
    ConstraintError,
    InputError,
    ResourceError,
    ZkkrumError,
)
from zkkrum.version import __version__

GROUPS = {
    "The operator, who opens a round": {"open": "rounds", "estimate": "prove", "calibrate": "learning"},
    "A client": {"commit": "rounds"},
    "The server, which proves": {"prove": "prove", "report": "report"},
    "Anybody": {
        "verify": "verify",
        "aggregate": "runs",
        "audit": "runs",
        "inspect": "verify",
        "page": "page",
    },
    "On chain": {"export": "chain", "onchain-demo": "chain"},
    "To try and to study": {
        "demo": "demo",
        "simulate": "rounds",
        "evaluate": "learning",
        "experiment": "learning",
        "bench": "bench",
    },
    "The tools underneath": {"setup": "tools", "doctor": "tools"},
}
"""Commands by who runs them, to the module that has each: a command imports only what it needs."""
COMMANDS = {command: module for commands in GROUPS.values() for command, module in commands.items()}

EXIT_CODE_HELP = listing("Exit codes", {f"{code:>3}": meaning for code, meaning in EXIT_CODES.items()})
"""What every ``--help`` ends with: the table of `zkkrum.errors`."""

UNFINISHED = {
    "prove": "what is finished of a sharded round is kept: finish it with the same command and --resume",
    "setup": "run it again; what is installed stays",
}
"""What whoever interrupts a command should know."""


@dataclass(frozen=True)
class Failure:
    """An error as a person and, after ``--json``, a program is told."""

    kind: str
    message: str
    hint: str
    code: int
    calls: tuple[str, ...] = ()
    """Of a constraint that does not hold: where in the circuit."""

    def show(self, as_json: bool) -> None:
        """Print it: a sentence on standard error, and with ``--json`` an object on standard output."""
        width = width_of(sys.stderr)
        with contextlib.suppress(OSError):  # whoever cannot be told has the code
            for line in (f"zkkrum: {self.message}", *self.calls):
                click.echo(wrapped(printable(line), width), err=True)
            for line in f"  -> {self.hint}".split("\n") if self.hint else ():
                click.echo(wrapped(printable(line), width, "     "), err=True)
        if as_json:
            self.print_json()

    def print_json(self) -> None:
        """Print the object."""
        error = {"kind": self.kind, "message": self.message, "hint": self.hint}
        with contextlib.suppress(OSError):
            print_json({"error": error, "exit_code": self.code}, of="error")


class Commands(click.Group):
    """The commands, imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List the commands by who runs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"zkkrum.cli.{COMMANDS[cmd_name]}")
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(module, name if hasattr(module, name) else f"{name}_")
        command.name = cmd_name
        if EXIT_CODE_HELP not in (command.epilog or ""):
            command.epilog = "\n\n".join(filter(None, (command.epilog, EXIT_CODE_HELP)))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands group by group, each with the whole first sentence of its help."""
        wide = max(map(len, COMMANDS))
        for title, names in GROUPS.items():
            found = {name: self.get_command(ctx, name) for name in names}
            with formatter.section(title):
                formatter.write_dl([(name.ljust(wide), c.get_short_help_str(1000)) for name, c in found.items() if c])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; of one that does not exist say which is near."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name, COMMANDS, n=2)
            raise click.UsageError(
                f"No such command {name!r}." + (f" Did you mean {' or '.join(near)}?" if near else "")
            )
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; nothing but a refuted proof ends with 1, where click and Python would."""
        _prepare_streams()
        manner = Manner(as_json="--json" in (sys.argv[1:] if args is None else args))
        extra.setdefault("obj", manner)
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            code = error.exit_code if error.exit_code != EXIT_INVALID else InputError.exit_code
            with contextlib.suppress(OSError):  # whoever cannot be told has the code
                error.show()
            if manner.as_json:
                Failure(type(error).__name__, error.format_message(), "", code).print_json()
        except (click.Abort, KeyboardInterrupt, EOFError):
            code = EXIT_INTERRUPTED
            Failure("Interrupted", "interrupted", "", code).show(manner.as_json)
        except OSError as error:  # of an output, before a command runs: --help into a full disk
            failure = _failure(error)
            failure.show(manner.as_json)
            code = failure.code
        sys.exit(_flushed(code if isinstance(code, int) else 0))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a deliberate error becomes one sentence and its exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except KeyboardInterrupt:
            hint = UNFINISHED.get(ctx.invoked_subcommand or "", "")
            failure = Failure("Interrupted", "interrupted", hint, EXIT_INTERRUPTED)
        except Exception as error:
            failure = _failure(error)
            if failure.code == EXIT_BUG or (isinstance(ctx.obj, Manner) and ctx.obj.verbose):
                traceback.print_exc()
        failure.show(isinstance(ctx.obj, Manner) and ctx.obj.as_json)
        ctx.exit(failure.code)


def _prepare_streams() -> None:
    """Let no output decide how a command ends: one that is closed takes nothing, one that cannot say σ gets \\u03c3."""
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (open to the end)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (open to the end)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if hasattr(signal, "SIGPIPE") and not sys.stdout.isatty():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def _flushed(code: int) -> int:
    """Write out what was said; an answer that cannot be written is no answer."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):  # Python flushes once more at the end, and would fail then
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            if code == 0 and stream is sys.stdout:
                code = ResourceError.exit_code
    return code


def _failure(error: Exception) -> Failure:
    """Say what an error means to whoever runs a command."""
    kind = type(error).__name__
    if isinstance(error, ZkkrumError):
        message, *calls = error.message.split("\n") if isinstance(error, ConstraintError) else [error.message]
        return Failure(kind, message, error.hint, error.exit_code, tuple(calls))
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE)
        return Failure(kind, str(error), "", (ResourceError if full else InputError).exit_code)
    if isinstance(error, MemoryError):
        hint = "`zkkrum estimate` says what is needed; try --jobs 1"
        return Failure(kind, "out of memory", hint, ResourceError.exit_code)
    return Failure(kind, "this is a bug; please report it with the lines above", "", EXIT_BUG)


@click.group(cls=Commands, epilog=EXIT_CODE_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zkkrum")
@click.option("-q", "--quiet", is_flag=True, help="No notices and no progress; errors and answers only.")
@click.option("-v", "--verbose", is_flag=True, help="Progress as lines, also into a file, and where an error arose.")
@click.pass_context
def main(context: click.Context, quiet: bool, verbose: bool) -> None:
    """Prove in zero knowledge that Krum was run correctly on the updates that clients committed to.

    -q and -v stand before the command. Shell completion: eval "$(_ZKKRUM_COMPLETE=bash_source zkkrum)" (or
    zsh_source, fish_source).
    """
    if quiet and verbose:
        raise click.UsageError("expected -q or -v, found both")
    if isinstance(context.obj, Manner):
        context.obj.quiet, context.obj.verbose = quiet, verbose
