"""Progress of long work and what is worth a sentence, told to whoever asked.

Must not know who draws it.
"""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


Notify = Callable[[str], None]
"""Told in a sentence what is ignored, removed, installed or done."""


def silent(what: str, done: int, total: int) -> None:
    """Report progress to nobody."""


def unheard(sentence: str) -> None:
    """Tell nobody."""
