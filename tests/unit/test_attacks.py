"""The attacks against their definitions: what each sends, seeds, bounds, refused requests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkkrum.errors import InputError
from zkkrum.learning.attacks import ATTACKS, alie_z, attack, attacked_round, honest_updates


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


HONEST = honest_updates(8, 500, 0.0, rng())
OWN = honest_updates(3, 500, 0.0, rng(1))
MEAN, DEVIATION = HONEST.mean(axis=0), HONEST.std(axis=0)


@pytest.mark.parametrize("name", ATTACKS)
def test_same_seed_same_attack_and_inputs_untouched(name: str) -> None:
    honest, own = HONEST.copy(), OWN.copy()
    first = attack(name, honest, own, rng(7))
    assert first.shape == OWN.shape
    assert np.isfinite(first).all()
    assert np.array_equal(first, attack(name, honest, own, rng(7)))
    assert np.array_equal(honest, HONEST)
    assert np.array_equal(own, OWN)
    assert attack(name, honest, own[:0], rng()).shape == (0, 500)


def test_attacks_are_what_their_papers_say() -> None:
    assert np.array_equal(attack("sign-flip", HONEST, OWN, rng()), -OWN)
    assert np.array_equal(attack("scale", HONEST, OWN, rng()), 10 * OWN)
    assert np.allclose(attack("ipm", HONEST, OWN, rng()), -0.5 * MEAN)
    assert np.allclose(attack("alie", HONEST, OWN, rng(), 1.5), MEAN - 1.5 * DEVIATION)
    assert np.allclose(attack("alie", HONEST, OWN, rng()), MEAN - alie_z(11, 3) * DEVIATION)
    copies = attack("mimic", HONEST, OWN, rng())
    assert (copies == copies[0]).all()
    assert (copies[0] == HONEST).all(axis=1).any()


def test_gaussian_has_ten_times_the_honest_rms() -> None:
    sent = attack("gaussian", HONEST, OWN, rng())
    assert np.sqrt((sent**2).mean()) / np.sqrt((HONEST**2).mean()) == pytest.approx(10, rel=0.05)


def test_sybils_stand_close_together_and_far_from_the_honest() -> None:
    sent = attack("sybil", HONEST, OWN, rng())
    assert np.sqrt((sent - sent.mean(axis=0)).var()) < 1.5
    assert np.linalg.norm(sent.mean(axis=0) - MEAN) > 5 * np.linalg.norm(MEAN)


@given(st.integers(0, 2**32), st.integers(2, 9), st.integers(1, 20))
def test_min_max_goes_exactly_as_far_as_the_honest_diameter(seed: int, h: int, d: int) -> None:
    honest = honest_updates(h, d, 0.3, rng(seed))
    sent = attack("min-max", honest, honest[:1], rng())[0]
    diameter = max(np.linalg.norm(a - b) for a in honest for b in honest)
    assert max(np.linalg.norm(sent - a) for a in honest) == pytest.approx(diameter, rel=1e-6)


def test_min_max_of_equal_updates_is_their_mean() -> None:
    assert np.array_equal(attack("min-max", np.ones((3, 4)), np.ones((1, 4)), rng()), np.ones((1, 4)))


def test_alie_z_of_the_paper_and_of_few_and_most() -> None:
    assert alie_z(50, 24) == pytest.approx(1.4260, abs=1e-3)
    assert alie_z(10, 1) == 0
    assert alie_z(10, 9) == 0
    assert np.isfinite(alie_z(10, 6))


def test_honest_updates_share_a_direction_and_differ_in_norm() -> None:
    updates = honest_updates(200, 1000, 0.0, rng())
    assert np.sqrt((updates.mean(axis=0) ** 2).mean()) == pytest.approx(0.5, rel=0.05)
    assert np.linalg.norm(updates, axis=1).std() / np.sqrt(1000) < 0.05
    norms = np.linalg.norm(honest_updates(2000, 200, 0.5, rng()), axis=1)
    assert np.log(norms).std() == pytest.approx(0.5, rel=0.1)


def test_attacked_round_replaces_only_the_attackers() -> None:
    updates = honest_updates(10, 30, 0.2, rng())
    sent, byzantine = attacked_round(updates, 3, "sign-flip", rng(3))
    assert len(set(byzantine)) == 3
    assert list(byzantine) == sorted(byzantine)
    for i in range(10):
        assert np.array_equal(sent[i], -updates[i] if i in byzantine else updates[i])
    sent, byzantine = attacked_round(updates, 0, "alie", rng())
    assert byzantine == ()
    assert np.array_equal(sent, updates)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: attack("zap", HONEST, OWN, rng()), "expected one of gaussian, sign-flip"),
        (lambda: attack("mimic", HONEST, OWN, rng(), 1.0), "has no strength"),
        (lambda: attack("scale", HONEST, OWN, rng(), float("nan")), "finite and >= 0"),
        (lambda: attack("scale", HONEST, OWN, rng(), -1.0), "finite and >= 0"),
        (lambda: attack("ipm", HONEST[:0], OWN, rng()), "at least one honest"),
        (lambda: attacked_round(HONEST, 8, "ipm", rng()), r"in \[0, 8\), found 8"),
        (lambda: honest_updates(3, 3, -1.0, rng()), "heterogeneity must be"),
        (lambda: honest_updates(3, 3, float("inf"), rng()), "heterogeneity must be"),
    ],
)
def test_bad_requests_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()
