"""Flower's grid in one process: the messages of an app without a federation, for tests and small examples.

Must not know what the messages say.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from flwr.app import (
    Context,
    Error,
    Message,
    RecordDict,
)
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid

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
