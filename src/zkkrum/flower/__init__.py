"""Flower: a server strategy that proves each round and aggregates by the verdict, and the client side of committing.

Must not be imported by the rest of zkkrum: it needs the extra ``flower`` (flwr >= 1.27, ServerApp API). Whatever is
aggregated are the dequantized committed vectors q·Δ, never what a client trained.

In two-message mode (the default) clients keep what they trained. The replies to the training message without an error
make the roster; the server then asks for commitments under that roster's context and, when it has all of them, shows
them to every client and asks for the openings. In one-message mode clients send their model with the training reply,
as they would to any strategy, and the server commits on their behalf: nothing binds a client before the server has
seen what others sent, so colluders (the server among them) may adapt.
"""

from zkkrum.extras import require

require("flwr.serverapp", "flower")

from zkkrum.flower.client import ZkKrumClient  # noqa: E402
from zkkrum.flower.grid import InProcessGrid  # noqa: E402
from zkkrum.flower.messages import client_id  # noqa: E402
from zkkrum.flower.strategy import ProvedRound, ZkKrum  # noqa: E402

__all__ = ["InProcessGrid", "ProvedRound", "ZkKrum", "ZkKrumClient", "client_id"]
