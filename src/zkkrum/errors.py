"""Every error zkkrum raises on purpose, and the table of exit codes: the one place where a code has its meaning.

Must not know who raises or prints them. A negative answer ("the proof is false") is a value, never an
exception; an exception means "could not decide".
"""

from __future__ import annotations

EXIT_INVALID = 1
EXIT_UNEXPECTED = 8
EXIT_DIFFERENT = 9
EXIT_GAP = 10
EXIT_BUG = 70
"""Of an error nobody foresaw; Python's own 1 would read as "the proof is invalid"."""
EXIT_INTERRUPTED = 130
"""Of Ctrl-C; click's own 1 would, too."""

EXIT_CODES = {
    0: "done; the proof is valid",
    EXIT_INVALID: "not true: the proof, or what was compared with it (commitments, round, aggregate, model)",
    2: "wrong usage",
    3: "bad input: a file that cannot be read, a value or a parameter",
    4: "a tool (nargo, bb, Node.js, solc) or an extra is missing or of the wrong version",
    5: "the reference string is missing, too short or not the real one",
    6: "a tool failed; its log is kept and named",
    7: "out of memory, disk or processes, or no cache that can be written and trusted",
    EXIT_UNEXPECTED: "verify: the proof is valid, but not all that --expect or --strict ask for",
    EXIT_DIFFERENT: "--check: the folder or page is not what this zkkrum makes",
    EXIT_GAP: "audit: what was proved verifies, but some rounds were not proved",
    EXIT_BUG: "a bug: please report it",
    EXIT_INTERRUPTED: "interrupted",
}
"""Code to meaning, for every command."""


class ZkkrumError(Exception):
    """Base of all deliberate errors.

    Parameters
    ----------
    message
        What was expected and what was found.
    hint
        What to do next; printed on a line of its own.
    """

    exit_code = EXIT_BUG

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InputError(ZkkrumError):
    """A file, a value or a parameter from outside is not acceptable."""

    exit_code = 3


class UnknownCharacterError(InputError):
    """A client id has a character that this machine's Unicode does not know: elsewhere it may be a good one."""


class ToolMissingError(ZkkrumError):
    """nargo, bb, Node.js or solc is missing or not of the pinned version."""

    exit_code = 4


class ReferenceStringError(ZkkrumError):
    """The reference string (CRS) is missing, too short for the circuit, or not the real one."""

    exit_code = 5


class ToolFailedError(ZkkrumError):
    """A tool ran and failed; its log is kept and named in the message."""

    exit_code = 6


class ResourceError(ZkkrumError):
    """Out of memory, out of disk, killed by the system, or no cache that can be written and trusted."""

    exit_code = 7


class ConstraintError(ToolFailedError):
    """The circuit refused the witness: an assertion does not hold.

    For an honest prover this is a bug; for a cheating one it is the point.
    """
