"""A small federation on an in-process grid: apps, strategies, and grids on which a test changes what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import Result
from numpy.typing import NDArray

from zkkrum.flower.accept import Anything, Pinned, accept_anything
from zkkrum.flower.client import Metrics, ZkKrumClient
from zkkrum.flower.grid import InProcessGrid
from zkkrum.flower.strategy import ZkKrum
from zkkrum.protocol.krum import Verdict

N, CLIP = 6, 1.0
BASE = {"w": np.full((5, 4), 2.0, np.float32), "b": np.zeros(3, np.float32)}
Arrays = dict[str, NDArray[Any]]
Train = Callable[[int, Arrays], Arrays]
Hook = Callable[[Message, Message], Message]

STRICT = Pinned(clip=CLIP, n_min=3, roster=None)


def honest(partition: int, base: Arrays) -> Arrays:
    rng = np.random.default_rng(partition)
    return {k: (v + 0.2 + 0.01 * rng.standard_normal(v.shape)).astype(v.dtype) for k, v in base.items()}


def far(partition: int, base: Arrays) -> Arrays:
    """The last client sends 10^9, far beyond the clip."""
    return {k: v + np.float32(1e9) for k, v in base.items()} if partition == N - 1 else honest(partition, base)


def make_app(train: Train = honest, accept: Pinned | Anything = accept_anything, **options: Any) -> ClientApp:
    app = ClientApp()
    client = ZkKrumClient(app, accept, **options)

    @client.train
    def on_train(model: Arrays, message: Message, context: Context) -> tuple[Arrays, Metrics]:
        partition = int(context.node_config["partition-id"])
        return train(partition, model), {"num-examples": 10, "loss": float(partition)}

    return app


def arrays(model: Arrays) -> ArrayRecord:
    return ArrayRecord({name: Array(value) for name, value in model.items()})


def run(grid: InProcessGrid, server: ZkKrum, rounds: int = 1) -> Result:
    return server.start(grid, arrays(BASE), num_rounds=rounds)


def strategy(**options: Any) -> ZkKrum:
    return ZkKrum(options.pop("clip", CLIP), **{"prove_every": 0, "fraction_evaluate": 0.0, **options})


def moved(result: Result) -> Arrays:
    return {name: array.numpy() - BASE[name] for name, array in result.arrays.items()}


def verdict(server: ZkKrum, index: int = 0) -> Verdict:
    found = server.results[index].verdict
    assert found is not None
    return found


class Hooked(InProcessGrid):
    """A grid on which a test changes what clients answer, and sees what was sent."""

    def __init__(self, app: ClientApp, nodes: int, hook: Hook = lambda message, reply: reply) -> None:
        super().__init__(app, nodes)
        self.hook = hook
        self.sent: list[tuple[str, int]] = []

    def _deliver(self, message: Message) -> Message:
        self.sent.append((message.metadata.message_type, message.metadata.dst_node_id))
        return self.hook(message, super()._deliver(message))


def alter(kind: str, node: int, change: Callable[[RecordDict], None]) -> Hook:
    def hook(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == f"query.{kind}" and message.metadata.dst_node_id == node:
            change(reply.content)
        return reply

    return hook


class Forging(InProcessGrid):
    """A grid whose server says other things than the strategy."""

    def __init__(self, app: ClientApp, nodes: int, forge: Callable[[Message], None]) -> None:
        super().__init__(app, nodes)
        self.forge = forge
        self.replies: list[tuple[str, int, Message]] = []

    def _deliver(self, message: Message) -> Message:
        forged = Message(
            RecordDict(dict(message.content)),
            dst_node_id=message.metadata.dst_node_id,
            message_type=message.metadata.message_type,
        )
        self.forge(forged)
        reply = super()._deliver(forged)
        self.replies.append((forged.metadata.message_type, forged.metadata.dst_node_id, reply))
        return reply

    def reasons(self, kind: str) -> Iterator[str]:
        """Why nodes refused messages of a kind."""
        return (reply.error.reason or "" for what, _, reply in self.replies if what == kind and reply.has_error())
