"""What a client does: verify the model, train on its part of the digits, or attack; commit, open when all have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from zkkrum.flower import Anything, Pinned, ZkKrumClient, accept_anything
from zkkrum.learning.attacks import attack
from zkkrum.learning.training import LABEL_FLIP, Federation, Training, flatten_model, train
from zkkrum.rounds.updates import unflatten

OWN_ATTACKS = ("sign-flip", "scale", "gaussian")
"""Attacks that need no knowledge of the others' updates."""

TERMS = Pinned(clip=1.0, n_min=5, roster=None)
"""What these clients agree to be judged by, whatever the server says. Node ids are drawn anew for every simulation;
where they last, name those who may be in the roster."""


def accept(context: Context) -> Pinned | Anything:
    """Return a node's terms. A setting of the *run*, as here, is the server's to choose: fit for trying things out."""
    return accept_anything if context.run_config["accept-anything"] else TERMS


app = ClientApp()
zkkrum = ZkKrumClient(app, accept)


@zkkrum.train
def on_train(
    model: dict[str, NDArray[Any]], message: Message, context: Context
) -> tuple[Mapping[str, NDArray[Any]], Mapping[str, int]]:
    config, partition = context.run_config, int(context.node_config["partition-id"])
    federation = Federation.of_digits(
        int(context.node_config["num-partitions"]),
        np.random.default_rng(int(config["seed"])),
        float(config["alpha"]) or None,
    )
    examples = federation.clients[partition]
    server_round = message.content.config_records["config"]["server-round"]
    assert isinstance(server_round, int)
    rng = np.random.default_rng([int(config["seed"]), server_round, partition])

    name = str(config["attack"]) if partition < int(config["byzantine"]) else None
    if name not in (None, LABEL_FLIP, *OWN_ATTACKS):
        raise ValueError(f"attack: expected {LABEL_FLIP} or one of {OWN_ATTACKS}, found {name!r}")
    delta = train(model, examples.flipped() if name == LABEL_FLIP else examples, Training(), rng)
    if name in OWN_ATTACKS:
        own, layout = flatten_model(delta)
        delta = unflatten(attack(name, own[None], own[None], rng, float(config["strength"]))[0], layout)
    trained = {key: (model[key] + delta[key]).astype(model[key].dtype) for key in model}
    return trained, {"num-examples": len(examples)}
