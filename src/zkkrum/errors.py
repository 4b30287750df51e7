"""Every error zkkrum raises on purpose, each with the exit code the command line gives it.

Must not know who raises or prints them. A negative answer ("the proof is false") is a value, never an
exception; an exception means "could not decide".
"""

from __future__ import annotations


class ZkkrumError(Exception):
    """Base of all deliberate errors.

    Parameters
    ----------
    message
        What was expected and what was found.
    hint
        What to do next; printed on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class InputError(ZkkrumError):
    """A file, a value or a parameter from outside is not acceptable."""

    exit_code = 3


class ToolMissingError(ZkkrumError):
    """nargo, bb, Node.js or solc is missing or not of the pinned version."""

    exit_code = 4


class ReferenceStringError(ZkkrumError):
    """The reference string (CRS) is missing or too short for the circuit."""

    exit_code = 5


class ToolFailedError(ZkkrumError):
    """A tool ran and failed; its log is kept and named in the message."""

    exit_code = 6


class ResourceError(ZkkrumError):
    """Out of memory, out of disk, or killed by the system."""

    exit_code = 7


class ConstraintError(ToolFailedError):
    """The circuit refused the witness: an assertion does not hold.

    For an honest prover this is a bug; for a cheating one it is the point.
    """


EXIT_INVALID = 1
EXIT_GAP = 10
