"""The private folder of a run, beside its bundle: one run at a time, resumable, gone when it ends well.

Must not know how proofs are made or what is written into the bundle.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from zkkrum.errors import InputError
from zkkrum.files import explained, remove_folder, write_whole
from zkkrum.proof.form import Form
from zkkrum.proof.material import Material, check_same_as_update, load
from zkkrum.protocol.field import from_hex, to_hex
from zkkrum.protocol.poseidon2 import Hash
from zkkrum.protocol.transcript import Secrets
from zkkrum.rounds.directory import RoundDirectory

# The work directory: private, beside the bundle, gone when the run ends well


@dataclass(frozen=True)
class Work:
    """The private folder of a run (mode 0700)."""

    path: Path

    @property
    def state(self) -> Path:
        """Secrets of a sharded run and what it was started for."""
        return self.path / "run.json"

    def secrets(self) -> Secrets:
        """Return the secrets that a sharded run began with."""
        state = json.loads(self.state.read_text())
        return Secrets(from_hex(state["blind"]), from_hex(state["salt"]), tuple(from_hex(x) for x in state["blinds"]))

    @property
    def round(self) -> RoundDirectory:
        """Commitments made on the spot: their salts exist nowhere else."""
        return RoundDirectory(self.path / "round")


LOCK_SECONDS = 0.5


def _fingerprint(material: Material) -> str:
    p = material.round.params
    keys = [circuit.key_id for circuit in Form.of(p).circuits(p).values()]
    digest = hashlib.sha256(b"".join([material.round.context, *material.commitments]))
    digest.update(json.dumps(keys).encode())
    return digest.hexdigest()


def work_path(bundle: Path) -> Path:
    """Return where the run that makes this bundle keeps its private files."""
    return bundle.with_name(f".{bundle.name}.work")


@contextlib.contextmanager
def work_directory(bundle: Path, material: Material, *, resume: bool, restart: bool, keep: bool) -> Iterator[Work]:
    """Give the work directory; it survives an interrupted sharded run, for ``--resume``."""
    work = Work(work_path(bundle))
    fingerprint = _fingerprint(material)
    anything = work.path.exists()
    if anything and (restart or not work.state.is_file()):
        with _alone(work):
            remove_folder(work.path)
    fresh = not work.path.exists()
    if fresh:
        if resume and not anything:
            raise InputError(f"nothing to resume: {work.path} does not exist", "run it without --resume")
        with explained(work.path):
            work.path.mkdir(parents=True, mode=0o700)
    with _alone(work):
        try:
            if not fresh:
                _check_unfinished(work, fingerprint, resume)
            elif material.round.params.chunks > 1:
                _begin(work, material, fingerprint)
            yield work
        except BaseException:
            if not keep and not work.state.is_file():
                shutil.rmtree(work.path, ignore_errors=True)
            raise
        work.state.unlink(missing_ok=True)  # nothing is left to resume
        if not keep:
            remove_folder(work.path)


@contextlib.contextmanager
def _alone(work: Work) -> Iterator[None]:
    """Keep other runs out of the work directory; the system gives it free when we end, however we end."""
    folder = os.open(work.path, os.O_RDONLY)
    try:
        # A child that was being started when its parent was killed holds the lock until it becomes another program.
        patience = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > patience:
                    hint = "wait for it, or choose another path with -o"
                    raise InputError(f"another run is at work in {work.path}", hint) from None
                time.sleep(0.05)
        if not work.path.exists():
            raise InputError(f"the other run in {work.path} has just ended", "run it again")
        yield
    finally:
        os.close(folder)


def _begin(work: Work, material: Material, fingerprint: str) -> None:
    """Write down what a sharded run needs to be resumed."""
    secrets = Secrets.fresh(material.round.params)
    state = {
        "fingerprint": fingerprint,
        "blind": to_hex(secrets.blind),
        "salt": to_hex(secrets.salt),
        "blinds": [to_hex(x) for x in secrets.blinds],
    }
    if not material.by_clients:
        material.save(work.round)
    write_whole(work.state, json.dumps(state).encode(), mode=0o600)


def _check_unfinished(work: Work, fingerprint: str, resume: bool) -> None:
    """Refuse to go on with what was begun for something else, or unasked."""
    if not resume:
        raise InputError(f"an unfinished run is in {work.path}", "finish it with --resume, or drop it with --restart")
    if json.loads(work.state.read_text()).get("fingerprint") != fingerprint:
        raise InputError(
            f"{work.path}: belongs to other inputs (round, commitments or circuits have changed since)",
            "restore them, or drop the unfinished run with --restart",
        )


def load_unfinished(directory: Path, bundle: Path, hash: Hash) -> Material | None:
    """Load what an interrupted run committed on the spot, checked against the updates; None where it did not."""
    work = Work(work_path(bundle))
    if not work.round.openings.is_dir() or not work.state.is_file():
        return None
    material = load(work.round.path, hash)
    updates = RoundDirectory(directory).load_updates(material.round.roster, material.round.params.d)
    for opening, update in zip(material.openings, updates or [], strict=False):
        check_same_as_update(material.round, opening, update)
    return replace(material, by_clients=False, updates=updates)
