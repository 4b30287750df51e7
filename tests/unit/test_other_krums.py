"""Cross-checks with other people's Krum on random rounds, and where one is known to differ: in what, and how often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from zkkrum.learning.attacks import ATTACKS, attacked_round, honest_updates
from zkkrum.protocol.float_rule import float_scores
from zkkrum.protocol.krum import Krum, scores, squared_distances
from zkkrum.protocol.params import Params
from zkkrum.protocol.quantize import Integers, quantize

ROUNDS = 200


def rounds(count: int = ROUNDS) -> Iterator[tuple[Params, Integers, tuple[int, ...]]]:
    """Random rounds without ties: parameters with a random f and m, quantized updates, whom we select."""
    rng, made = np.random.default_rng(9), 0
    while made < count:
        n = int(rng.integers(5, 21))
        params = Params.of(n=n, d=int(rng.integers(2, 60)), f=int(rng.integers(0, (n - 1) // 2)))
        params = replace(params, m=int(rng.integers(1, n - params.f + 1)))
        attack = str(rng.choice([name for name in ATTACKS if name != "mimic"]))
        updates, _ = attacked_round(
            honest_updates(n, params.d, float(rng.random() / 2), rng), int(rng.integers(0, n // 2)), attack, rng
        )
        q = quantize(updates, 6.0, 12)
        outcome = Krum(params)(q)
        if len(set(outcome.scores)) == n:
            made += 1
            yield params, q, outcome.verdict.selected


def mean_of(q: Integers, clients: tuple[int, ...]) -> NDArray[np.float64]:
    return np.asarray(q[list(clients)].mean(axis=0))


def winner(params: Params, q: Integers) -> int:
    return Krum(replace(params, m=1))(q).verdict.selected[0]


def test_the_rounds_are_worth_the_name() -> None:
    drawn = list(rounds())
    assert len({(p.n, p.f) for p, _, _ in drawn}) > 50
    assert any(p.n == 2 * p.f + 3 for p, _, _ in drawn)
    assert any(p.m == p.n - p.f for p, _, _ in drawn)


def test_flowers_krum_of_the_old_interface() -> None:
    flower = pytest.importorskip("flwr.server.strategy.aggregate", reason="Flower is not installed (extra flower)")
    for params, q, selected in rounds():
        results = [([row.astype(np.float64)], 1) for row in q]
        (one,) = flower.aggregate_krum(results, params.f, 0)
        assert (one == q[winner(params, q)]).all()
        (several,) = flower.aggregate_krum(results, params.f, params.m)
        assert several == pytest.approx(mean_of(q, selected), abs=1e-9)


def test_flowers_krum_of_the_new_interface() -> None:
    multi_krum = pytest.importorskip(
        "flwr.serverapp.strategy.multikrum", reason="Flower is not installed (extra flower), or has no MultiKrum yet"
    )
    from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

    for params, q, selected in rounds():
        replies = [
            RecordDict({"arrays": ArrayRecord({"w": Array(row.astype(np.float64))}), "of": ConfigRecord({"client": i})})
            for i, row in enumerate(q)
        ]
        chosen = multi_krum.select_multikrum(replies, params.f, params.m)
        assert tuple(sorted(reply["of"]["client"] for reply in chosen)) == selected


def test_the_package_krum() -> None:
    krum = pytest.importorskip(
        "krum.primitives.aggregators.multikrum", reason="krum is not installed (extra peers, Python 3.12 or newer)"
    )
    torch = pytest.importorskip("torch")
    for params, q, selected in rounds():
        sent = torch.tensor(q, dtype=torch.float64)
        found = krum.MultiKrum.aggregate(sent, n=params.n, f=params.f, m=params.m)
        assert found.numpy() == pytest.approx(mean_of(q, selected), abs=1e-9)
        exact = scores(squared_distances(q), params)
        assert krum.MultiKrum.score(sent, n=params.n, f=params.f).numpy() == pytest.approx(exact, rel=1e-9)


def test_byzfl_sums_one_neighbour_more() -> None:
    byzfl = pytest.importorskip("byzfl", reason="ByzFL is not installed (extra peers)")
    for params, q, _ in rounds():
        with_one_more = float_scores(q.astype(np.float64), params.n - params.f - 1)
        found = byzfl.Krum(params.f)(q.astype(np.float64))
        assert (found == q[int(with_one_more.argmin())]).all()


def test_one_neighbour_more_is_another_rule() -> None:
    """n - f - 1 neighbours (ByzFL) instead of the paper's n - f - 2: another winner in a fifth of these rounds."""
    other = 0
    for params, q, _ in rounds():
        theirs = float_scores(q.astype(np.float64), params.n - params.f - 1)
        ours = float_scores(q.astype(np.float64), params.neighbours)
        assert int(ours.argmin()) == winner(params, q)
        other += int(theirs.argmin()) != winner(params, q)
    assert 0.1 < other / ROUNDS < 0.35


@pytest.mark.parametrize("squared", [True, False])
def test_unsquared_distances_are_another_rule(squared: bool) -> None:
    """Some (krum before 0.9) sum distances, not their squares."""
    other = 0
    for params, q, _ in rounds():
        theirs = float_scores(q.astype(np.float64), params.neighbours, squared=squared)
        other += int(theirs.argmin()) != winner(params, q)
    assert other == 0 if squared else other > ROUNDS / 50
