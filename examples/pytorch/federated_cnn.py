"""A small CNN on digits, trained by PyTorch clients; every step of the global model is proved, the run is audited.

`client_trains` is what a client's own machine does: `state_dict` in, `state_dict` out, through .safetensors. The rest
plays the server. Nothing here is specific to this model.

    pip install -r requirements.txt
    python federated_cnn.py --rounds 2
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits  # type: ignore[import-untyped, unused-ignore]

import zkkrum

CLIENTS = tuple(f"client-{i}" for i in range(8))
ATTACKER = CLIENTS[-1]
CLIP = 0.5


def network(dtype: torch.dtype) -> Any:
    """About 700 parameters, and a BatchNorm whose running statistics are averaged like weights."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, stride=2, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.Flatten(),
        torch.nn.Linear(64, 10),
    ).to(dtype)


def digits() -> tuple[Any, Any]:
    """Images of shape (1797, 1, 8, 8) in [0, 1], and labels."""
    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(y)


def client_trains(model_file: Path, update_file: Path, x: Any, y: Any, dtype: torch.dtype, attack: bool) -> None:
    """Train on own data, and save the *update*: what training changed, not the weights."""
    base = load_file(model_file)
    net = network(dtype)
    net.load_state_dict(base)
    net.train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for batch in torch.randperm(len(y)).split(16):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[batch].to(dtype)).float(), y[batch]).backward()
        optimizer.step()
    # In float32 also where the model is bfloat16: the dtype of an update is the client's choice. Integer buffers
    # (num_batches_tracked) may come along: they are no part of an update, and zkkrum leaves them out.
    update = {
        name: tensor.float() - base[name].float() if tensor.is_floating_point() else tensor
        for name, tensor in net.state_dict().items()
    }
    if attack:
        update = {name: -8 * t if t.is_floating_point() else t for name, t in update.items()}
    save_file(update, update_file)


def accuracy(model_file: Path, x: Any, y: Any, dtype: torch.dtype) -> float:
    net = network(dtype)
    net.load_state_dict(load_file(model_file))
    net.eval()
    with torch.no_grad():
        return float((net(x.to(dtype)).argmax(dim=1) == y).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=Path("pytorch-run"))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true", help="keep the model in bfloat16")
    options = parser.parse_args()
    dtype = torch.bfloat16 if options.bfloat16 else torch.float32
    x, y = digits()
    parts = torch.randperm(1400, generator=torch.Generator().manual_seed(0)).tensor_split(len(CLIENTS))

    private = options.out / "private"
    private.mkdir(parents=True, exist_ok=True)
    model_file = private / "model.safetensors"
    save_file(network(dtype).state_dict(), model_file)
    model = zkkrum.load_model(model_file)
    run = zkkrum.Run.create(options.out / "run", model)
    with zkkrum.Toolchain.find(notify=print) as tools:
        for number in range(1, options.rounds + 1):
            updates = []
            for client, part in zip(CLIENTS, parts, strict=True):
                update_file = private / f"{client}.safetensors"
                client_trains(model_file, update_file, x[part], y[part], dtype, client == ATTACKER)
                updates.append(zkkrum.load_update(update_file, client))
            if number == 1:
                print(f"no part of an update: {', '.join(updates[0].left_out)}")

            d, subject = updates[0].vector.size, zkkrum.subject_of(model)
            round = zkkrum.open_round(CLIENTS, d, CLIP, subject=subject)
            material = zkkrum.Material.commit(round, updates, tools.bb.hash_many, by_clients=True)
            place = run.round(number)
            place.publish(round, dict(zip(CLIENTS, material.commitments, strict=True)))
            done = zkkrum.prove_round(material, place.bundle, tools)

            # What every client does with what it is handed, before it trains on it:
            found = zkkrum.verify_bundle(
                place.bundle,
                tools,
                round_file=place.home.round_file,
                commitments=place.home.commitments,
                aggregate=place.aggregate,
            )
            model = zkkrum.apply_aggregate(model, found)
            zkkrum.save_model(model_file, model)
            flagged = ", ".join(CLIENTS[i] for i in done.outcome.verdict.flagged) or "nobody"
            score = 100 * accuracy(model_file, x[1400:], y[1400:], dtype)
            print(f"round {number}: flagged {flagged}; test accuracy {score:.1f} %")
        audited = zkkrum.audit_run(run.path, tools)
    assert audited.ok, audited.reason
    assert audited.final == zkkrum.subject_of(model)
    print(f"audited: {run.path} ends with 0x{audited.final.hex()}, saved in {model_file}")


if __name__ == "__main__":
    main()
