"""What a client does: train on its part of the digits, or attack; commit when asked, open when all have committed."""

from __future__ import annotations

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from zkkrum.flower.client import ZkKrumClient
from zkkrum.learning.attacks import attack
from zkkrum.learning.training import LABEL_FLIP, Federation, Training, flatten_model, train
from zkkrum.protocol.params import Round
from zkkrum.rounds.updates import unflatten

OWN_ATTACKS = ("sign-flip", "scale", "gaussian")
"""Attacks that need no knowledge of the others' updates."""


def accept(round: Round) -> str:
    """Refuse a round whose terms this client does not want to be judged by."""
    if round.clip > 10:
        return f"clip {round.clip:g} would lose most of an update"
    return ""


app = ClientApp()
zkkrum = ZkKrumClient(app, accept)


@app.train()
def on_train(message: Message, context: Context) -> Message:
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
    model = {name: array.numpy() for name, array in message.content.array_records["arrays"].items()}

    name = str(config["attack"]) if partition < int(config["byzantine"]) else None
    if name not in (None, LABEL_FLIP, *OWN_ATTACKS):
        raise ValueError(f"attack: expected {LABEL_FLIP} or one of {OWN_ATTACKS}, found {name!r}")
    delta = train(model, examples.flipped() if name == LABEL_FLIP else examples, Training(), rng)
    if name in OWN_ATTACKS:
        own, layout = flatten_model(delta)
        delta = unflatten(attack(name, own[None], own[None], rng, float(config["strength"]))[0], layout)
    trained = {key: (model[key] + delta[key]).astype(model[key].dtype) for key in model}
    return zkkrum.reply(message, context, trained, {"num-examples": len(examples)})
