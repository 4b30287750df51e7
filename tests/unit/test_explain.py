"""Why a client is flagged: thresholds, excesses, and that their signs are the exact verdict."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkkrum.protocol.explain import explain
from zkkrum.protocol.float_rule import BracketLines, MadLines
from zkkrum.protocol.krum import Krum, Outcome, Verdict, detect, select
from zkkrum.protocol.params import Acceptance, Detection, Params, Score

MAD = Params.of(n=6, d=200)
BRACKETS = Params.of(n=6, d=200, detection=Detection.BRACKETS)


def outcome_of(scores: list[int], params: Params) -> Outcome:
    """An outcome with chosen scores: the distances play no part in an explanation."""
    found = detect(scores, params)
    verdict = Verdict(found.malicious, found.flagged, select(scores, params.m))
    return Outcome(verdict, np.zeros((params.n, params.n), dtype=np.int64), tuple(scores), found)


SCORES = st.lists(st.one_of(st.integers(0, 12), st.integers(0, 2**72)), min_size=6, max_size=6)
THRESHOLDS = st.sampled_from([Fraction(0), Fraction(1), Fraction(3, 2), Fraction(5), Fraction(4294967295, 4294967294)])


@given(SCORES, THRESHOLDS, THRESHOLDS)
def test_the_sign_of_the_excess_is_the_verdict_under_mad(scores: list[int], z: Fraction, gamma: Fraction) -> None:
    params = Params.of(n=6, d=200, z=z, gamma=gamma)
    found = explain(outcome_of(scores, params), params)
    for reason in found.clients:
        assert reason.flagged == (found.nobody is None and reason.excess is not None and reason.excess > 0)


@given(SCORES, st.sampled_from([Fraction(0), Fraction(1, 3), Fraction(1), Fraction(2), Fraction(2236, 1000)]))
def test_the_sign_of_the_excess_is_the_verdict_under_brackets(scores: list[int], z: Fraction) -> None:
    params = Params.of(n=6, d=200, detection=Detection.BRACKETS, z=z)
    found = explain(outcome_of(scores, params), params)
    for reason in found.clients:
        assert reason.flagged == (found.nobody is None and reason.excess is not None and reason.excess > 0)


def test_a_score_on_the_threshold_has_no_excess_and_one_above_has_some() -> None:
    # σ is irrational here, and floating point alone could not tell: 1 and 3 share µ = 2 and σ = 1 exactly.
    params = Params.of(n=6, d=200, detection=Detection.BRACKETS, z=Fraction(1))
    assert [r.excess for r in explain(outcome_of([1, 1, 1, 3, 3, 3], params), params).clients][3:] == [0, 0, 0]
    huge = 2**72
    found = explain(outcome_of([huge] * 4 + [huge * 5 // 4, huge * 5 // 4 + 1], MAD), MAD)
    assert [r.excess for r in found.clients[4:]] == [0, pytest.approx(1 / (1.25 * huge))]
    assert [r.flagged for r in found.clients[4:]] == [False, True]


def test_the_threshold_is_the_higher_line_of_mad() -> None:
    spread, close = [10, 11, 12, 13, 14, 60], [100, 100, 100, 100, 101, 200]
    for scores, line in ((spread, "M + z·A"), (close, "(1 + γ)·M")):
        found = explain(outcome_of(scores, MAD), MAD)
        assert found.line == line
        assert found.threshold == MadLines.of(np.array(scores, dtype=float), 5, 0.25).threshold
        assert [r.flagged for r in found.clients] == [False] * 5 + [True]
        assert found.clients[5].excess == pytest.approx(scores[5] / found.threshold - 1)
        assert found.clients[0].selected
        assert [r.accepted for r in found.clients] == [True] * 5 + [False]


def test_the_threshold_of_brackets_is_the_float_rules() -> None:
    scores = [10, 11, 12, 13, 14, 60]
    found = explain(outcome_of(scores, BRACKETS), BRACKETS)
    assert found.line == "µ + z·σ"
    assert found.threshold == pytest.approx(BracketLines.of(np.array(scores, dtype=float), 2).threshold)
    for reason in found.clients:
        assert reason.excess == pytest.approx(reason.score / found.threshold - 1)


def test_it_says_why_nobody_is_flagged_whatever_the_excess() -> None:
    no_scale = explain(outcome_of([0, 0, 0, 0, 5, 9], MAD), MAD)
    assert no_scale.nobody is not None
    assert "is clip too large?" in no_scale.nobody
    assert not any(r.flagged for r in no_scale.clients)
    assert [r.excess for r in no_scale.clients] == [None] * 6
    params = Params.of(n=6, d=200, detection=Detection.BRACKETS, z=Fraction(1))
    honest = explain(outcome_of([0, 0, 0, 0, 1, 1], params), params)
    assert honest.nobody is not None
    assert "brackets takes the round for honest" in honest.nobody
    assert (honest.clients[5].excess or 0) > 0
    assert not honest.clients[5].flagged
    assert [r.excess for r in explain(outcome_of([0] * 6, BRACKETS), BRACKETS).clients] == [None] * 6


@pytest.mark.parametrize("score", Score)
@pytest.mark.parametrize("detection", Detection)
@pytest.mark.parametrize("acceptance", Acceptance)
def test_of_real_rounds(score: Score, detection: Detection, acceptance: Acceptance) -> None:
    rng = np.random.default_rng(0)
    for n in (5, 8, 13):
        params = Params.of(n=n, d=20, score=score, detection=detection, acceptance=acceptance, m=2)
        for spread in (3, 300):
            q = rng.integers(-spread, spread, (n, 20))
            q[0] *= 6
            outcome = Krum(params)(q)
            found = explain(outcome, params)
            verdict = outcome.verdict
            assert tuple(r.client for r in found.clients if r.flagged) == verdict.flagged
            assert tuple(r.client for r in found.clients if r.selected) == verdict.selected
            assert tuple(r.client for r in found.clients if r.accepted) == verdict.accepted(params)
            assert [r.score for r in found.clients] == [float(s) for s in outcome.scores]
