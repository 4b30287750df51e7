"""Auditing a run: is its final model exactly what the proved rounds make of the initial one?

Must not know how proofs are made, and never prints. A negative answer is an `Audit` that names the first round that
fails; an exception means that nothing could be decided.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from enum import Enum
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from zkkrum.errors import InputError, ZkkrumError
from zkkrum.progress import Progress, silent
from zkkrum.proof.model import mean_of
from zkkrum.proof.verify import Verification, verify
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.params import Round
from zkkrum.rounds.models import check_fits, load_model, next_model, subject_of
from zkkrum.rounds.run import Gap, GapFile, Run, RunRound
from zkkrum.rounds.tensors import Tensors, layout_of, read_layout
from zkkrum.rounds.updates import updatable
from zkkrum.toolchain import Toolchain

VALUES_MAX = 2**22
"""Values of an initial model, buffers included, that is read before anything is verified: some 300 MB."""
AHEAD = 2
"""Rounds verified ahead of the one whose turn it is, per job: each holds an aggregate in memory."""


class State(str, Enum):
    """What an audit says of a round."""

    VERIFIED = "verified"
    VOID = "void"
    UNPROVED = "unproved"


@dataclass(frozen=True)
class AuditedRound:
    """One round of the table.

    Parameters
    ----------
    number, state
        From 1; what is known of it.
    reason
        Of a gap, by the server's own word.
    round
        Its public parameters, where it is verified.
    malicious, flagged, accepted
        The proved verdict, by client id.
    commitments_by, commitments_compared
        Who committed by the bundle's word; whether the run holds what the clients published.
    changed
        Which of the public parameters are not those of the verified round before.
    seconds
        Verifying took.
    """

    number: int
    state: State
    reason: str = ""
    round: Round | None = None
    malicious: bool = False
    flagged: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    commitments_by: str = ""
    commitments_compared: bool = False
    changed: tuple[str, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Stretch:
    """Consecutive rounds of which every step is verified: from one model to another.

    Parameters
    ----------
    first, last
        Numbers of its first and last verified round; void rounds between change nothing.
    start, end
        `subject_of` the models.
    """

    first: int
    last: int
    start: bytes
    end: bytes


@dataclass(frozen=True, eq=False)
class Audit:
    """The answer: whether every proved round holds and starts from the model that the one before yields.

    Parameters
    ----------
    ok, reason, failed
        The answer; if it is no, the first thing that fails, and its round (None where it is of no round).
    rounds
        In order, up to the one that fails.
    stretches
        From which model to which model the run is verified: one stretch where no round is ``unproved``.
    initial, final
        `subject_of` the first and the last model; ``final`` is empty where the answer is no.
    model
        The last model.
    """

    ok: bool
    reason: str = ""
    failed: int | None = None
    rounds: tuple[AuditedRound, ...] = ()
    stretches: tuple[Stretch, ...] = ()
    initial: bytes = b""
    final: bytes = b""
    model: Tensors | None = None

    @property
    def gaps(self) -> tuple[AuditedRound, ...]:
        """The rounds that nothing proves."""
        return tuple(found for found in self.rounds if found.state is not State.VERIFIED)


class _Refuted(Exception):
    """The run is refuted; the message is the reason."""

    def __init__(self, reason: str, number: int | None = None) -> None:
        super().__init__(reason)
        self.number = number


def audit(
    path: Path,
    tools: Toolchain,
    *,
    initial: Path | None = None,
    final: Path | None = None,
    jobs: int = 2,
    progress: Progress = silent,
) -> Audit:
    """Audit a run (`zkkrum.rounds.run` has its layout).

    Every round is verified as `zkkrum.proof.verify.verify` does, with its ``round.toml``, aggregate and, where they
    are published, commitments; its subject must be that of the model which the round before yields.

    Parameters
    ----------
    path
        The run.
    initial
        The auditor's own copy of the initial model; without it the run's is believed.
    final
        A model to compare with the run's last one.
    jobs
        Rounds verified at once.

    Raises
    ------
    InputError
        If the run, a file in it or a model cannot be read; a round's is named.
    ReferenceStringError
        If a key must be rebuilt and there are no points for it.
    """
    run = Run(path)
    numbers = run.numbers()
    try:
        model = load_model(initial) if initial else _initial_of(run, numbers, tools)
    except _Refuted as refuted:
        return Audit(False, str(refuted), refuted.number)
    ends_with = read_layout(final) if final else ()  # whatever is wrong with it is said before the long work
    walk = _Walk(model)
    total = numbers[-1]
    try:
        progress("rounds", 0, total)
        for found in _looked_at(run, numbers, tools, jobs):
            walk.step(found)
            progress("rounds", found.place.number, total)
        same = set(ends_with) == set(layout_of(walk.model))
        if final and not (same and subject_of(load_model(final)) == walk.subject):
            raise _Refuted(f"{final} is not the model that the run ends with")
    except _Refuted as refuted:
        rounds, stretches = tuple(walk.rounds), tuple(walk.stretches)
        return Audit(False, str(refuted), refuted.number, rounds, stretches, walk.initial)
    return Audit(
        True,
        rounds=tuple(walk.rounds),
        stretches=tuple(walk.stretches),
        initial=walk.initial,
        final=walk.subject,
        model=walk.model,
    )


def _initial_of(run: Run, numbers: Sequence[int], tools: Toolchain) -> dict[str, NDArray[Any]]:
    """Load the run's own initial model; a very large one only if a proved round has as many values.

    A stranger may have made it so that a small file unpacks to gigabytes, and nobody can prove a round of so many.
    """
    layout = run.initial_layout()
    size = sum(spec.size for spec in updatable(layout))
    if sum(spec.size for spec in layout) > VALUES_MAX:
        first = next((place for place in map(run.round, numbers) if place.bundle.exists()), None)
        found = _look(first, tools).verification if first else None
        if not (found and found.round and found.round.params.d == size):
            raise InputError(
                f"{run.path}: its initial model has {size:,} values, and its first proved round does not say so",
                "give your own copy of it with --initial",
            )
    return run.load_initial()


# Looking at rounds: independent of each other


@dataclass(frozen=True, eq=False)
class _Looked:
    """What one round's folder holds: the record of a gap, or a bundle with its answer."""

    place: RunRound
    gap: GapFile | None = None
    verification: Verification | None = None
    seconds: float = 0.0


def _look(place: RunRound, tools: Toolchain) -> _Looked:
    try:
        gap = place.load_gap()
        if gap and place.bundle.exists():
            raise _Refuted("it has both a bundle and the record of a gap", place.number)
        if gap:
            return _Looked(place, gap)
        for needed in (place.bundle, place.home.round_file, place.aggregate):
            if not needed.exists():
                raise _Refuted(f"no {needed.name} (and no {place.gap_file.name} that says why)", place.number)
        started = time.perf_counter()
        commitments = place.home.commitments
        found = verify(
            place.bundle,
            tools,
            commitments=commitments if commitments.is_dir() else None,
            round_file=place.home.round_file,
            aggregate=place.aggregate,
            jobs=1,
        )
        return _Looked(place, verification=found, seconds=time.perf_counter() - started)
    except ZkkrumError as error:
        error.message = f"round {place.number}: {error.message}"
        raise


def _looked_at(run: Run, numbers: Sequence[int], tools: Toolchain, jobs: int) -> Iterator[_Looked]:
    """Look at all rounds, several at once and few ahead, and give them in order."""
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        waiting: deque[Future[_Looked]] = deque()
        try:
            for number in range(1, numbers[-1] + 1):
                place = run.round(number)
                if number not in numbers:
                    yield from (future.result() for future in _drained(waiting))
                    raise _Refuted(f"it is left out: no folder {place.path.name}, no record of a gap", number)
                waiting.append(pool.submit(_look, place, tools))
                if number == 1 or len(waiting) >= jobs * AHEAD:  # the first alone: it may have to rebuild a key
                    yield waiting.popleft().result()
            yield from (future.result() for future in _drained(waiting))
        finally:
            pool.shutdown(cancel_futures=True)


def _drained(waiting: deque[Future[_Looked]]) -> Iterator[Future[_Looked]]:
    while waiting:
        yield waiting.popleft()


# Walking from model to model


class _Walk:
    """Where an audit stands: the model after the rounds so far, and what was found on the way."""

    def __init__(self, model: dict[str, NDArray[Any]]) -> None:
        self.model = model
        self.initial = self.subject = subject_of(model)
        self.rounds: list[AuditedRound] = []
        self.stretches: list[Stretch] = []
        self._whole = False  # whether the last stretch may go on
        self._before: Round | None = None
        self._ids: dict[bytes, int] = {}

    def step(self, looked: _Looked) -> None:
        """Take the next round; `_Refuted` where it does not follow."""
        if looked.gap:
            self._gap(looked.place, looked.gap)
        else:
            assert looked.verification is not None
            self._proved(looked.place.number, looked.verification, looked.seconds)

    def _gap(self, place: RunRound, gap: GapFile) -> None:
        if gap.kind is Gap.UNPROVED:
            try:
                if set(place.layout_after()) != set(layout_of(self.model)):  # before any value is read
                    raise _Refuted("the model after it has other tensors than the one before", place.number)
                after = place.load_model_after()
            except InputError as error:
                raise InputError(f"round {place.number}: {error.message}", error.hint) from error
            self.model, self.subject, self._whole = after, subject_of(after), False
        self.rounds.append(AuditedRound(place.number, State(gap.kind.value), gap.reason))

    def _proved(self, number: int, found: Verification, seconds: float) -> None:
        if not found.ok:
            raise _Refuted(found.reason, number)
        assert found.round is not None
        assert found.verdict is not None
        assert found.opened is not None
        round, verdict = found.round, found.verdict
        if (earlier := self._ids.setdefault(round.round_id, number)) != number:
            raise _Refuted(f"it has the id of round {earlier}: one of them is a copy", number)
        if round.subject != self.subject:
            where = f"after round {number - 1}" if number > 1 else "that the run starts from"
            raise _Refuted(
                f"it starts from another model: its subject is {hex_of(round.subject)}, that of the model {where} "
                f"{hex_of(self.subject)}",
                number,
            )
        start = self.subject
        try:
            if found.opened.layout:
                check_fits(self.model, found.opened.layout)
            self.model = next_model(self.model, mean_of(found))
        except InputError as error:
            raise _Refuted(error.message, number) from error
        self.subject = subject_of(self.model)
        if self._whole:
            self.stretches[-1] = Stretch(self.stretches[-1].first, number, self.stretches[-1].start, self.subject)
        else:
            self.stretches.append(Stretch(number, number, start, self.subject))
        self._whole = True
        self.rounds.append(
            AuditedRound(
                number,
                State.VERIFIED,
                round=round,
                malicious=verdict.malicious,
                flagged=tuple(round.roster[i] for i in verdict.flagged),
                accepted=tuple(round.roster[i] for i in verdict.accepted(round.params)),
                commitments_by=found.commitments_by,
                commitments_compared=found.commitments_compared,
                changed=_changed(self._before, round) if self._before else (),
                seconds=seconds,
            )
        )
        self._before = round


def _changed(before: Round, now: Round) -> tuple[str, ...]:
    """Name the terms that differ; the id, the subject and what follows from n and d differ by nature."""
    own = [name for name in ("roster", "clip", "chain_id", "contract") if getattr(before, name) != getattr(now, name)]
    names = [field.name for field in fields(now.params) if field.name not in ("n", "d", "chunk")]
    return (*own, *(name for name in names if getattr(before.params, name) != getattr(now.params, name)))
