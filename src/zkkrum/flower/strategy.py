"""The server side under Flower: a strategy that proves each round and aggregates by its verdict.

Must not know how rounds are proved. Whatever is aggregated are the dequantized committed vectors q·Δ.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
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

from zkkrum.errors import InputError
from zkkrum.files import whole_folder
from zkkrum.flower.messages import (
    COMMIT,
    MODE,
    ONE_MESSAGE,
    OPEN,
    SELECTED,
    TWO_MESSAGES,
    UNFLAGGED,
    client_id,
    log,
    only,
    to_numpy,
    to_record,
)
from zkkrum.proof.material import Material
from zkkrum.proof.prove import prove
from zkkrum.protocol.commitment import Opening, commit
from zkkrum.protocol.field import from_hex, hex_of
from zkkrum.protocol.krum import Krum, Verdict
from zkkrum.protocol.params import Detection, Round, Score, parse_fraction
from zkkrum.protocol.poseidon2 import Hash, hash_many
from zkkrum.protocol.quantize import dequantize
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.models import subject_of
from zkkrum.rounds.parties import Terms, open_round
from zkkrum.rounds.roundfile import RoundFile, parse_bytes, save_round
from zkkrum.rounds.tensors import layout_of
from zkkrum.rounds.updates import Update, check_same_layout, flatten, unflatten
from zkkrum.toolchain import Toolchain


@dataclass(frozen=True)
class ProvedRound:
    """What came of one round; ``bundle`` is None where it was not proved, ``verdict`` where the round was void."""

    server_round: int
    nodes: tuple[int, ...]
    verdict: Verdict | None
    aggregated: tuple[int, ...] = ()
    """Node ids whose committed vectors went into the model."""
    bundle: Path | None = None
    seconds: float = 0.0
    """Of proving."""


@dataclass(frozen=True, eq=False)
class _Committed:
    """A round with everything that was committed under it, nodes in roster order."""

    nodes: tuple[int, ...]
    material: Material


class ZkKrum(FedAvg):
    """Federated averaging of what Krum leaves, with a proof of the verdict for every round.

    Parameters
    ----------
    clip
        Quantization bound, in units of a tensor's entries; updates beyond it are clipped.
    b, f, m, score, detection, z, gamma
        Parameters of the rules as in `zkkrum.protocol.params.Params.of`; None for the defaults at the roster's size.
        Thresholds are exact text (``"5"``, ``"9/2"``).
    aggregate
        ``"unflagged"``: the mean of the clients that are not flagged; ``"selected"``: of the m selected (Krum for
        m = 1, else Multi-Krum). Unweighted, since a client's count of examples is its own claim.
    one_message
        Let clients send their models with the training reply. **Colluders may adapt**: see the module.
    bundles
        Folder for the bundles, ``round-0001`` and so on.
    prove_every
        Prove rounds K, 2K, …; the verdict of the others is the reference's alone. 0 proves none.
    rounds
        Folder in which the rounds are kept with commitments and openings, for ``zkkrum calibrate`` and ``report``.
        Private to the server.
    reopen
        How often a void round (a commitment or opening missing or wrong) is opened anew with those who answered.
    answer_timeout
        Seconds to wait for commitments, and for openings.
    tools
        Tools to prove with; found when needed.
    **options
        Of `flwr.serverapp.strategy.FedAvg`.

    Notes
    -----
    The metrics of a round carry ``zkkrum-flagged``, ``zkkrum-malicious``, ``zkkrum-clients``, ``zkkrum-aggregated``,
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
        aggregate: str = UNFLAGGED,
        one_message: bool = False,
        bundles: Path | str = "bundles",
        prove_every: int = 1,
        rounds: Path | str | None = None,
        reopen: int = 2,
        answer_timeout: float = 600.0,
        tools: Toolchain | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if aggregate not in (UNFLAGGED, SELECTED):
            raise InputError(f"aggregate: expected {UNFLAGGED} or {SELECTED}, found {aggregate!r}")
        overrides = {
            "f": f,
            "m": m,
            "score": Score(score),
            "detection": Detection(detection) if detection else None,
            "z": None if z is None else parse_fraction(z, "z"),
            "gamma": None if gamma is None else parse_fraction(gamma, "gamma"),
        }
        self.clip = clip
        self.terms = Terms(b=b, clip=clip, overrides=overrides)
        self.aggregate, self.one_message = aggregate, one_message
        self.bundles, self.prove_every = Path(bundles), prove_every
        self.rounds = Path(rounds) if rounds else None
        self.reopen, self.answer_timeout = reopen, answer_timeout
        self.results: list[ProvedRound] = []
        self._tools, self._grid, self._arrays = tools, None, None  # type: tuple[Any, Any, Any]

    def summary(self) -> None:
        """Log the strategy's settings."""
        log.info("\t├──> ZkKrum settings:")
        log.info("\t│\t├── Clip: %g, bits: %d, aggregate: %s", self.clip, self.terms.b, self.aggregate)
        log.info(
            "\t│\t└── Proofs: %s, bundles: %s",
            f"every {self.prove_every}" if self.prove_every else "none",
            self.bundles,
        )
        if self.one_message:
            log.warning(
                "One-message mode: clients send their models before anybody has committed, and the server commits on "
                "their behalf. Colluders may adapt their updates to the others'."
            )
        super().summary()

    def start(self, *args: Any, **options: Any) -> Result:
        """Run the federated learning, with the tools for proving at hand from the first to the last round."""
        if self._tools or not self.prove_every:
            return super().start(*args, **options)
        with Toolchain.find(notify=log.info) as tools:
            self._tools = tools
            try:
                return super().start(*args, **options)
            finally:
                self._tools = None

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Configure a training round as `FedAvg` does, and say which mode it is in."""
        self._grid, self._arrays = grid, arrays
        config[MODE] = ONE_MESSAGE if self.one_message else TWO_MESSAGES
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Commit, prove and aggregate; a void round leaves the model as it is."""
        valid, _ = self._check_and_log_replies(list(replies), is_train=True, validate=False)
        base = to_numpy(self._arrays)
        committed = None
        if valid:
            collect = self._one_message if self.one_message else self._two_messages
            committed = collect(valid, base)
        if committed is None:
            log.warning("round %d is void: the model stays as it is", server_round)
            self.results.append(ProvedRound(server_round, (), None))
            return None, MetricRecord({"zkkrum-void": 1})
        material, nodes = committed.material, committed.nodes
        round, bundle, seconds = material.round, None, 0.0
        q = np.stack([opening.q for opening in material.openings])
        if self.prove_every and server_round % self.prove_every == 0:
            start = time.perf_counter()
            bundle = self.bundles / f"round-{server_round:04d}"
            verdict = self._prove(material, bundle)
            seconds = time.perf_counter() - start
            log.info("round %d proved and verified in %.1f s; bundle: %s", server_round, seconds, bundle)
        else:
            verdict = Krum(round.params)(q).verdict
        if self.rounds:
            self._keep(self.rounds / f"round-{server_round:04d}", material)
        unflagged = [i for i in range(len(nodes)) if i not in verdict.flagged]
        chosen = list(verdict.selected) if self.aggregate == SELECTED else unflagged
        log.info(
            "round %d: %d of %d clients flagged under %s: %s",
            server_round,
            len(verdict.flagged),
            len(nodes),
            round.params.detection.value,
            ", ".join(round.roster[i] for i in verdict.flagged) or "nobody",
        )
        step = dequantize(q[chosen], round.clip, round.params.b).mean(axis=0)
        layout = layout_of(base)
        moved = unflatten(flatten(base, "model").vector + step, layout)
        used = tuple(nodes[i] for i in chosen)
        self.results.append(ProvedRound(server_round, nodes, verdict, used, bundle, seconds))
        metrics = self._metrics([m.content for m in valid if m.metadata.src_node_id in used])
        metrics["zkkrum-flagged"] = len(verdict.flagged)
        metrics["zkkrum-malicious"] = int(verdict.malicious)
        metrics["zkkrum-clients"] = len(nodes)
        metrics["zkkrum-aggregated"] = len(chosen)
        metrics["zkkrum-proved"] = int(bundle is not None)
        metrics["zkkrum-proving-seconds"] = seconds
        metrics["zkkrum-void"] = 0
        return to_record({name: moved[name] for name in base}), metrics

    # Collecting what is committed

    def _hash(self) -> Hash:
        return self._tools.bb.hash_many if self._tools else hash_many

    def _round(self, nodes: Sequence[int], base: Mapping[str, NDArray[Any]]) -> Round:
        d = sum(value.size for value in base.values())
        roster = [client_id(node) for node in nodes]
        return open_round(roster, d, self.clip, self.terms, subject=subject_of(base))

    def _one_message(self, replies: Sequence[Message], base: Mapping[str, NDArray[Any]]) -> _Committed | None:
        updates: dict[int, Update] = {}
        expected, empty = layout_of(base), np.zeros(0)
        for reply in replies:
            node = reply.metadata.src_node_id
            try:
                sent = to_numpy(only(reply.content.array_records, "ArrayRecord"))
                check_same_layout([Update("server", empty, expected), Update(client_id(node), empty, layout_of(sent))])
                delta = {name: (sent[name] - base[name]).astype(base[name].dtype) for name in base}
                updates[node] = flatten(delta, client_id(node), "reply")
            except Exception as error:  # what a client sends must not end the run
                log.warning("left out of the roster: %s: %s", client_id(node), error)
        nodes = tuple(sorted(updates))
        try:
            round = self._round(nodes, base)
        except InputError as error:
            log.warning("no round with %d clients: %s", len(nodes), error)
            return None
        return _Committed(nodes, Material.commit(round, [updates[node] for node in nodes], self._hash()))

    def _two_messages(self, replies: Sequence[Message], base: Mapping[str, NDArray[Any]]) -> _Committed | None:
        nodes = tuple(sorted({reply.metadata.src_node_id for reply in replies}))
        for attempt in range(1 + self.reopen):
            try:
                round = self._round(nodes, base)
            except InputError as error:
                log.warning("no round with %d clients: %s", len(nodes), error)
                return None
            commitments = self._commitments(round, nodes)
            if len(commitments) == len(nodes):
                openings = self._openings(round, nodes, commitments)
                if len(openings) == len(nodes):
                    ordered = [openings[node] for node in nodes]
                    material = Material.of_openings(round, ordered, self._hash(), by_clients=True)
                    return _Committed(nodes, material)
                nodes = tuple(openings)
            else:
                nodes = tuple(commitments)
            log.warning("void, attempt %d: %d of %d clients answered", attempt + 1, len(nodes), len(round.roster))
        return None

    def _commitments(self, round: Round, nodes: Sequence[int]) -> dict[int, bytes]:
        """Ask for commitments; return those that are canonical and for this context."""
        found = {}
        asked = ConfigRecord({"round": RoundFile.of(round).model_dump_json()})
        for node, content in self._ask(nodes, COMMIT, RecordDict({"round": asked})).items():
            try:
                answer = content.config_records["commitment"]
                if answer["context"] != hex_of(round.context):
                    raise ValueError("committed under another context")
                found[node] = parse_bytes(str(answer["commitment"]), 32, "commitment")
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
                salt = from_hex(str(content.config_records["salt"]["salt"]))
                if q.dtype.kind != "i":
                    raise ValueError(f"expected integers, found {q.dtype}")
                opening = Opening(q.astype(np.int64), salt)
                opening.check(round.params, client_id(node))
                if commit(round, nodes.index(node), opening, self._hash()) != commitments[node]:
                    raise ValueError("it does not match the commitment")
                found[node] = opening
            except Exception as error:  # what a client sends must not end the run
                log.warning("%s: no opening: %s", client_id(node), error)
        return {node: found[node] for node in nodes if node in found}

    def _ask(self, nodes: Sequence[int], action: str, content: RecordDict) -> dict[int, RecordDict]:
        """Send the same query to all nodes; return the contents of the replies without error."""
        messages = [Message(content, dst_node_id=node, message_type=f"query.{action}") for node in nodes]
        answers = {}
        for reply in self._grid.send_and_receive(messages, timeout=self.answer_timeout):
            node = reply.metadata.src_node_id
            if reply.has_error():
                log.warning("%s: %s", client_id(node), reply.error.reason)
            elif node in nodes:
                answers[node] = reply.content
        return answers

    # Proving and keeping

    def _prove(self, material: Material, bundle: Path) -> Verdict:
        if self._tools:
            return prove(material, bundle, self._tools).outcome.verdict
        with Toolchain.find(notify=log.info) as tools:
            return prove(material, bundle, tools).outcome.verdict

    @staticmethod
    def _keep(path: Path, material: Material) -> None:
        round = material.round
        with whole_folder(path) as folder:
            home = RoundDirectory(folder)
            save_round(home.round_file, round)
            for client, opening, commitment in zip(round.roster, material.openings, material.commitments, strict=True):
                home.save_commitment(round, client, opening, commitment)

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
