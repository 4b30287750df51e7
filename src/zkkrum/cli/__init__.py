"""The command line: parses, prints and exits. Commands stand in the modules beside; what they compute does not.

Must not compute anything itself. Errors of `zkkrum.errors` end here, with one sentence and their exit code.
"""

from __future__ import annotations

import errno
import importlib
import io
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import click

from zkkrum.cli.console import printable
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

COMMANDS = {
    "demo": "demo",
    "simulate": "rounds",
    "open": "rounds",
    "commit": "rounds",
    "estimate": "rounds",
    "prove": "rounds",
    "verify": "rounds",
    "aggregate": "runs",
    "audit": "runs",
    "inspect": "rounds",
    "page": "page",
    "export": "chain",
    "onchain-demo": "chain",
    "evaluate": "learning",
    "calibrate": "learning",
    "experiment": "learning",
    "report": "learning",
    "bench": "bench",
    "setup": "tools",
    "doctor": "tools",
}
"""Command to the module that has it: a command imports only what it needs."""

EXIT_CODE_HELP = "\b\nExit codes:\n" + "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())
"""What every ``--help`` ends with: the table of `zkkrum.errors`."""


class Commands(click.Group):
    """The commands, imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of a round's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of a command and return it."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"zkkrum.cli.{COMMANDS[cmd_name]}")
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(module, name if hasattr(module, name) else f"{name}_")
        command.name = cmd_name
        if EXIT_CODE_HELP not in (command.epilog or ""):
            command.epilog = "\n\n".join(filter(None, (command.epilog, EXIT_CODE_HELP)))
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; nothing but a refuted proof ends with 1, where click and Python would."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # an output that cannot say σ gets \\u03c3, not a traceback
                stream.reconfigure(errors="backslashreplace")
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except click.ClickException as error:
            error.show()
            code = error.exit_code if error.exit_code != EXIT_INVALID else InputError.exit_code
        except (click.Abort, KeyboardInterrupt, EOFError):
            code = EXIT_INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a deliberate error becomes one sentence and its exit code."""
        try:
            return super().invoke(ctx)
        except ZkkrumError as error:
            message, *calls = error.message.split("\n") if isinstance(error, ConstraintError) else [error.message]
            click.echo("\n".join(map(printable, (f"zkkrum: {message}", *calls))), err=True)
            if error.hint:
                click.echo("\n".join(map(printable, f"  -> {error.hint}".split("\n"))), err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("zkkrum: interrupted (a sharded `prove` is finished with --resume)", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE)
            click.echo(printable(f"zkkrum: {error}"), err=True)
            ctx.exit((ResourceError if full else InputError).exit_code)
        except (click.ClickException, click.Abort, click.exceptions.Exit):
            raise
        except MemoryError:
            click.echo("zkkrum: out of memory\n  -> `zkkrum estimate` says what is needed; try --jobs 1", err=True)
            ctx.exit(ResourceError.exit_code)
        except Exception:
            traceback.print_exc()
            click.echo("zkkrum: this is a bug; please report it with the lines above", err=True)
            ctx.exit(EXIT_BUG)


@click.group(cls=Commands, epilog=EXIT_CODE_HELP, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zkkrum")
def main() -> None:
    """Prove in zero knowledge that Krum was run correctly on the updates that clients committed to.

    Shell completion: eval "$(_ZKKRUM_COMPLETE=bash_source zkkrum)" (or zsh_source, fish_source).
    """
    if hasattr(signal, "SIGPIPE") and not sys.stdout.isatty():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
