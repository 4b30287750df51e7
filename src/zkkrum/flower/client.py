"""The client side under Flower: verify, then train; commit when asked, open once when shown all commitments.

Must not know how rounds are proved. A refusal is an error reply that says why, never an exception: the server's run
goes on without this client.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from zkkrum.errors import InputError, ZkkrumError
from zkkrum.flower.accept import Anything, Pinned
from zkkrum.flower.messages import (
    COMMIT,
    HISTORY,
    ONE_MESSAGE,
    OPEN,
    SHOWN,
    SHOWN_LIST,
    START,
    Shown,
    client_id,
    difference,
    log,
    mode_of,
    model_of,
    round_of,
    steps_of,
    texts_of,
    to_numpy,
    to_record,
    value_of,
)
from zkkrum.flower.trust import Check, follow
from zkkrum.proof.verify import Verification
from zkkrum.protocol.field import hex_of, to_hex
from zkkrum.protocol.poseidon2 import Hash, hash_many
from zkkrum.rounds.models import subject_of
from zkkrum.rounds.parties import commit_update
from zkkrum.rounds.roundfile import parse_bytes
from zkkrum.rounds.tensors import Tensors
from zkkrum.rounds.updates import flatten
from zkkrum.toolchain import Toolchain

STATE, MODEL, UPDATE, OPENING = "zkkrum", "zkkrum-model", "zkkrum-update", "zkkrum-opening"
"""Records in a node's own state."""
SHOWN_KEPT = 16
"""Rounds of which a client keeps what it was shown; the log has the digest of every one."""
REFUSED = 2
"""Flower's code for what a ClientApp raised."""

Metrics = Mapping[str, int | float | list[int] | list[float]]
Accept = Pinned | Anything | Callable[[Context], Pinned | Anything]
Train = Callable[[dict[str, NDArray[Any]], Message, Context], tuple[Tensors, Metrics]]


class State(BaseModel):
    """What a client remembers between messages, in its node's own state."""

    model_config = ConfigDict(extra="forbid")

    trusts: str = ""
    """Subject of the model that everything this client verified builds on."""
    committed: dict[str, str] = {}
    """Round id to this client's own commitment: a round is committed to once."""
    shown: list[Shown] = []
    subject: str = ""
    """Of the model that the waiting update was trained on; empty where none waits."""
    roster: tuple[str, ...] = ()
    """Of the first round that the waiting update was committed to."""
    opened: bool = False
    """Whether the waiting update was."""
    opened_for: str = ""
    """Subject of the last model for which an update was opened."""
    round_id: str = ""
    """Of the commitment that may be opened; empty where there is none."""
    context: str = ""
    members: tuple[str, ...] = ()
    salt: str = ""

    @classmethod
    def load(cls, context: Context) -> State:
        """Return what is remembered."""
        if STATE not in context.state.config_records:
            return cls()
        return cls.model_validate_json(str(context.state.config_records[STATE]["json"]))

    def save(self, context: Context) -> None:
        """Remember it."""
        context.state[STATE] = ConfigRecord({"json": self.model_dump_json()})


class ZkKrumClient:
    """The client side: verifies the model it is sent, trains, commits when asked, opens when all have committed.

    Parameters
    ----------
    app
        The ClientApp to serve; three query functions are registered on it, and `train` registers the fourth.
    accept
        The terms this client insists on, or `zkkrum.flower.accept_anything`; or a function that returns either, such
        as from ``context.node_config``, which the node's owner sets.
    trust
        The model from which on every step must be proved: the run's initial model, or the one that ``zkkrum audit``
        ends with. None trusts the first model that comes with a training message, and says so in the log.
    publish
        Called with the commitments that this client was shown, before it opens, so that it can tell others; they are
        logged in any case, kept in the node's state, and given out when asked by `SHOWN`.
    hash
        Poseidon2 for committing; by default plain Python. Large models want ``Toolchain.find().bb.hash_many``.
    tools
        Tools to verify with; found when needed.

    Examples
    --------
    ::

        app = ClientApp()
        zkkrum = ZkKrumClient(app, Pinned(clip=1.0, n_min=8, roster=None))

        @zkkrum.train
        def train(model, message, context):
            ...
            return trained, {"num-examples": 100}
    """

    def __init__(
        self,
        app: ClientApp,
        accept: Accept,
        *,
        trust: Tensors | None = None,
        publish: Callable[[Shown], None] | None = None,
        hash: Hash = hash_many,
        tools: Toolchain | None = None,
    ) -> None:
        if not (isinstance(accept, (Pinned, Anything)) or callable(accept)):
            raise InputError("accept: expected Pinned terms or accept_anything", "a client says what it is judged by")
        self._app, self._accept, self._trust, self._publish = app, accept, trust, publish
        self._hash, self._given = hash, tools
        app.query(COMMIT)(self._answering(self._commit))
        app.query(OPEN)(self._answering(self._open))
        app.query(SHOWN)(self._answering(self._tell))

    def train(self, function: Train) -> Train:
        """Register the training function: given the verified model, it returns the trained one and metrics.

        Parameters
        ----------
        function
            Called with the model by name, the message and the context; returns the same tensors after local training,
            and what the server may average, ``num-examples`` among it. In two-message mode the trained model stays
            with the client.
        """

        def on_train(message: Message, context: Context) -> Message:
            model = self._verified(message, context)
            trained, metrics = function({name: value.copy() for name, value in model.items()}, message, context)
            return self._reply(message, context, model, trained, metrics)

        self._app.train()(self._answering(on_train))
        return function

    @staticmethod
    def _answering(handler: Callable[[Message, Context], Message]) -> Callable[[Message, Context], Message]:
        """Turn a refusal into an error reply that names this client."""

        def answer(message: Message, context: Context) -> Message:
            try:
                return handler(message, context)
            except ZkkrumError as error:
                hint = f" ({error.hint})" if error.hint else ""
                reason = f"client {client_id(context.node_id)!r}: {error.message}{hint}"
                log.error(reason)
                return Message(Error(REFUSED, reason), reply_to=message)

        return answer

    def _terms(self, context: Context) -> Pinned | Anything:
        return self._accept if isinstance(self._accept, (Pinned, Anything)) else self._accept(context)

    def _tools(self) -> AbstractContextManager[Toolchain]:
        return nullcontext(self._given) if self._given else Toolchain.find(notify=log.info)

    # Before training

    def _verified(self, message: Message, context: Context) -> dict[str, NDArray[Any]]:
        """Return the model of a training message; refuse one that no proved rounds lead to."""
        me, state, content = client_id(context.node_id), State.load(context), message.content
        terms, mode = self._terms(context), mode_of(content)
        if mode == ONE_MESSAGE and not terms.one_message:
            raise InputError(
                "the server wants the model before anybody has committed (one-message mode), and this client's terms "
                "do not allow that"
            )
        received = model_of(content)
        target = subject_of(received)
        gap = value_of(content, HISTORY, "gap", str) if HISTORY in content.config_records else ""
        first = MODEL not in context.state.array_records
        known = [] if first else [to_numpy(context.state.array_records[MODEL])]
        if self._trust is not None:
            known.append(dict(self._trust))
        elif first:
            start = content.array_records.get(START)
            known.append(received if start is None or gap else to_numpy(start))
        if first:
            state.trusts = hex_of(subject_of(known[0]))
            how = "as it was given" if self._trust is not None else "as the server sent it"
            log.info("client %r: trusts the model %s %s; every later one must be proved", me, state.trusts, how)
        if gap and not any(subject_of(model) == target for model in known):
            if not terms.unproved:
                raise InputError(
                    f"no proofs lead from the model this client knows to the one received: {gap}",
                    "audit the run and give the model it ends with as `trust`, or accept unproved rounds",
                )
            state.trusts = hex_of(target)
            log.warning("client %r: trusts the model %s anew, unproved: %s", me, state.trusts, gap)
        else:
            taken = self._follow(known, received, content, _check(me, state, terms, mode, first))
            if taken:
                shown = ", ".join(map(str, taken))
                log.info("client %r: verified rounds %s: the model is the proved one", me, shown)
        context.state[MODEL] = to_record(received)
        state.save(context)
        return received

    def _follow(self, known: Sequence[Tensors], received: Tensors, content: RecordDict, check: Check) -> list[int]:
        """Follow the proved rounds from the client's own model, or where that is too old from the given one."""
        problems = []
        for model in known:
            try:
                return follow(model, received, steps_of(content), check, self._tools)
            except InputError as error:
                problems.append(error)
        raise problems[0]

    # After training

    def _reply(
        self,
        message: Message,
        context: Context,
        base: Mapping[str, NDArray[Any]],
        trained: Tensors,
        metrics: Metrics,
    ) -> Message:
        content = RecordDict({"metrics": MetricRecord(dict(metrics))})
        delta = difference(trained, base)
        flatten(delta, client_id(context.node_id))
        if mode_of(message.content) == ONE_MESSAGE:
            content["arrays"] = to_record(trained)
            return Message(content, reply_to=message)
        state = State.load(context)
        state.subject, state.roster, state.opened = hex_of(subject_of(base)), (), False
        _forget(state, context)
        state.save(context)
        context.state[UPDATE] = to_record(delta)
        return Message(content, reply_to=message)

    def _commit(self, message: Message, context: Context) -> Message:
        """Commit under a round's context, once; refuse a round that is not about what was trained."""
        me, state, terms = client_id(context.node_id), State.load(context), self._terms(context)
        round = round_of(message.content)
        round_id = hex_of(round.round_id)
        if round_id in state.committed:
            raise InputError(f"round {round_id} has been committed to before")
        if not state.subject:
            raise InputError("nothing was trained for this round")
        if (subject := hex_of(round.subject)) != state.subject:
            raise InputError(f"the round is about another model (subject {subject})")
        if reason := terms.refuses(round):
            raise InputError(f"refuses the round: {reason}")
        if state.opened and not terms.reopened:
            raise InputError(
                "its update has been opened already: colluders may have adapted to it, and this client's terms do not "
                "allow a round reopened after openings"
            )
        if state.roster and (strangers := sorted(set(round.roster) - set(state.roster))):
            raise InputError(f"the round is opened anew with {strangers[0]!r}, which was not in it before")
        update = flatten(to_numpy(context.state.array_records[UPDATE]), me)
        opening, commitment = commit_update(round, me, update, self._hash)
        state.committed[round_id] = hex_of(commitment)
        state.round_id, state.context, state.members = round_id, hex_of(round.context), round.roster
        state.roster = state.roster or round.roster
        state.salt = to_hex(opening.salt)
        state.save(context)
        context.state[OPENING] = to_record({"q": opening.q.astype(np.int16)})
        reply = ConfigRecord({"commitment": hex_of(commitment), "context": state.context})
        return Message(RecordDict({"commitment": reply}), reply_to=message)

    def _open(self, message: Message, context: Context) -> Message:
        """Open, if the server shows a commitment of every client and this client's own among them; publish them."""
        me, state = client_id(context.node_id), State.load(context)
        commitments = texts_of(message.content, "commitments", "commitments")
        if not state.round_id or value_of(message.content, "commitments", "context", str) != state.context:
            raise InputError("is asked to open what it has not committed to")
        if len(commitments) != len(state.members):
            raise InputError(f"does not open before all have committed, shown {len(commitments)} commitments")
        canonical = [hex_of(parse_bytes(text, 32, "commitment")) for text in commitments]
        if canonical[state.members.index(me)] != state.committed[state.round_id]:
            raise InputError("its commitment is not the one it made")
        if len(set(canonical)) < len(canonical):
            raise InputError("was shown the same commitment twice: one of them is invented")
        view = Shown(round_id=state.round_id, context=state.context, roster=state.members, commitments=tuple(canonical))
        state.shown = [*state.shown, view][-SHOWN_KEPT:]
        log.info("client %r: was shown, in round %s, commitments with digest %s", me, view.round_id, view.digest)
        if self._publish:
            self._publish(view)
        if state.opened_for == state.subject:
            log.warning("client %r: opens again for the model %s: colluders may have adapted", me, state.subject)
        content = RecordDict(
            {"opening": context.state.array_records[OPENING], "salt": ConfigRecord({"salt": state.salt})}
        )
        state.opened, state.opened_for = True, state.subject
        _forget(state, context)
        state.save(context)
        return Message(content, reply_to=message)

    @staticmethod
    def _tell(message: Message, context: Context) -> Message:
        """Give out what this client was shown."""
        shown = SHOWN_LIST.dump_json(State.load(context).shown).decode()
        return Message(RecordDict({"shown": ConfigRecord({"shown": shown})}), reply_to=message)


def _forget(state: State, context: Context) -> None:
    """Forget the commitment that could still be opened."""
    state.round_id, state.context, state.members, state.salt = "", "", (), ""
    if OPENING in context.state:
        del context.state[OPENING]


def _check(me: str, state: State, terms: Pinned | Anything, mode: str, first: bool) -> Check:
    """Return what else a round must be that moved the model: by this client's terms, and as it was shown it."""
    shown = {view.round_id: view for view in state.shown}

    def check(found: Verification, commitments: Mapping[str, str]) -> str:
        assert found.round is not None
        if reason := terms.refuses(found.round):
            return f"its terms are refused: {reason}"
        round_id = hex_of(found.round.round_id)
        if view := shown.get(round_id):
            for client, ours in zip(view.roster, view.commitments, strict=True):
                if commitments.get(client) != ours:
                    return f"the commitment of {client!r} that was proved is not the one this client was shown"
        if me in found.round.roster and mode != ONE_MESSAGE and not first:
            if round_id not in state.committed:
                return "it names this client in its roster, which has not committed to it"
            if commitments[me] != state.committed[round_id]:
                return "the commitment in this client's name is not the one it made"
        return ""

    return check
