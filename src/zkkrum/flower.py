"""Flower: a server strategy that proves each round and aggregates by the verdict, and the client side of committing.

Must not be imported by the rest of zkkrum: it needs the extra ``flower`` (flwr >= 1.27, ServerApp API). Whatever is
aggregated are the dequantized committed vectors q·Δ, never what a client trained.

In two-message mode (the default) clients keep what they trained. The replies to the training message without an error
make the roster; the server then asks for commitments under that roster's context and, when it has all of them, shows
them to every client and asks for the openings. In one-message mode clients send their model with the training reply,
as they would to any strategy, and the server commits on their behalf: nothing binds a client before the server has
seen what others sent, so colluders (the server among them) may adapt.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zkkrum.commitment import Opening, commit
from zkkrum.errors import InputError
from zkkrum.extras import require
from zkkrum.field import from_hex, to_hex
from zkkrum.files import whole_folder
from zkkrum.krum import Krum, Verdict
from zkkrum.params import Detection, Round, Score, parse_fraction
from zkkrum.parties import Terms, commit_update, open_round
from zkkrum.poseidon2 import Hash, hash_many
from zkkrum.prove import Material, prove
from zkkrum.quantize import dequantize
from zkkrum.rounds import RoundDirectory, RoundFile, save_round
from zkkrum.toolchain import Toolchain
from zkkrum.updates import Layout, TensorSpec, Update, check_same_layout, flatten, layout_hash, unflatten

require("flwr.serverapp", "flower")

from flwr.app import (  # noqa: E402
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp  # noqa: E402
from flwr.serverapp import Grid  # noqa: E402
from flwr.serverapp.strategy import FedAvg, Result  # noqa: E402

COMMIT, OPEN = "zkkrum_commit", "zkkrum_open"
"""Actions of the query messages by which the server asks for commitments and openings."""
MODE = "zkkrum-mode"
TWO_MESSAGES, ONE_MESSAGE = "two-message", "one-message"
STATE, UPDATE, OPENING = "zkkrum", "zkkrum-update", "zkkrum-opening"
UNFLAGGED, SELECTED = "unflagged", "selected"

log = logging.getLogger("flwr")


def client_id(node_id: int) -> str:
    """Return the roster's name of a Flower node."""
    return f"node-{node_id}"


def subject_of(arrays: Mapping[str, NDArray[Any]], layout: Layout) -> bytes:
    """Return the subject of a round: its layout, and SHA-256 of the base model's bytes in the layout's order."""
    digest = hashlib.sha256()
    for spec in layout:
        digest.update(np.ascontiguousarray(arrays[spec.name]).tobytes())
    return layout_hash(layout, digest.digest())


def layout_of(arrays: Mapping[str, NDArray[Any]]) -> Layout:
    """Return the layout in which updates of a model are flattened."""
    return tuple(
        TensorSpec(name, arrays[name].shape, arrays[name].dtype.name) for name in sorted(arrays, key=str.encode)
    )


def _numpy(record: ArrayRecord) -> dict[str, NDArray[Any]]:
    return {name: array.numpy() for name, array in record.items()}


def _record(arrays: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    return ArrayRecord({name: Array(np.asarray(value)) for name, value in arrays.items()})


def _only(records: Mapping[str, Any], what: str) -> Any:
    if len(records) != 1:
        raise InputError(f"message: expected one {what}, found {len(records)}")
    return next(iter(records.values()))


# The client


class ZkKrumClient:
    """The client side: keeps what was trained, commits when asked, opens when all have committed.

    Parameters
    ----------
    app
        The ClientApp to serve; two query functions are registered on it.
    accept
        Looks at the round before anything is committed, and returns why it is refused, or an empty string. This is
        where a client checks clip, thresholds, f and who else is in the roster.
    hash
        Poseidon2; by default plain Python. Large models want ``Toolchain.find().bb.hash_many``.

    Examples
    --------
    ::

        app = ClientApp()
        zkkrum = ZkKrumClient(app)

        @app.train()
        def train(message, context):
            ...
            return zkkrum.reply(message, context, trained, {"num-examples": 100})
    """

    def __init__(self, app: ClientApp, accept: Callable[[Round], str] | None = None, hash: Hash = hash_many) -> None:
        self._accept, self._hash = accept, hash
        app.query(COMMIT)(self._commit)
        app.query(OPEN)(self._open)

    def reply(
        self,
        message: Message,
        context: Context,
        trained: Mapping[str, NDArray[Any]],
        metrics: Mapping[str, int | float | list[int] | list[float]],
    ) -> Message:
        """Return the reply to a training message.

        Parameters
        ----------
        message, context
            As the training function got them.
        trained
            The model after local training: the same tensors as in the message.
        metrics
            What the server may average, ``num-examples`` among them.
        """
        base = _numpy(_only(message.content.array_records, "ArrayRecord"))
        content = RecordDict({"metrics": MetricRecord(dict(metrics))})
        mode = _only(message.content.config_records, "ConfigRecord").get(MODE, ONE_MESSAGE)
        if mode == ONE_MESSAGE:
            content["arrays"] = _record(trained)
            return Message(content, reply_to=message)
        delta = {name: (trained[name] - base[name]).astype(base[name].dtype) for name in base}
        update = flatten(delta, client_id(context.node_id))
        state = self._state(context)
        state["subject"] = subject_of(base, update.layout).hex()
        context.state[STATE] = state
        context.state[UPDATE] = _record(delta)
        return Message(content, reply_to=message)

    @staticmethod
    def _state(context: Context) -> ConfigRecord:
        return context.state.config_records.get(STATE, ConfigRecord({"seen": [], "context": "", "commitment": ""}))

    def _commit(self, message: Message, context: Context) -> Message:
        """Commit under a round's context, once; refuse a round that is not about what was trained."""
        me, state = client_id(context.node_id), self._state(context)
        asked = message.content.config_records["round"]
        round = RoundFile.model_validate_json(str(asked["round"])).round()
        seen = [str(x) for x in state["seen"]]  # type: ignore[union-attr]
        round_id = round.round_id.hex()
        if round_id in seen:
            raise InputError(f"client {me!r}: round 0x{round_id} has been committed to before")
        if UPDATE not in context.state:
            raise InputError(f"client {me!r}: nothing was trained for this round")
        update = flatten(_numpy(context.state.array_records[UPDATE]), me)
        subject = round.subject.hex()
        if subject != state["subject"]:
            raise InputError(f"client {me!r}: the round is about another model (subject 0x{subject})")
        if self._accept and (reason := self._accept(round)):
            raise InputError(f"client {me!r}: refuses the round: {reason}")
        opening, commitment = commit_update(round, me, update, self._hash)
        state["seen"] = [*seen, round_id]
        state["context"], state["commitment"] = to_hex(round.context), to_hex(commitment)
        state["position"], state["clients"] = round.roster.index(me), len(round.roster)
        state["salt"] = to_hex(opening.salt)
        context.state[STATE] = state
        context.state[OPENING] = _record({"q": opening.q.astype(np.int16)})
        reply = ConfigRecord({"commitment": to_hex(commitment), "context": to_hex(round.context)})
        return Message(RecordDict({"commitment": reply}), reply_to=message)

    def _open(self, message: Message, context: Context) -> Message:
        """Open, if the server shows a commitment of every client and this client's own among them."""
        me, state = client_id(context.node_id), self._state(context)
        shown = message.content.config_records["commitments"]
        commitments = [str(x) for x in shown["commitments"]]  # type: ignore[union-attr]
        if shown["context"] != state["context"] or OPENING not in context.state:
            raise InputError(f"client {me!r}: is asked to open what it has not committed to")
        if (shown_count := len([from_hex(c) for c in commitments])) != state["clients"]:
            raise InputError(f"client {me!r}: does not open before all have committed, shown {shown_count} commitments")
        if commitments[int(state["position"])] != state["commitment"]:  # type: ignore[arg-type]
            raise InputError(f"client {me!r}: its commitment is not the one it made")
        content = RecordDict(
            {"opening": context.state.array_records[OPENING], "salt": ConfigRecord({"salt": state["salt"]})}
        )
        del context.state[OPENING]
        return Message(content, reply_to=message)


# The server


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
        Parameters of the rules as in `zkkrum.params.Params.of`; None for the defaults at the roster's size.
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
        base = _numpy(self._arrays)
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
        return _record({name: moved[name] for name in base}), metrics

    # Collecting what is committed

    def _hash(self) -> Hash:
        return self._tools.bb.hash_many if self._tools else hash_many

    def _round(self, nodes: Sequence[int], base: Mapping[str, NDArray[Any]]) -> Round:
        layout = layout_of(base)
        d = sum(value.size for value in base.values())
        roster = [client_id(node) for node in nodes]
        return open_round(roster, d, self.clip, self.terms, subject=subject_of(base, layout))

    def _one_message(self, replies: Sequence[Message], base: Mapping[str, NDArray[Any]]) -> _Committed | None:
        updates: dict[int, Update] = {}
        expected, empty = layout_of(base), np.zeros(0)
        for reply in replies:
            node = reply.metadata.src_node_id
            try:
                sent = _numpy(_only(reply.content.array_records, "ArrayRecord"))
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
        pairs = [commit_update(round, client_id(node), updates[node], self._hash()) for node in nodes]
        return _Committed(nodes, Material(round, [o for o, _ in pairs], [c for _, c in pairs], by_clients=False))

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
                    ordered = [openings[node] for node in nodes], [commitments[node] for node in nodes]
                    return _Committed(nodes, Material(round, *ordered, by_clients=True))
                nodes = tuple(openings)
            else:
                nodes = tuple(commitments)
            log.warning("void, attempt %d: %d of %d clients answered", attempt + 1, len(nodes), len(round.roster))
        return None

    def _commitments(self, round: Round, nodes: Sequence[int]) -> dict[int, int]:
        """Ask for commitments; return those that are canonical and for this context."""
        found = {}
        asked = ConfigRecord({"round": RoundFile.of(round).model_dump_json()})
        for node, content in self._ask(nodes, COMMIT, RecordDict({"round": asked})).items():
            try:
                answer = content.config_records["commitment"]
                if answer["context"] != to_hex(round.context):
                    raise ValueError("committed under another context")
                found[node] = from_hex(str(answer["commitment"]))
            except Exception as error:  # what a client sends must not end the run
                log.warning("%s: no commitment: %s", client_id(node), error)
        return {node: found[node] for node in nodes if node in found}

    def _openings(self, round: Round, nodes: Sequence[int], commitments: Mapping[int, int]) -> dict[int, Opening]:
        """Show all commitments and ask for openings; return those that fit."""
        found = {}
        published = [to_hex(commitments[node]) for node in nodes]
        shown = ConfigRecord({"commitments": published, "context": to_hex(round.context)})
        for node, content in self._ask(nodes, OPEN, RecordDict({"commitments": shown})).items():
            try:
                q = _numpy(content.array_records["opening"])["q"]
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


# Flower without its simulation engine


class InProcessGrid(Grid):
    """A grid that calls a ClientApp directly, node by node: what Flower's simulation does, without Ray.

    Parameters
    ----------
    app
        The ClientApp of every node.
    nodes
        How many; node ids are 1 to ``nodes``, ``partition-id`` 0 to ``nodes - 1``.
    run_config
        What ``context.run_config`` holds on the clients.
    """

    def __init__(self, app: ClientApp, nodes: int, run_config: Mapping[str, Any] | None = None) -> None:
        with contextlib.suppress(ImportError):  # newer Flower stamps messages with the identity of its process
            identity = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
            identity.task_id, identity.run_id, identity.node_id = 1, 1, 0
        self._app, self._replies = app, {}  # type: tuple[ClientApp, dict[str, Message]]
        self.contexts = {
            i + 1: Context(
                run_id=1,
                node_id=i + 1,
                node_config={"partition-id": i, "num-partitions": nodes},
                state=RecordDict(),
                run_config=dict(run_config or {}),
            )
            for i in range(nodes)
        }

    def set_run(self, run: Any) -> None:
        """Do nothing: there is one run."""

    @property
    def run(self) -> Any:
        """There is no run information."""
        return None

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Return a message."""
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def get_node_ids(self) -> Iterable[int]:
        """Return the node ids."""
        return list(self.contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Deliver messages; replies wait to be pulled."""
        keys = []
        for message in messages:
            key = f"message-{len(self._replies)}"
            self._replies[key] = self._deliver(message)
            keys.append(key)
        return keys

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return replies."""
        return [self._replies.pop(key) for key in message_ids if key in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Deliver messages and return the replies."""
        return [self._deliver(message) for message in messages]

    def _deliver(self, message: Message) -> Message:
        message = deepcopy(message)  # a node shares no memory with the server
        try:
            return deepcopy(self._app(message, self.contexts[message.metadata.dst_node_id]))
        except Exception as error:  # as in Flower: whatever a ClientApp raises becomes an error reply
            return Message(Error(code=0, reason=f"{type(error).__name__}: {error}"), reply_to=message)
