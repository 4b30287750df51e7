"""What a page about a run shows: from which model to which it is verified, who was flagged when, accuracy where known.

Must not know HTML, nor decide anything: the answer is `zkkrum.proof.audit.audit`'s.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zkkrum.proof.audit import Audit, AuditedRound
from zkkrum.rounds.run import Run


@dataclass(frozen=True, eq=False)
class RunPage:
    """What a page shows.

    Parameters
    ----------
    title
        The folder's name.
    found
        The audit's answer, a yes.
    clients
        Everybody who was in a verified round, in order of appearance.
    links
        Where each round lies, as seen from the page.
    accuracy
        Of the model after a round, in [0, 1]: the server's word; empty where it gave none.
    own_initial, own_final
        The models of the reader's own that the run was compared with.
    """

    title: str
    found: Audit
    clients: tuple[str, ...]
    links: Mapping[int, str]
    accuracy: Mapping[int, float]
    own_initial: Path | None = None
    own_final: Path | None = None

    @property
    def verified(self) -> tuple[AuditedRound, ...]:
        """The rounds that are proved."""
        return tuple(row for row in self.found.rounds if row.round is not None)


def of_run(
    path: Path, found: Audit, page: Path, own_initial: Path | None = None, own_final: Path | None = None
) -> RunPage:
    """Gather what a page shows.

    Parameters
    ----------
    path
        The run.
    found
        What its audit just answered, a yes.
    page
        Where the page will be, for its links.

    Raises
    ------
    InputError
        If the record of accuracies is damaged.
    """
    assert found.ok
    run = Run(path)
    clients = dict.fromkeys(client for row in found.rounds if row.round for client in row.round.roster)
    start = page.resolve().parent
    links = {row.number: _link(run.round(row.number).path.resolve(), start) for row in found.rounds}
    return RunPage(path.resolve().name, found, tuple(clients), links, run.load_accuracy(), own_initial, own_final)


def _link(target: Path, start: Path) -> str:
    return Path(os.path.relpath(target, start)).as_posix() + "/"
