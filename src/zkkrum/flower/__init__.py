"""Flower: a server strategy that proves each round and moves the model by the proved aggregate, and clients that check.

Must not be imported by the rest of zkkrum: it needs the extra ``flower`` (flwr >= 1.27, ServerApp API). Whatever is
aggregated are the dequantized committed vectors q·Δ, never what a client trained.

**A round.** In two-message mode (the default) clients keep what they trained. The replies to the training message
without an error make the roster; the server then asks for commitments under that roster's context and, when it has all
of them, shows them to every client and asks for the openings. In one-message mode clients send their model with the
training reply, as they would to any strategy, and the server commits on their behalf: nothing binds a client before the
server has seen what others sent, so colluders (the server among them) may adapt.

**What a client checks.** Before it trains: the model it is sent must be the one it knows, moved by proved rounds whose
bundles and aggregates come with the message, on its terms (`Pinned`), and with the commitments that it was shown.
Before it commits: the terms again, who is in the roster, and that the round is about the model it trained on. Before it
opens: n distinct commitments, its own among them, which it publishes, so that clients can compare (`compare_shown`): a
server that shows them different ones is found out even where the round becomes void.

**What it cannot.** One opening a training reply is the rule, and a client whose terms allow a round reopened after
openings gives colluders a second try, with the honest updates in hand. One that fails to open can so make every round
void: that is the price, and the server's to end by leaving it out of the next one. Nor does a client know whether it is
given the *last* proved model, or an earlier one again. And the app that runs on a node is the one that was submitted
with the run: all this protects a client that runs an app it has read.
"""

from zkkrum.extras import require

require("flwr.serverapp", "flower")

from zkkrum.flower.accept import Anything, Pinned, accept_anything  # noqa: E402
from zkkrum.flower.client import ZkKrumClient  # noqa: E402
from zkkrum.flower.grid import InProcessGrid  # noqa: E402
from zkkrum.flower.messages import Shown, client_id, compare_shown  # noqa: E402
from zkkrum.flower.strategy import ProvedRound, ZkKrum  # noqa: E402

__all__ = [
    "Anything",
    "InProcessGrid",
    "Pinned",
    "ProvedRound",
    "Shown",
    "ZkKrum",
    "ZkKrumClient",
    "accept_anything",
    "client_id",
    "compare_shown",
]
