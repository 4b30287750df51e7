"""Training on the digits: splits, the gradient, what is learned, rounds with attackers among the clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.learning.training import (
    LABEL_FLIP,
    MIN_EXAMPLES,
    TRAINING_ATTACKS,
    Federation,
    Training,
    accuracy,
    add,
    digits,
    digits_round,
    flatten_model,
    initial_model,
    split,
    train,
    updates_of,
)
from zkkrum.rounds.tensors import Layout

pytest.importorskip("sklearn", reason="the digits come with scikit-learn (extra data)")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("alpha", [None, 10.0, 0.3, 0.01])
def test_a_split_covers_every_example_once(alpha: float | None) -> None:
    y = digits().y
    parts = split(y, 30, rng(), alpha)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(y)))
    assert min(map(len, parts)) >= MIN_EXAMPLES
    assert all((a == b).all() for a, b in zip(parts, split(y, 30, rng(), alpha), strict=True))


def test_a_small_alpha_makes_clients_unlike() -> None:
    y = digits().y

    def classes(alpha: float | None) -> float:
        return float(np.mean([np.bincount(y[p], minlength=10).max() / len(p) for p in split(y, 10, rng(), alpha)]))

    assert classes(None) < 0.2 < classes(1.0) < classes(0.1)


@pytest.mark.parametrize("hidden", [None, 12])
def test_the_gradient_is_the_slope_of_the_loss(hidden: int | None) -> None:
    data = digits().take(np.arange(40))
    model = add(initial_model(rng(), hidden), 0.1 * rng(1).standard_normal(650 if not hidden else 910), layout(hidden))

    def loss(weights: Mapping[str, NDArray[np.float64]]) -> float:
        h: NDArray[np.float64] = data.x
        for k in range(len(weights) // 2):
            h = (np.maximum(h, 0) if k else h) @ weights[f"w{k}"] + weights[f"b{k}"]
        h = h - h.max(axis=1, keepdims=True)
        return float(np.mean(np.log(np.exp(h).sum(axis=1)) - h[np.arange(40), data.y]))

    step = train(model, data, Training(epochs=1, batch=40, rate=1e-2), rng())
    wide = {k: v.astype(np.float64) for k, v in model.items()}
    for name, index in [("w0", (20, 3)), ("b0", (3,)), *([("w1", (2, 5)), ("b1", (5,))] if hidden else [])]:
        up, down = ({k: v.copy() for k, v in wide.items()} for _ in range(2))
        up[name][index] += 1e-5
        down[name][index] -= 1e-5
        slope = (loss(up) - loss(down)) / 2e-5
        assert step[name][index] == pytest.approx(-1e-2 * slope, rel=1e-3, abs=1e-9)


def layout(hidden: int | None) -> Layout:
    return flatten_model(initial_model(rng(), hidden))[1]


def test_training_learns() -> None:
    generator = rng()
    federation = Federation.of_digits(10, generator)
    model = initial_model(generator)
    for _ in range(10):
        model = add(
            model, updates_of(federation, model, Training(), generator).mean(axis=0, dtype=np.float64), layout(None)
        )
    assert accuracy(model, federation.test) > 0.9
    assert accuracy({k: v * np.nan for k, v in model.items()}, federation.test) == 0


@pytest.mark.parametrize("name", TRAINING_ATTACKS)
def test_a_round_of_digits(name: str) -> None:
    updates, truth = digits_round(6, 2, name, rng(4))
    again, _ = digits_round(6, 2, name, rng(4))
    clean, _ = digits_round(6, 0, name, rng(4))
    assert len(updates) == 6
    assert len(truth) == 2
    for i, (mine, same) in enumerate(zip(updates, again, strict=True)):
        assert {k: (v.shape, v.dtype.name) for k, v in mine.items()} == {
            "b0": ((10,), "float32"),
            "w0": ((64, 10), "float32"),
        }
        assert all(np.array_equal(mine[k], same[k]) for k in mine)
        assert all(np.array_equal(mine[k], clean[i][k]) for k in mine) == (i not in truth)


def test_the_hidden_layer_and_the_split_are_options() -> None:
    updates, truth = digits_round(5, 0, "scale", rng(), alpha=0.5, hidden=4)
    assert truth == ()
    assert sum(v.size for v in updates[0].values()) == 64 * 4 + 4 + 4 * 10 + 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: digits_round(5, 5, "scale", rng()), r"in \[0, 5\), found 5"),
        (lambda: digits_round(5, 1, "zap", rng()), "expected one of .*label-flip, found 'zap'"),
        (lambda: digits_round(5, 1, LABEL_FLIP, rng(), strength=2.0), "has no strength"),
        (lambda: digits_round(5, 1, "scale", rng(), alpha=0.0), "alpha must be"),
        (lambda: digits_round(500, 1, "scale", rng()), "serve 1 to 179 clients"),
    ],
)
def test_bad_requests_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
