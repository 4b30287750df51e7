"""Attackers that know the rule: how their strength is found, and that the rule lets them through."""

from __future__ import annotations

import numpy as np
import pytest

from zkkrum.errors import InputError
from zkkrum.learning.attacks import ATTACKS, attacked_round, honest_updates
from zkkrum.learning.evade import EVASIVE, LARGEST, Evasion, Goal, largest, parse_attack, play
from zkkrum.protocol.krum import Krum
from zkkrum.protocol.params import Acceptance, Detection, Params
from zkkrum.protocol.quantize import quantize

CLIP = 6.0


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("limit", [0.1, 0.9, 1.0, 3.7, 100.0])
def test_bisection_finds_the_limit(limit: float) -> None:
    assert largest(lambda x: x <= limit) == pytest.approx(limit, rel=2e-3)
    assert largest(lambda x: x <= limit) <= limit


def test_where_everything_or_nothing_passes() -> None:
    assert largest(lambda x: True) == LARGEST
    assert largest(lambda x: False) == 0
    assert largest(lambda x: x < 1 or 40 < x < 80) == pytest.approx(80, rel=2e-3)  # the upper of two islands


@pytest.mark.parametrize("name", EVASIVE)
@pytest.mark.parametrize("detection", Detection)
def test_unflagged_attackers_are_just_below_the_threshold(name: str, detection: Detection) -> None:
    params = Params.of(n=10, d=300, detection=detection)
    for seed in range(5):
        updates, found = honest_updates(10, 300, 0.0, rng(seed)), list[float]()
        sent, bad = attacked_round(updates, 2, name, rng(1), play(Goal.UNFLAGGED, params, CLIP, found))
        assert set(bad).isdisjoint(Krum(params)(quantize(sent, CLIP, 12)).verdict.flagged)
        assert 0.3 < found[0] < 3
        stronger, same = attacked_round(updates, 2, name, rng(1), 1.01 * found[0])
        assert same == bad
        assert set(bad) & set(Krum(params)(quantize(stronger, CLIP, 12)).verdict.flagged)


def test_accepted_attackers_are_in_multi_krums_mean() -> None:
    params = Params.of(n=10, d=300, m=7, acceptance=Acceptance.SELECTED)
    updates, found = honest_updates(10, 300, 0.0, rng()), list[float]()
    sent, bad = attacked_round(updates, 3, "sign-flip", rng(1), play(Goal.ACCEPTED, params, CLIP, found))
    assert set(bad) <= set(Krum(params)(quantize(sent, CLIP, 12)).verdict.accepted(params))
    plain = Evasion(params, CLIP, Goal.UNFLAGGED)
    unflagged, _ = attacked_round(updates, 3, "sign-flip", rng(1), plain)
    assert not set(bad) & set(Krum(params)(quantize(unflagged, CLIP, 12)).verdict.accepted(params))


def test_krum_accepts_one_of_them_at_most() -> None:
    params = Params.of(n=10, d=300, acceptance=Acceptance.SELECTED)
    updates, found = honest_updates(10, 300, 0.0, rng()), list[float]()
    sent, bad = attacked_round(updates, 3, "scale", rng(1), play(Goal.ACCEPTED, params, CLIP, found))
    assert set(Krum(params)(quantize(sent, CLIP, 12)).verdict.accepted(params)) <= set(bad)


def test_unflagged_is_accepted_where_the_unflagged_are() -> None:
    params = Params.of(n=10, d=300)
    updates = honest_updates(10, 300, 0.0, rng())
    found = [
        attacked_round(updates, 2, "scale", rng(1), Evasion(params, CLIP, goal))[0].tolist()
        for goal in (Goal.UNFLAGGED, Goal.ACCEPTED)
    ]
    assert found[0] == found[1]


def test_numbers_are_played_as_they_are() -> None:
    params = Params.of(n=10, d=300)
    assert play(4.0, params, CLIP, []) == 4.0
    assert play(None, params, CLIP, []) is None


def test_parsing() -> None:
    assert parse_attack("alie:1.5") == ("alie", 1.5)
    assert parse_attack("mimic") == ("mimic", None)
    for name in EVASIVE:
        assert name in ATTACKS
        assert parse_attack(f"{name}:accepted") == (name, Goal.ACCEPTED)
    for text, message in (
        ("zap", "expected one of gaussian, .*found 'zap'"),
        ("scale:much", "expected a number, unflagged or accepted after the colon, found 'much'"),
        ("ipm:unflagged", "cannot be tuned to be unflagged, only scale, sign-flip can"),
    ):
        with pytest.raises(InputError, match=message):
            parse_attack(text)
