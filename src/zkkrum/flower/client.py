"""The client side under Flower: commit when asked, open once when shown all commitments.

Must not know how rounds are proved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flwr.app import (
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.flower.messages import (
    COMMIT,
    MODE,
    ONE_MESSAGE,
    OPEN,
    OPENING,
    STATE,
    UPDATE,
    client_id,
    only,
    to_numpy,
    to_record,
)
from zkkrum.protocol.field import from_hex, hex_of, to_hex
from zkkrum.protocol.params import Round
from zkkrum.protocol.poseidon2 import Hash, hash_many
from zkkrum.rounds.models import subject_of
from zkkrum.rounds.parties import commit_update
from zkkrum.rounds.roundfile import RoundFile
from zkkrum.rounds.updates import flatten


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
        base = to_numpy(only(message.content.array_records, "ArrayRecord"))
        content = RecordDict({"metrics": MetricRecord(dict(metrics))})
        mode = only(message.content.config_records, "ConfigRecord").get(MODE, ONE_MESSAGE)
        if mode == ONE_MESSAGE:
            content["arrays"] = to_record(trained)
            return Message(content, reply_to=message)
        delta = {name: (trained[name] - base[name]).astype(base[name].dtype) for name in base}
        flatten(delta, client_id(context.node_id))
        state = self._state(context)
        state["subject"] = subject_of(base).hex()
        context.state[STATE] = state
        context.state[UPDATE] = to_record(delta)
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
        update = flatten(to_numpy(context.state.array_records[UPDATE]), me)
        subject = round.subject.hex()
        if subject != state["subject"]:
            raise InputError(f"client {me!r}: the round is about another model (subject 0x{subject})")
        if self._accept and (reason := self._accept(round)):
            raise InputError(f"client {me!r}: refuses the round: {reason}")
        opening, commitment = commit_update(round, me, update, self._hash)
        state["seen"] = [*seen, round_id]
        state["context"], state["commitment"] = hex_of(round.context), hex_of(commitment)
        state["position"], state["clients"] = round.roster.index(me), len(round.roster)
        state["salt"] = to_hex(opening.salt)
        context.state[STATE] = state
        context.state[OPENING] = to_record({"q": opening.q.astype(np.int16)})
        reply = ConfigRecord({"commitment": hex_of(commitment), "context": hex_of(round.context)})
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
