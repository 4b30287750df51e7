"""The server side under Flower: a strategy that proves each round and moves the model by the proved aggregate.

Must not know how rounds are proved. Whatever is aggregated are the dequantized committed vectors q·Δ.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import (
    ArrayRecord,
    ConfigRecord,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg, Result
from numpy.typing import NDArray

from zkkrum.errors import InputError, ZkkrumError
from zkkrum.files import whole_folder
from zkkrum.flower.messages import (
    COMMIT,
    HISTORY,
    MODE,
    ONE_MESSAGE,
    OPEN,
    START,
    STEP,
    TWO_MESSAGES,
    client_id,
    difference,
    log,
    model_of,
    on_a_line,
    pack_step,
    to_numpy,
    to_record,
    value_of,
)
from zkkrum.proof.material import Material
from zkkrum.proof.model import apply_aggregate
from zkkrum.proof.prove import Proved, prove
from zkkrum.protocol.aggregate import unproved_mean
from zkkrum.protocol.commitment import Opening, commit
from zkkrum.protocol.field import from_hex, hex_of
from zkkrum.protocol.fitness import warnings
from zkkrum.protocol.krum import Krum, Verdict
from zkkrum.protocol.params import N_MAX, N_MIN, Acceptance, Detection, Round, Score, member, parse_fraction
from zkkrum.protocol.poseidon2 import Hash, hash_many
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.models import buffers, next_model, subject_of, trained
from zkkrum.rounds.parties import Terms, open_round
from zkkrum.rounds.roundfile import RoundFile, parse_bytes
from zkkrum.rounds.run import Gap, Run
from zkkrum.rounds.updates import Update, flatten
from zkkrum.toolchain import Toolchain

SETTLED = 2.0
"""Seconds without a new node after which the strategy believes that no more are on their way."""


@dataclass(frozen=True)
class ProvedRound:
    """What came of one round; ``bundle`` is None where it was not proved, ``verdict`` where the round was void."""

    server_round: int
    nodes: tuple[int, ...]
    verdict: Verdict | None
    accepted: tuple[int, ...] = ()
    """Node ids whose committed vectors went into the model."""
    bundle: Path | None = None
    seconds: float = 0.0
    """Of proving."""
    void: str = ""
    """Why, where the round was void."""


@dataclass(frozen=True, eq=False)
class _Committed:
    """A round with everything that was committed under it, nodes in roster order."""

    nodes: tuple[int, ...]
    material: Material


class _Void(Exception):
    """Nothing comes of a round; the message says why."""


class ZkKrum(FedAvg):
    """Federated averaging of what Krum leaves, with a proof of verdict and aggregate for every round.

    Parameters
    ----------
    clip
        Quantization bound, in units of a tensor's entries; updates beyond it are clipped.
    b, f, m, score, detection, z, gamma
        Parameters of the rules as in `zkkrum.protocol.params.Params.of`; None for the defaults at the roster's size.
        Thresholds are exact text (``"5"``, ``"9/2"``).
    accept
        Whose committed updates make the next model: ``"unflagged"`` for all that are not flagged, ``"selected"`` for
        those of the m selected that are not flagged (Krum for m = 1, Multi-Krum for m = n - f). Their mean is
        unweighted, since a client's count of examples is its own claim.
    one_message
        Let clients send their models with the training reply. **Colluders may adapt**: see the module.
    run
        Folder for the run, which must be new: the initial model and, round by round, bundle, aggregate and what the
        clients published, or why there is none. ``zkkrum audit`` checks it; `zkkrum.rounds.run` has its layout.
    prove_every
        Prove rounds K, 2K, …; the verdict of the others is the reference's alone, and only clients that accept
        unproved rounds train on after them. 0 proves none.
    private
        Folder in which the rounds are kept with the openings, for ``zkkrum calibrate`` and ``report``. For the server
        alone.
    reopen
        How often a void round (a commitment or opening missing or wrong) is opened anew with those who answered. Once
        there were openings, only clients whose terms allow it commit again.
    catch_up
        Most proved rounds sent to a client that has not seen them.
    answer_timeout
        Seconds to wait for commitments, and for openings.
    tools
        Tools to prove with; found when needed.
    **options
        Of `flwr.serverapp.strategy.FedAvg`.

    Notes
    -----
    The metrics of a round carry ``zkkrum-flagged``, ``zkkrum-malicious``, ``zkkrum-clients``, ``zkkrum-accepted``,
    ``zkkrum-proved``, ``zkkrum-proving-seconds`` and ``zkkrum-void``; the bundle's path is logged and in `results`.
    """

    def __init__(
        self,
        clip: float,
        *,
        b: int = 12,
        f: int | None = None,
        m: int = 1,
        score: str = "krum-2017",
        detection: str | None = None,
        z: str | Fraction | None = None,
        gamma: str | Fraction | None = None,
        accept: str = "unflagged",
        one_message: bool = False,
        run: Path | str = "run",
        prove_every: int = 1,
        private: Path | str | None = None,
        reopen: int = 2,
        catch_up: int = 20,
        answer_timeout: float = 600.0,
        tools: Toolchain | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        overrides = {
            "f": f,
            "m": m,
            "score": member(Score, score, "score"),
            "detection": None if detection is None else member(Detection, detection, "detection"),
            "z": None if z is None else parse_fraction(z, "z"),
            "gamma": None if gamma is None else parse_fraction(gamma, "gamma"),
            "acceptance": member(Acceptance, accept, "accept"),
        }
        self.terms = Terms(b=b, clip=clip, overrides=overrides)
        self.clip, self.one_message, self.prove_every = clip, one_message, prove_every
        self.path, self.private = Path(run), Path(private) if private else None
        self.reopen, self.catch_up, self.answer_timeout = reopen, catch_up, answer_timeout
        self.results: list[ProvedRound] = []
        self._tools = tools
        self._grid: Grid | None = None
        self._arrays = self._initial = ArrayRecord()
        self._run: Run | None = None
        self._refusal = ""
        """What the first client said that did not do what it was asked last."""
        self._seen: dict[int, int] = {}
        """Node to the round up to which it has verified the model."""
        self._failed: set[int] = set()
        """Nodes that did not train when they were asked last: what they remember is not sure."""

    def summary(self) -> None:
        """Log the strategy's settings."""
        log.info("\t├──> ZkKrum settings:")
        accept = self.terms.overrides["acceptance"]
        assert isinstance(accept, Acceptance)
        log.info("\t│\t├── Clip: %g, bits: %d, accept: %s", self.clip, self.terms.b, accept.value)
        proofs = f"every {self.prove_every}" if self.prove_every else "none"
        log.info("\t│\t└── Proofs: %s, run: %s", proofs, self.path)
        if self.one_message:
            log.warning(
                "One-message mode: clients send their models before anybody has committed, and the server commits on "
                "their behalf. Colluders may adapt their updates to the others'."
            )
        super().summary()

    def start(self, grid: Grid, initial_arrays: ArrayRecord, *args: Any, **options: Any) -> Result:
        """Run the federated learning, with the tools for proving at hand from the first to the last round.

        Raises
        ------
        InputError
            Before anything runs, if so few nodes are there that no round fits the rules, or the run's folder exists.
        """
        self._run = None
        self._begin(grid, initial_arrays)
        if self._tools or not self.prove_every:
            return super().start(grid, initial_arrays, *args, **options)
        with Toolchain.find(notify=log.info).ready() as tools:
            self._tools = tools
            try:
                return super().start(grid, initial_arrays, *args, **options)
            finally:
                self._tools = None

    def _begin(self, grid: Grid, arrays: ArrayRecord) -> Run:
        """Look at the nodes, and write the initial model."""
        if self._run is None:
            model = to_numpy(arrays)
            self._require_nodes(grid, flatten(model, "server", "initial model").vector.size)
            if left_out := buffers(model):
                log.info("no floats, so no round changes them: %s", ", ".join(left_out))
            self._run = Run.create(self.path, model)
            self._initial, self._seen, self._failed, self.results = arrays, {}, set(), []
        return self._run

    def _require_nodes(self, grid: Grid, d: int) -> None:
        """Raise `InputError` if no round fits the nodes that are there; Flower itself waits for those asked for."""
        count, since = -1, time.monotonic()
        while time.monotonic() - since < SETTLED:
            connected = len(list(grid.get_node_ids()))
            sampled = max(int(connected * self.fraction_train), self.min_train_nodes)  # as FedAvg does
            if not (problem := self._misfit(sampled, d)):
                return
            if connected != count:
                count, since = connected, time.monotonic()
            time.sleep(0.1)
        least = next((n for n in range(N_MIN, N_MAX + 1) if not self._misfit(n, d)), None)
        if least is None:
            raise InputError(f"no round of any size fits these rules: with {sampled} clients, {problem}")
        simulated = max(10, least)
        error = InputError(
            f"no round fits {sampled} clients: {problem}; these rules need at least {least}",
            f'in Flower\'s simulation: flwr run . --federation-config "num-supernodes={simulated}"\n'
            f"  in a deployment: start more SuperNodes, or have the run wait for them with min_train_nodes={least}",
        )
        log.error(str(error))
        raise error

    def _misfit(self, n: int, d: int) -> str:
        """Return why n clients make no round, or an empty string."""
        try:
            open_round([client_id(node) for node in range(n)], d, self.clip, self.terms)
        except InputError as error:
            return error.message
        return ""

    # What clients are sent

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure a training round as `FedAvg` does; every client gets the proofs that it has not seen."""
        run = self._begin(grid, arrays)
        self._grid, self._arrays = grid, arrays
        config[MODE] = ONE_MESSAGE if self.one_message else TWO_MESSAGES
        packed: dict[int, ConfigRecord] = {}
        messages = []
        for message in super().configure_train(server_round, arrays, config, grid):
            node = message.metadata.dst_node_id
            content = RecordDict({**message.content, **self._history(run, node, packed)})
            messages.append(Message(content, dst_node_id=node, message_type=message.metadata.message_type))
        return messages

    def _history(self, run: Run, node: int, packed: dict[int, ConfigRecord]) -> dict[str, ConfigRecord | ArrayRecord]:
        """Return the records that lead a node from the model it knows to the one of this round, or say why not."""
        seen = self._seen.get(node, 0)
        for since in [0, seen] if node in self._failed else [seen]:
            proved, gap = self._since(since)
            if gap:
                continue
            found: dict[str, ConfigRecord | ArrayRecord] = {HISTORY: ConfigRecord({"gap": ""})}
            for number in proved:
                if number not in packed:
                    packed[number] = pack_step(run.round(number))
                found[f"{STEP}{number:04d}"] = packed[number]
            if proved and not since:
                found[START] = self._initial
            return found
        return {HISTORY: ConfigRecord({"gap": gap})}

    def _since(self, server_round: int) -> tuple[list[int], str]:
        """Return the proved rounds after another, and why they do not lead to the model of this round."""
        later = [done for done in self.results if done.server_round > server_round and done.verdict]
        proved = [done.server_round for done in later if done.bundle]
        unproved = [done.server_round for done in later if not done.bundle]
        if unproved:
            return proved, f"round {unproved[-1]} was not proved"
        if len(proved) > self.catch_up:
            return proved, f"{len(proved)} rounds are more than the {self.catch_up} that the server sends"
        return proved, ""

    # What comes of a round

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Commit, prove and aggregate; a void round leaves the model as it is."""
        valid, failed = self._check_and_log_replies(list(replies), is_train=True, validate=False)
        there = {message.metadata.src_node_id for message in valid}
        self._seen.update(dict.fromkeys(there, server_round - 1))
        self._failed = (self._failed | {message.metadata.src_node_id for message in failed}) - there
        base = to_numpy(self._arrays)
        try:
            if not valid:
                raise _Void("no client trained" + (f": {on_a_line(failed[0].error.reason)}" if failed else ""))
            committed = (self._one_message if self.one_message else self._two_messages)(valid, base)
        except _Void as void:
            return None, self._void(server_round, str(void))
        if self.private:
            with whole_folder(self.private / f"round-{server_round:04d}") as folder:
                committed.material.save(RoundDirectory(folder))
        moved, done = self._move(server_round, base, committed)
        self.results.append(done)
        metrics = self._metrics([m.content for m in valid if m.metadata.src_node_id in done.accepted])
        assert done.verdict is not None
        metrics["zkkrum-flagged"] = len(done.verdict.flagged)
        metrics["zkkrum-malicious"] = int(done.verdict.malicious)
        metrics["zkkrum-clients"] = len(done.nodes)
        metrics["zkkrum-accepted"] = len(done.accepted)
        metrics["zkkrum-proved"] = int(done.bundle is not None)
        metrics["zkkrum-proving-seconds"] = done.seconds
        metrics["zkkrum-void"] = 0
        return to_record({name: moved[name] for name in base}), metrics

    def _void(self, server_round: int, reason: str) -> MetricRecord:
        log.warning("round %d is void: %s; the model stays as it is", server_round, reason)
        assert self._run is not None
        self._run.round(server_round).save_gap(Gap.VOID, reason)
        self.results.append(ProvedRound(server_round, (), None, void=reason))
        return MetricRecord({"zkkrum-void": 1})

    def _move(
        self, server_round: int, base: Mapping[str, NDArray[Any]], committed: _Committed
    ) -> tuple[dict[str, NDArray[Any]], ProvedRound]:
        """Return the next model, moved by the proved aggregate or recorded as unproved, and what came of the round."""
        material, nodes, round = committed.material, committed.nodes, committed.material.round
        assert self._run is not None
        place = self._run.round(server_round)
        bundle, seconds = None, 0.0
        outcome = Krum(round.params)(material.q)
        for doubt in warnings(round, material.q, outcome):
            log.warning("round %d: %s", server_round, doubt)
        if self.prove_every and server_round % self.prove_every == 0:
            published = material.commitments if material.by_clients else []
            place.publish(round, dict(zip(round.roster, published, strict=False)))
            try:
                proved = self._prove(material, place.bundle)
            except ZkkrumError as error:
                place.save_gap(Gap.VOID, f"proving failed: {error.message}")
                raise
            bundle, seconds = proved.bundle, proved.seconds["wall"]
            moved = apply_aggregate(base, proved.verification)
            log.info("round %d proved and verified in %.1f s; bundle: %s", server_round, seconds, bundle)
        else:
            accepted = outcome.verdict.accepted(round.params)
            moved = next_model(base, unproved_mean(material.q, accepted, round.clip, round.params.b))
            every = f"rounds are proved every {self.prove_every}" if self.prove_every else "no round is proved"
            place.save_gap(Gap.UNPROVED, every, moved)
        verdict = outcome.verdict
        log.info(
            "round %d: %d of %d clients flagged under %s: %s",
            server_round,
            len(verdict.flagged),
            len(nodes),
            round.params.detection.value,
            ", ".join(round.roster[i] for i in verdict.flagged) or "nobody",
        )
        used = tuple(nodes[i] for i in verdict.accepted(round.params))
        return moved, ProvedRound(server_round, nodes, verdict, used, bundle, seconds)

    def _prove(self, material: Material, bundle: Path) -> Proved:
        with nullcontext(self._tools) if self._tools else Toolchain.find(notify=log.info) as tools:
            return prove(material, bundle, tools)

    # Collecting what is committed

    def _hash(self) -> Hash:
        return self._tools.bb.hash_many if self._tools else hash_many

    def _round(self, nodes: Sequence[int], base: Mapping[str, NDArray[Any]]) -> Round:
        d = sum(spec.size for spec in trained(base))
        roster = [client_id(node) for node in nodes]
        try:
            return open_round(roster, d, self.clip, self.terms, subject=subject_of(base))
        except InputError as error:
            raise _Void(f"no round with {len(nodes)} clients: {error.message}") from error

    def _one_message(self, replies: Sequence[Message], base: Mapping[str, NDArray[Any]]) -> _Committed:
        updates: dict[int, Update] = {}
        for reply in replies:
            node = reply.metadata.src_node_id
            try:
                updates[node] = flatten(difference(model_of(reply.content), base), client_id(node), "reply")
            except Exception as error:  # what a client sends must not end the run
                log.warning("left out of the roster: %s: %s", client_id(node), error)
        nodes = tuple(sorted(updates))
        round = self._round(nodes, base)
        return _Committed(nodes, Material.commit(round, [updates[node] for node in nodes], self._hash()))

    def _two_messages(self, replies: Sequence[Message], base: Mapping[str, NDArray[Any]]) -> _Committed:
        nodes = tuple(sorted({reply.metadata.src_node_id for reply in replies}))
        reasons: list[str] = []
        for attempt in range(1 + self.reopen):
            try:
                round = self._round(nodes, base)
            except _Void as void:
                raise _Void("; then ".join([*reasons, str(void)])) from void
            answered: Mapping[int, object]
            answered = commitments = self._commitments(round, nodes)
            if len(commitments) == len(nodes):
                answered = openings = self._openings(round, nodes, commitments)
                if len(openings) == len(nodes):
                    ordered = [openings[node] for node in nodes]
                    material = Material.of_openings(round, ordered, self._hash(), by_clients=True)
                    return _Committed(nodes, material)
            what = "commitments" if answered is commitments else "openings"
            silent = ", ".join(client_id(node) for node in nodes if node not in answered)
            reasons.append(f"no {what} from {silent}" + (f": {self._refusal}" if self._refusal else ""))
            log.warning("attempt %d is void: %s", attempt + 1, reasons[-1])
            nodes = tuple(answered)
            if not nodes:
                break
        raise _Void("; then ".join(reasons))

    def _commitments(self, round: Round, nodes: Sequence[int]) -> dict[int, bytes]:
        """Ask for commitments; return those that are canonical and for this context."""
        found = {}
        asked = ConfigRecord({"round": RoundFile.of(round).model_dump_json()})
        for node, content in self._ask(nodes, COMMIT, RecordDict({"round": asked})).items():
            try:
                if value_of(content, "commitment", "context", str) != hex_of(round.context):
                    raise InputError("committed under another context")
                found[node] = parse_bytes(value_of(content, "commitment", "commitment", str), 32, "commitment")
            except Exception as error:  # what a client sends must not end the run
                log.warning("%s: no commitment: %s", client_id(node), error)
        return {node: found[node] for node in nodes if node in found}

    def _openings(self, round: Round, nodes: Sequence[int], commitments: Mapping[int, bytes]) -> dict[int, Opening]:
        """Show all commitments and ask for openings; return those that fit."""
        found = {}
        published = [hex_of(commitments[node]) for node in nodes]
        shown = ConfigRecord({"commitments": published, "context": hex_of(round.context)})
        for node, content in self._ask(nodes, OPEN, RecordDict({"commitments": shown})).items():
            try:
                q = to_numpy(content.array_records["opening"])["q"]
                salt = from_hex(value_of(content, "salt", "salt", str))
                if q.dtype.kind != "i":
                    raise InputError(f"expected integers, found {q.dtype}")
                opening = Opening(q.astype(np.int64), salt)
                opening.check(round.params, client_id(node))
                if commit(round, nodes.index(node), opening, self._hash()) != commitments[node]:
                    raise InputError("it does not match the commitment")
                found[node] = opening
            except Exception as error:  # what a client sends must not end the run
                log.warning("%s: no opening: %s", client_id(node), error)
        return {node: found[node] for node in nodes if node in found}

    def _ask(self, nodes: Sequence[int], action: str, content: RecordDict) -> dict[int, RecordDict]:
        """Send the same query to all nodes; return the contents of the replies without error."""
        messages = [Message(content, dst_node_id=node, message_type=f"query.{action}") for node in nodes]
        answers: dict[int, RecordDict] = {}
        self._refusal = ""
        assert self._grid is not None
        for reply in self._grid.send_and_receive(messages, timeout=self.answer_timeout):
            node = reply.metadata.src_node_id
            if reply.has_error():
                reason = on_a_line(reply.error.reason)
                self._refusal = self._refusal or reason
                log.warning("%s: %s", client_id(node), reason)
            elif node in nodes:
                answers[node] = reply.content
        return answers

    def _metrics(self, contents: list[RecordDict]) -> MetricRecord:
        """Average the chosen clients' own metrics, where they can be averaged."""
        keep = [
            content
            for content in contents
            if len(content.metric_records) == 1 and self.weighted_by_key in next(iter(content.metric_records.values()))
        ]
        try:
            return self.train_metrics_aggr_fn(keep, self.weighted_by_key) if keep else MetricRecord()
        except Exception as error:  # what clients claim must not end the run
            log.warning("the clients' metrics cannot be averaged: %s", error)
            return MetricRecord()
