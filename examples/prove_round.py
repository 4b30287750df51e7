"""A federated round from Python: ten clients, two of them Byzantine, from updates in memory to a verified bundle.

Run it with ``python examples/prove_round.py [OUT]``; it needs zkkrum and a reference string.
"""

import sys
from pathlib import Path

import numpy as np

from zkkrum import Material, Toolchain, dequantize, flatten, open_round, prove_round, verify_bundle

CLIENTS = [f"hospital-{i}" for i in range(10)]
BYZANTINE = {"hospital-3", "hospital-8"}
D = 300

# What the clients trained: here, a common direction and noise; the Byzantine ones send something else.
rng = np.random.default_rng(0)
common = rng.normal(size=D)
updates = {
    client: 10 * rng.normal(size=D) if client in BYZANTINE else common + 0.5 * rng.normal(size=D) for client in CLIENTS
}

# The operator opens a round; its parameters are public before anybody commits.
round = open_round(CLIENTS, d=D, clip=4.0)

# Each client quantizes, commits and publishes; after all have published, it sends its opening to the server.
with Toolchain.find(notify=print) as tools:
    flat = [flatten({"update": updates[c]}, c) for c in CLIENTS]
    material = Material.commit(round, flat, tools.bb.hash_many, by_clients=True)

    # The server proves the verdict; anybody verifies the bundle.
    bundle = Path(sys.argv[1] if len(sys.argv) > 1 else "bundle")
    done = prove_round(material, bundle, tools)
    answer = verify_bundle(bundle, tools, aggregate=done.aggregate)

print(answer.statement)
print("the proof is", "valid" if answer.ok else f"INVALID: {answer.reason}")

# Only dequantized committed values may be aggregated, never the raw updates.
verdict = done.outcome.verdict
kept = [
    dequantize(o.q, round.clip, round.params.b) for i, o in enumerate(material.openings) if i not in verdict.flagged
]
print(f"aggregate of {len(kept)} unflagged updates: norm {np.linalg.norm(np.mean(kept, axis=0)):.3f}")
