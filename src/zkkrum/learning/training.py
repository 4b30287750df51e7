"""A small model on real data, trained by clients of which some attack: what the demo and the experiment run on.

Must not know rules, quantization or proofs. The data are scikit-learn's digits (extra ``data``), which need no
download; equal generators give equal updates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zkkrum.errors import InputError
from zkkrum.extras import require
from zkkrum.learning import attacks
from zkkrum.rounds.tensors import Layout
from zkkrum.rounds.updates import flatten, unflatten

Model = Mapping[str, NDArray[np.float32]]
"""Layers ``w0, b0[, w1, b1]`` as float32."""

LABEL_FLIP = "label-flip"
TRAINING_ATTACKS = (*attacks.ATTACKS, LABEL_FLIP)
CLASSES, PIXELS = 10, 64
TEST_SHARE = 0.2
MIN_EXAMPLES = 8
"""Fewest examples a client is left with, however uneven the split."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Images and labels.

    Parameters
    ----------
    x
        Shape (examples, 64), in [0, 1].
    y
        Shape (examples,), digits 0 to 9.
    """

    x: NDArray[np.float64]
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, index: NDArray[np.int64]) -> Examples:
        """Return the examples at ``index``."""
        return Examples(self.x[index], self.y[index])

    def flipped(self) -> Examples:
        """Return them with every label y turned into 9 - y (Tolpegin et al. 2020)."""
        return Examples(self.x, CLASSES - 1 - self.y)


@lru_cache(maxsize=1)
def digits() -> Examples:
    """Return scikit-learn's 1,797 handwritten digits of 8 x 8 pixels.

    Raises
    ------
    ToolMissingError
        Without scikit-learn, naming the extra.
    """
    x, y = require("sklearn.datasets", "data").load_digits(return_X_y=True)
    return Examples(np.asarray(x, dtype=np.float64) / 16.0, np.asarray(y, dtype=np.int64))


def split(
    y: NDArray[np.int64], n: int, rng: np.random.Generator, alpha: float | None = None
) -> list[NDArray[np.int64]]:
    """Divide examples among clients.

    Parameters
    ----------
    y
        Labels, shape (examples,).
    n
        Clients.
    rng
        Source of all randomness.
    alpha
        None for an IID split in equal parts. Else each class is divided in proportions drawn from
        Dirichlet(alpha, …, alpha) (Hsu et al. 2019); the smaller, the less alike the clients. Clients with fewer
        than `MIN_EXAMPLES` are then filled up from the largest ones.

    Returns
    -------
    list of ndarray
        n disjoint index arrays that cover all examples.

    Examples
    --------
    >>> parts = split(np.arange(100) % 10, 3, np.random.default_rng(0), alpha=0.5)
    >>> sorted(np.concatenate(parts).tolist()) == list(range(100))
    True
    """
    if n < 1 or n * MIN_EXAMPLES > len(y):
        raise InputError(f"split: {len(y)} examples serve 1 to {len(y) // MIN_EXAMPLES} clients, found {n}")
    if alpha is None:
        return [np.sort(part) for part in np.array_split(rng.permutation(len(y)), n)]
    if not (np.isfinite(alpha) and alpha > 0):
        raise InputError(f"split: alpha must be finite and > 0, found {alpha}")
    parts: list[list[int]] = [[] for _ in range(n)]
    for label in np.unique(y):
        members = rng.permutation(np.flatnonzero(y == label))
        cuts = np.rint(np.cumsum(rng.dirichlet(np.full(n, alpha)))[:-1] * len(members)).astype(int)
        for part, chosen in zip(parts, np.split(members, cuts), strict=True):
            part += chosen.tolist()
    for part in parts:
        while len(part) < MIN_EXAMPLES:
            richest = max(parts, key=len)
            part.append(richest.pop(int(rng.integers(len(richest)))))
    return [np.sort(np.array(part, dtype=np.int64)) for part in parts]


@dataclass(frozen=True)
class Training:
    """How a client trains: plain stochastic gradient descent.

    Parameters
    ----------
    epochs, batch, rate
        Passes over its examples, examples per step, learning rate.
    """

    epochs: int = 2
    batch: int = 16
    rate: float = 0.2


def initial_model(rng: np.random.Generator, hidden: int | None = None) -> Model:
    """Return softmax regression (650 parameters, zero), or an MLP with one hidden layer (He initialization)."""
    if not hidden:
        return {"w0": np.zeros((PIXELS, CLASSES), np.float32), "b0": np.zeros(CLASSES, np.float32)}
    return {
        "w0": (rng.standard_normal((PIXELS, hidden)) * np.sqrt(2 / PIXELS)).astype(np.float32),
        "b0": np.zeros(hidden, np.float32),
        "w1": (rng.standard_normal((hidden, CLASSES)) * np.sqrt(2 / hidden)).astype(np.float32),
        "b1": np.zeros(CLASSES, np.float32),
    }


def _forward(model: Mapping[str, NDArray[Any]], x: NDArray[np.float64]) -> tuple[list[NDArray[Any]], NDArray[Any]]:
    """Return the inputs of every layer and the logits."""
    inputs, last = [x], len(model) // 2 - 1
    for k in range(last):
        inputs.append(np.maximum(inputs[-1] @ model[f"w{k}"] + model[f"b{k}"], 0))
    return inputs, inputs[-1] @ model[f"w{last}"] + model[f"b{last}"]


def accuracy(model: Model, examples: Examples) -> float:
    """Return the share of examples classified correctly; NaN logits classify nothing."""
    logits = _forward(model, examples.x)[1]
    return float(np.mean((logits.argmax(axis=1) == examples.y) & np.isfinite(logits).all(axis=1)))


def train(model: Model, examples: Examples, training: Training, rng: np.random.Generator) -> Model:
    """Return the update (difference, float32) that local training makes to a model."""
    weights = {name: value.astype(np.float64) for name, value in model.items()}
    for _ in range(training.epochs):
        order = rng.permutation(len(examples))
        for start in range(0, len(order), training.batch):
            batch = examples.take(order[start : start + training.batch])
            inputs, logits = _forward(weights, batch.x)
            error = np.exp(logits - logits.max(axis=1, keepdims=True))
            error /= error.sum(axis=1, keepdims=True)
            error[np.arange(len(batch)), batch.y] -= 1
            error /= len(batch)
            for k in reversed(range(len(inputs))):
                below = (error @ weights[f"w{k}"].T) * (inputs[k] > 0) if k else error
                weights[f"w{k}"] -= training.rate * inputs[k].T @ error
                weights[f"b{k}"] -= training.rate * error.sum(axis=0)
                error = below
    return {name: (weights[name] - model[name]).astype(np.float32) for name in model}


@dataclass(frozen=True, eq=False)
class Federation:
    """Clients with their examples, and the test set nobody trains on."""

    clients: tuple[Examples, ...]
    test: Examples

    @classmethod
    def of_digits(cls, n: int, rng: np.random.Generator, alpha: float | None = None) -> Federation:
        """Split the digits: a fifth for the test, the rest among n clients as `split` does."""
        data = digits()
        order = rng.permutation(len(data))
        count = int(len(data) * TEST_SHARE)
        rest = data.take(order[count:])
        return cls(tuple(map(rest.take, split(rest.y, n, rng, alpha))), data.take(order[:count]))


def flatten_model(model: Model) -> tuple[NDArray[np.float64], Layout]:
    """Return a model or an update as one vector of shape (d,), with its layout."""
    flat = flatten(model, "model")
    return flat.vector, flat.layout


def add(model: Model, delta: NDArray[np.float64], layout: Layout) -> Model:
    """Return the model moved by a vector of shape (d,); it may overflow, as without defence it does."""
    return unflatten(flatten_model(model)[0] + delta, layout)


def updates_of(
    federation: Federation,
    model: Model,
    training: Training,
    rng: np.random.Generator,
    byzantine: Sequence[int] = (),
    attack: str | None = None,
    strength: float | attacks.Chooser | None = None,
) -> NDArray[np.float32]:
    """Let every client train on a model, and the Byzantine ones attack.

    Parameters
    ----------
    federation, model, training
        Who trains on what, and how.
    rng
        Source of all randomness. Every client draws from its own child generator, so honest updates do not depend
        on who attacks.
    byzantine
        Positions of the attackers.
    attack
        One of `TRAINING_ATTACKS`; None where nobody attacks.
    strength
        As in `attacks.attacked_round`.

    Returns
    -------
    ndarray of float32, shape (n, d)
        What is sent, flattened in ascending order of names.
    """
    n = len(federation.clients)
    bad = sorted(set(byzantine)) if attack else []
    if attack is not None and attack not in TRAINING_ATTACKS:
        raise InputError(f"attack: expected one of {', '.join(TRAINING_ATTACKS)}, found {attack!r}")
    if attack == LABEL_FLIP and strength is not None:
        raise InputError(f"attack {LABEL_FLIP}: has no strength, found {strength}")
    *generators, generator = rng.spawn(n + 1)
    sent = np.stack(
        [
            flatten_model(train(model, data.flipped() if attack == LABEL_FLIP and i in bad else data, training, g))[0]
            for i, (data, g) in enumerate(zip(federation.clients, generators, strict=True))
        ]
    )
    if attack is not None and attack != LABEL_FLIP and bad:
        honest, before = [i for i in range(n) if i not in bad], sent.copy()

        def send(strength: float | None) -> NDArray[np.float64]:
            out = before.copy()
            out[bad] = attacks.attack(attack, before[honest], before[bad], generator, strength)
            return out.astype(np.float32).astype(np.float64)

        sent = send(strength(send, tuple(bad)) if callable(strength) else strength)
    return sent.astype(np.float32)


def digits_round(
    n: int,
    byzantine: int,
    attack: str,
    rng: np.random.Generator,
    *,
    alpha: float | None = None,
    hidden: int | None = None,
    strength: float | None = None,
) -> tuple[list[dict[str, NDArray[Any]]], tuple[int, ...]]:
    """Train n clients for the first round on digits, some of them Byzantine.

    Parameters
    ----------
    n, byzantine
        Clients; how many of them, drawn at random, attack.
    attack, strength
        One of `TRAINING_ATTACKS` and its strength.
    rng
        Source of all randomness.
    alpha
        Dirichlet split; None for IID.
    hidden
        Width of the hidden layer; None for softmax regression (d = 650).

    Returns
    -------
    updates
        One dictionary of float32 tensors per client.
    truth
        Positions of the attackers, ascending.
    """
    if not 0 <= byzantine < n:
        raise InputError(f"byzantine: expected a number in [0, {n}), found {byzantine}")
    federation = Federation.of_digits(n, rng, alpha)
    model = initial_model(rng, hidden)
    truth = tuple(sorted(int(i) for i in rng.choice(n, size=byzantine, replace=False)))
    sent = updates_of(federation, model, Training(), rng, truth, attack, strength)
    layout = flatten_model(model)[1]
    return [unflatten(vector, layout) for vector in sent], truth
