"""What the server does: the ZkKrum strategy, the accuracy after each round, and the last model on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp

from zkkrum.flower import ZkKrum
from zkkrum.learning.training import Federation, accuracy, initial_model
from zkkrum.rounds.models import save_model

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    seed = int(config["seed"])
    test = Federation.of_digits(1, np.random.default_rng(seed)).test  # the same, whatever the number of clients
    model = initial_model(np.random.default_rng(seed), int(config["hidden"]) or None)
    output = Path(str(config["output"]))

    strategy = ZkKrum(
        float(config["clip"]),
        accept=str(config["accept"]),
        m=int(config["m"]),
        one_message=bool(config["one-message"]),
        prove_every=int(config["prove-every"]),
        run=output / "run",
        private=output / "private",
        fraction_evaluate=0.0,
    )

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        return MetricRecord({"accuracy": accuracy({k: v.numpy() for k, v in arrays.items()}, test)})

    result = strategy.start(
        grid,
        ArrayRecord({name: Array(value) for name, value in model.items()}),
        num_rounds=int(config["num-server-rounds"]),
        evaluate_fn=evaluate,
    )
    if result.arrays:  # none where every round was void
        save_model(output / "model.safetensors", {name: array.numpy() for name, array in result.arrays.items()})
    print("round  accuracy   flagged  bundle")
    for done in strategy.results:
        metrics = result.evaluate_metrics_serverapp[done.server_round]
        flagged = f"{len(done.verdict.flagged)} of {len(done.nodes)}" if done.verdict else "void"
        print(f"{done.server_round:5d}  {metrics['accuracy']:8.3f}  {flagged:>8}  {done.bundle or done.void}")
