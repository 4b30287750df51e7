"""How a round is proved: jobs, cluster, resuming. Must not know what is proved: nothing here changes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProveOptions:
    """How a round is proved; nothing here changes what is proved.

    Parameters
    ----------
    jobs
        Proofs at once; by default from cores and memory.
    scheduler
        Address of a Dask scheduler that runs the shards instead of this machine.
    insecure_scheduler
        Whether openings may travel in the clear to a scheduler or workers elsewhere.
    resume, restart
        Finish, or throw away, what an interrupted run left beside the bundle.
    keep
        Keep the private work directory.
    """

    jobs: int | None = None
    scheduler: str | None = None
    insecure_scheduler: bool = False
    resume: bool = False
    restart: bool = False
    keep: bool = False
