"""The command line: parses, prints and exits. Commands stand in the modules beside; what they compute does not.

Must not compute anything itself. Errors of `zkkrum.errors` end here, with one sentence and their exit code.
"""

from __future__ import annotations

import errno
import importlib
import signal
import sys
import traceback
from typing import Any

import click

from zkkrum.errors import InputError, ResourceError, ZkkrumError
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

EXIT_CODES = """\b
Exit codes:
  0  done; proof valid        4  a tool is missing or of the wrong version
  1  proof invalid            5  reference string missing or too short
  2  wrong usage              6  a tool failed
  3  bad input                7  out of memory, disk or processes
"""


EXIT_INTERRUPTED = 130
"""Of Ctrl-C; click's own 1 would read as "proof invalid"."""
EXIT_BUG = 70
"""Of an error nobody foresaw; Python's own 1 would, too."""


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
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; a deliberate error becomes one sentence and its exit code."""
        try:
            return super().invoke(ctx)
        except ZkkrumError as error:
            click.echo(f"zkkrum: {error.message}", err=True)
            if error.hint:
                click.echo(f"  -> {error.hint}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("zkkrum: interrupted (a sharded `prove` is finished with --resume)", err=True)
            ctx.exit(EXIT_INTERRUPTED)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE)
            click.echo(f"zkkrum: {error}", err=True)
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


@click.group(cls=Commands, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zkkrum")
def main() -> None:
    """Prove in zero knowledge that Krum was run correctly on the updates that clients committed to.

    Shell completion: eval "$(_ZKKRUM_COMPLETE=bash_source zkkrum)" (or zsh_source, fish_source).
    """
    if hasattr(signal, "SIGPIPE") and not sys.stdout.isatty():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
