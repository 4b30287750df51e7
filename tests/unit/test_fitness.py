"""Warnings before a proof: when they are given, what they name, that calibration ends them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkkrum.learning.attacks import attacked_round, honest_updates
from zkkrum.protocol.fitness import UNLIKE, Doubt, doubts, is_uncalibrated, unlikeness, warnings
from zkkrum.protocol.krum import Krum
from zkkrum.protocol.params import Detection, Params, Round, Score
from zkkrum.protocol.quantize import Integers, quantize


def quantized(n: int, d: int, heterogeneity: float, seed: int, attack: str = "scale", k: int = 0) -> Integers:
    rng = np.random.default_rng(seed)
    updates = attacked_round(honest_updates(n, d, heterogeneity, rng), k, attack, rng)[0]
    return quantize(updates, 6 * float(np.sqrt((updates**2).mean())), 12)


def doubts_of(params: Params, q: Integers) -> tuple[Doubt, ...]:
    return doubts(params, q, Krum(params)(q))


def said(params: Params, q: Integers) -> tuple[str, ...]:
    roster = tuple(f"client-{i}" for i in range(params.n))
    return warnings(Round(params, 1.0, roster, bytes(32)), q, Krum(params)(q))


def test_nothing_is_said_of_alike_clients_on_many_coordinates() -> None:
    for n in (6, 10, 20):
        params = Params.of(n=n, d=1000)
        for seed in range(20):
            assert said(params, quantized(n, 1000, 0.0, seed)) == ()
            assert said(params, quantized(n, 1000, 0.0, seed, k=n // 5)) == ()  # scaled tenfold: far above


def test_a_clean_round_that_proves_a_false_accusation_is_announced() -> None:
    params = Params.of(n=10, d=30)
    q = next(q for seed in range(50) if Krum(params)(q := quantized(10, 30, 0.0, seed)).verdict.flagged)
    (sentence,) = said(params, q)
    assert "mad is not calibrated (z = 5, gamma = 1/4)" in sentence
    assert "d = 30 is below 100 coordinates" in sentence
    assert "`zkkrum calibrate CLEAN_ROUND… --round NEXT/round.toml`" in sentence
    assert set(doubts_of(params, q)) == {Doubt.FEW_COORDINATES, Doubt.NARROW_FLAG}


def test_unlike_clients_are_announced_and_calibration_ends_it() -> None:
    params = Params.of(n=20, d=1000)
    for seed in range(20):
        q = quantized(20, 1000, 0.25, seed)
        assert Doubt.UNLIKE_CLIENTS in doubts_of(params, q)
        assert "clients are unlike" in said(params, q)[0]
        for calibrated in (replace(params, z=Fraction(7)), replace(params, gamma=Fraction(1, 2))):
            assert said(calibrated, q) == ()


def test_who_is_narrowly_flagged_is_named() -> None:
    params = Params.of(n=5, d=400)
    q = np.tile(np.array([100, -100] * 200), (5, 1)) + np.random.default_rng(0).integers(-20, 20, (5, 400))
    for size, narrow in ((16, True), (300, False)):
        sent = q.copy()
        sent[3, ::2] += size
        outcome = Krum(params)(sent)
        assert outcome.verdict.flagged == (3,)
        assert (Doubt.NARROW_FLAG in doubts(params, sent, outcome)) == narrow
        assert ("'client-3' would be flagged by less than 50 %" in "".join(said(params, sent))) == narrow


@pytest.mark.parametrize(("n", "f", "warned"), [(10, 2, False), (10, 3, True), (20, 5, False), (20, 6, True)])
def test_brackets_that_tolerate_more_than_they_can_see(n: int, f: int, warned: bool) -> None:
    params = Params.of(n=n, d=50, f=f, detection=Detection.BRACKETS)
    found = said(params, quantized(n, 50, 0.0, 0))
    assert bool(found) == warned
    if found:
        assert f"tolerates f = {f} of {n}" in found[0]
        assert "--detection mad" in found[0]
        assert f"`zkkrum evaluate -n {n} -d 50 --rule krum-2017/brackets --rule krum-2017/mad`" in found[0]


def test_brackets_that_flag_more_than_they_should() -> None:
    params = Params.of(n=5, d=1, score=Score.ALL_PAIRS, detection=Detection.BRACKETS, z=Fraction(1, 2))
    q = np.array([[0], [0], [2], [11], [12]])
    assert len(Krum(params)(q).verdict.flagged) == 2
    assert "would flag 2 of 5" in said(params, q)[0]


@given(st.lists(st.integers(1, 50), min_size=7, max_size=7), st.lists(st.integers(0, 10**6), min_size=3, max_size=3))
def test_a_minority_cannot_raise_the_unlikeness(honest: list[int], others: list[int]) -> None:
    q = np.array([[x] for x in honest])
    ratio = Fraction(max(honest), min(honest))
    assert 1 <= unlikeness(np.vstack([q, [[x] for x in others]])) <= ratio**2


def test_unlikeness_of_simulated_clients() -> None:
    """The limit lies above what alike clients show, and below what clients show who are flagged by mistake."""
    alike = max(unlikeness(quantized(10, 650, 0.0, seed)) for seed in range(100))
    unlike = sorted(unlikeness(quantized(10, 650, 0.15, seed)) for seed in range(100))
    assert alike < UNLIKE**2 < unlike[25]
    assert unlikeness(np.zeros((5, 3), dtype=np.int64)) == 1


def test_what_is_uncalibrated() -> None:
    assert is_uncalibrated(Params.of(n=10, d=30))
    assert is_uncalibrated(Params.of(n=5, d=30, detection=Detection.BRACKETS))
    assert not is_uncalibrated(Params.of(n=10, d=30, z=Fraction(4)))
