"""Circuits fed with honest witnesses and with lies.

The adversary knows everything and is a prover like any other: a lie starts from an honest case, breaks one thing and
recomputes whatever follows from it, so that nothing but the assertion under test stands in its way. An assertion is
known by its message *and* by the source lines of its call stack, because some share a message.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zkkrum.errors import ConstraintError
from zkkrum.proof import circuit as module
from zkkrum.proof.build import Built
from zkkrum.proof.build import build as compile_circuit
from zkkrum.proof.circuit import Circuit
from zkkrum.proof.witness import (
    Inputs,
    detection_advice,
    round_inputs,
    rule_inputs,
    shard_inputs,
    to_toml,
    verdict_inputs,
)
from zkkrum.protocol.aggregate import Aggregate
from zkkrum.protocol.challenge import Challenge, Links, combination, evaluations, rho
from zkkrum.protocol.challenge import claims as true_claims
from zkkrum.protocol.commitment import Opening, chain, leaves, statement
from zkkrum.protocol.field import P
from zkkrum.protocol.krum import Krum, Mad, Outcome, Verdict, detect, lower_median, pair_list, select, squared_norms
from zkkrum.protocol.params import Params, Round
from zkkrum.protocol.poseidon2 import hash_many
from zkkrum.protocol.quantize import Integers
from zkkrum.protocol.transcript import Secrets, Transcript
from zkkrum.toolchain import Toolchain

BLIND, SALT = 1001, 1002
"""Fixed secrets are for tests only."""

Lie = dict[str, Any]
"""Inputs, to be changed at will."""

_LOCATION = re.compile(r"([\w-]+\.nr):(\d+)")


def copy_sources(source: Path, target: Path) -> None:
    """Copy Noir sources with plain characters: the npm package counts a call stack's characters in bytes."""
    for path in sorted(source.rglob("*")):
        if path.suffix in (".nr", ".toml") and path.name != "Prover.toml" and "target" not in path.parts:
            copied = target / path.relative_to(source)
            copied.parent.mkdir(parents=True, exist_ok=True)
            copied.write_text(re.sub(r"[^\x00-\x7f]", "?", path.read_text(encoding="utf-8")))


@dataclass(frozen=True)
class Refusal:
    """Why a circuit does not accept inputs: the message, and the source lines of the call stack."""

    message: str
    stack: tuple[str, ...]


class Program:
    """A compiled program in a private folder, to be executed with any inputs."""

    def __init__(self, folder: Path, tools: Toolchain) -> None:
        self.folder = folder
        self.tools = tools

    @cached_property
    def _lines(self) -> dict[str, list[str]]:
        """Source lines by file name; names are unique in a program."""
        files = [*(module.source_folder() / "zkkrum").rglob("*.nr"), *(self.folder / "src").rglob("*.nr")]
        return {path.name: path.read_text().splitlines() for path in files}

    def execute(self, inputs: Inputs) -> None:
        """Solve the witness; `ConstraintError` if an assertion does not hold."""
        (self.folder / "Prover.toml").write_text(to_toml(inputs))
        self.tools.nargo.execute(self.folder)

    def outputs(self, inputs: Inputs, words: Sequence[int]) -> bool:
        """Tell whether the inputs satisfy the circuit and its outputs are `words`.

        ``return`` in a ``Prover.toml`` is what nargo compares the outputs with.
        """
        try:
            self.execute({**inputs, "return": list(words)})
        except ConstraintError as error:
            if not error.message.startswith("Cannot satisfy constraint"):
                raise
            return False
        return True

    def refusal(self, inputs: Inputs) -> Refusal:
        """Return why the inputs are refused; fails the test where they are not."""
        with pytest.raises(ConstraintError) as caught:
            self.execute(inputs)
        message, *calls = caught.value.message.splitlines()
        places = [match.groups() for call in calls for match in _LOCATION.finditer(call)]
        return Refusal(
            message, tuple(self._lines[name][int(line) - 1].strip() for name, line in places if name in self._lines)
        )

    def refuses(self, inputs: Inputs, message: str | None, *statements: str) -> None:
        """Check that exactly this assertion refuses: each statement is the start of a line of the call stack.

        ``None`` stands for a range check of the proof system: its message is nargo's, not ours.
        """
        found = self.refusal(inputs)
        if message is not None:
            assert found.message == message, found
        for start in statements:
            assert any(line.startswith(start) for line in found.stack), found


class Workshop:
    """Builds each circuit once a session."""

    def __init__(self, tools: Toolchain, home: Path) -> None:
        self.tools = tools
        self.home = home
        self._programs: dict[str, Program] = {}

    def build(self, circuit: Circuit) -> Built:
        return compile_circuit(circuit, self.tools)

    def program(self, circuit: Circuit) -> Program:
        if circuit.key_id not in self._programs:
            folder = self.home / circuit.key_id[:16] / circuit.crate
            shutil.copytree(self.build(circuit).folder, folder)
            self._programs[circuit.key_id] = Program(folder, self.tools)
        return self._programs[circuit.key_id]

    def crate(self, folder: Path) -> Program:
        """Compile a crate of the tests against the library."""
        target = self.home / "tests" / "circuits" / folder.name
        copy_sources(folder, target)
        copy_sources(module.source_folder() / "zkkrum", self.home / "circuits" / "zkkrum")
        self.tools.nargo.compile(target)
        return Program(target, self.tools)


# Honest cases


@dataclass(frozen=True, eq=False)
class Case:
    """A round with everything an honest prover knows."""

    params: Params
    q: Integers
    round_id: bytes = bytes(32)

    @cached_property
    def round(self) -> Round:
        return Round(self.params, 1.0, tuple(f"client-{i}" for i in range(self.params.n)), self.round_id)

    @cached_property
    def openings(self) -> list[Opening]:
        return [Opening(row, 100 + i) for i, row in enumerate(self.q)]

    @cached_property
    def leaves(self) -> list[list[int]]:
        """Leaves by client, then chunk."""
        return [leaves(opening, self.params) for opening in self.openings]

    @cached_property
    def outcome(self) -> Outcome:
        return Krum(self.params)(self.q)

    @cached_property
    def secrets(self) -> Secrets:
        links = self.params.chunks if self.params.chunks > 1 else 0
        return Secrets(BLIND, SALT, tuple(2001 + t for t in range(links)))

    @cached_property
    def transcript(self) -> Transcript:
        """What an honest prover derives."""
        return Transcript.of(self.round, self.openings, self.leaves, self.outcome, self.secrets, hash_many)

    def lying(
        self,
        *,
        outcome: Outcome | None = None,
        client_leaves: Sequence[Sequence[int]] | None = None,
        total: Integers | None = None,
        claims: Sequence[int] | None = None,
        combined: int | None = None,
        secrets: Secrets | None = None,
    ) -> Transcript:
        """Return a transcript with one stage replaced; everything that is hashed or computed from it follows.

        Distances and norms follow ``outcome`` where they are not given.
        """
        p, secrets, outcome = self.params, secrets or self.secrets, outcome or self.outcome
        accepted = outcome.verdict.accepted(p)
        aggregate = Aggregate.of(self.q, accepted, p.b, secrets.salt)
        if total is not None:
            aggregate = replace(aggregate, total=total)
        own = [*(client_leaves or self.leaves), aggregate.leaves(p)]
        commitments = [chain(self.round.context, i, each) for i, each in enumerate(own)]
        stated = statement(self.round.context, commitments[:-1], commitments[-1])
        if claims is None:
            claims = [*pair_list(outcome.distances), *squared_norms(self.q, p.b)]
        rho_ = rho(p, stated, claims, secrets.blind)
        values = evaluations(p, self.q, aggregate, rho_)
        combined = combination(p, rho_, values) if combined is None else combined
        challenge = Challenge.of(rho_, secrets.blind, combined, accepted, p.n)
        chunks = [true_claims(self.q[:, c.start : c.stop], p.b) for c in map(p.chunk_range, range(p.chunks))]
        links = Links.of(p, challenge, chunks, values, secrets.blinds) if p.chunks > 1 else None
        return Transcript(
            self.round,
            self.openings,
            outcome,
            secrets,
            accepted,
            aggregate,
            own,
            commitments,
            stated,
            claims,
            challenge,
            links,
        )

    def inputs(self, transcript: Transcript | None = None) -> Lie:
        """Return the inputs of the round circuit."""
        return editable(round_inputs(transcript or self.transcript, hash_many))  # type: ignore[no-any-return]

    def shard_inputs(self, t: int, transcript: Transcript | None = None) -> Lie:
        return editable(shard_inputs(transcript or self.transcript, t, hash_many))  # type: ignore[no-any-return]

    def verdict_inputs(self, transcript: Transcript | None = None) -> Lie:
        return editable(verdict_inputs(transcript or self.transcript))  # type: ignore[no-any-return]


# Lies: one thing broken, what follows recomputed


def editable(inputs: Any) -> Any:
    """Return a deep copy made of dicts and lists."""
    if isinstance(inputs, Mapping):
        return {name: editable(value) for name, value in inputs.items()}
    return [editable(value) for value in inputs] if isinstance(inputs, Sequence) else inputs


def put(inputs: Lie, path: str, value: object) -> Lie:
    """Return inputs with the item at a dotted path (``score.near.0.2``) replaced."""
    changed = editable(inputs)
    *parents, last = (int(name) if name.isdigit() else name for name in path.split("."))
    place = changed
    for name in parents:
        place = place[name]
    place[last] = value
    return changed  # type: ignore[no-any-return]


def get(inputs: Lie, path: str) -> Any:
    """Return the item at a dotted path."""
    place: Any = inputs
    for name in path.split("."):
        place = place[int(name) if name.isdigit() else name]
    return place


def symmetric(distances: Integers, i: int, j: int, by: int) -> Integers:
    """Return distances with the one of i and j changed."""
    changed = distances.copy()
    changed[i, j] += by
    changed[j, i] += by
    return changed


def scored(case: Case, scores: Sequence[int]) -> Outcome:
    """Return the outcome of claimed scores: selection and detection follow the rule, honestly."""
    detection = detect(scores, case.params)
    verdict = Verdict(detection.malicious, detection.flagged, select(scores, case.params.m))
    return Outcome(verdict, case.outcome.distances, tuple(scores), detection)


def with_score(case: Case, lie: Lie, i: int, score: int) -> Lie:
    """Return a lie about the score of client i with selection and detection made to follow."""
    scores = list(case.outcome.scores)
    scores[i] = score
    follows = rule_inputs(scored(case, scores), case.params)
    changed = {**lie, "selection": follows["selection"], "detection": follows["detection"]}
    return put(changed, f"score.scores.{i}", score)


def with_median(case: Case, value: int, low: Sequence[int]) -> Lie:
    """Return a lie about the median score; the deviation, the bits and the inverses follow from it."""
    scores = case.outcome.scores
    return _with_mad(case, value, lower_median([abs(s - value) for s in scores]), {"value": value, "low": low}, None)


def with_deviation(case: Case, value: int, low: Sequence[int]) -> Lie:
    """Return a lie about the median deviation; the bits and the inverses follow from it."""
    assert isinstance(case.outcome.detection, Mad)
    return _with_mad(case, case.outcome.detection.median, value, None, {"value": value, "low": low})


def _with_mad(case: Case, m: int, a: int, median: Lie | None, deviation: Lie | None) -> Lie:
    p, scores = case.params, case.outcome.scores
    rule = Mad(
        m,
        a,
        tuple(p.z.denominator * (s - m) > p.z.numerator * a for s in scores),
        tuple(p.gamma.denominator * (s - m) > p.gamma.numerator * m for s in scores),
    )
    follows = dict(detection_advice(replace(case.outcome, detection=rule)))
    honest = follows["median"]
    follows["median"] = median or honest
    if deviation:
        follows["deviation"] = deviation
    return {**case.inputs(), "detection": follows}


def inverse(x: int) -> int:
    return pow(x, -1, P) if x % P else 0


def solve(rows: Sequence[Sequence[int]], right: Sequence[int]) -> list[int]:
    """Return one solution mod p of linear equations that have one (Gauss)."""
    table = [[*(x % P for x in row), y % P] for row, y in zip(rows, right, strict=True)]
    columns, pivots = len(rows[0]), list[int]()
    for column in range(columns):
        at = next((k for k in range(len(pivots), len(table)) if table[k][column]), None)
        if at is None:
            continue
        top = len(pivots)
        table[top], table[at] = table[at], table[top]
        scale = inverse(table[top][column])
        table[top] = [x * scale % P for x in table[top]]
        for k, row in enumerate(table):
            if k != top and row[column]:
                table[k] = [(x - row[column] * y) % P for x, y in zip(row, table[top], strict=True)]
        pivots.append(column)
    assert all(row[-1] == 0 for row in table[len(pivots) :]), "no solution"
    found = [0] * columns
    for row, column in zip(table, pivots, strict=False):
        found[column] = row[-1]
    return found


def ones(n: int, members: Sequence[int]) -> list[int]:
    """Return a bit per client."""
    return [int(i in members) for i in range(n)]


def ascending(values: Sequence[int]) -> list[int]:
    """Return clients by ascending value, ties to the lowest index."""
    return [int(i) for i in np.argsort(np.array(values, dtype=object), kind="stable")]
