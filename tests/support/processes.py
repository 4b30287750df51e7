"""Watches other processes end: by what happens, not by how long it takes.

Must not know what they run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence

import psutil

PATIENCE = 60
"""Seconds after which a run counts as hanging. Generous, as machines are loaded: no test may depend on it to pass."""


def alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return those that still run; a zombie has ended, and waits for its parent only."""
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def stop(processes: Sequence[psutil.Process], names: Sequence[str] = ("bb", "node")) -> None:
    """Suspend the tools among them: only a kill ends these then, not the end of their work.

    Others may be copies of their parent on the way to becoming a tool, for which the parent waits.
    """
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name() in names:
                process.suspend()


def ended(processes: Sequence[psutil.Process]) -> None:
    """Wait until all of them have ended."""
    end = time.monotonic() + PATIENCE
    while left := alive(processes):
        assert time.monotonic() < end, f"still running: {[p.cmdline() for p in left]}"
        time.sleep(0.01)
