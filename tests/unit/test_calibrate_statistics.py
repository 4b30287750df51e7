"""The statistics behind calibration, which need no scipy, against scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from zkkrum.learning.calibrate import CONFIDENCE, _prediction_limit, rate_at_most, rounds_needed, t_quantile, trend

targets = st.floats(1e-4, 0.9)


@st.composite
def counts(draw: st.DrawFn) -> tuple[int, int]:
    """Events and trials."""
    trials = draw(st.integers(1, 3000))
    return draw(st.integers(0, trials)), trials


@given(st.floats(0.5, 1 - 1e-9), st.integers(1, 3000))
@example(0.5, 1)
@example(0.999, 2)
def test_quantile_of_students_t(p: float, degrees: int) -> None:
    assert t_quantile(p, degrees) == pytest.approx(stats.t.ppf(p, degrees), rel=1e-6, abs=1e-9)


@given(counts(), st.floats(0.5, 0.999))
@example((0, 1), CONFIDENCE)
@example((1500, 3000), CONFIDENCE)  # its binomial coefficient is beyond every float
@example((2999, 3000), CONFIDENCE)
def test_clopper_pearson(case: tuple[int, int], confidence: float) -> None:
    events, trials = case
    upper = stats.binomtest(events, trials, alternative="less").proportion_ci(confidence, method="exact").high
    assert rate_at_most(events, trials, confidence) == pytest.approx(upper, rel=1e-6)


@given(targets)
def test_rounds_needed_are_the_fewest_that_show_the_target(target: float) -> None:
    def bound(rounds: int) -> float:
        found = stats.binomtest(0, rounds, alternative="less").proportion_ci(CONFIDENCE, method="exact")
        return float(found.high)

    needed = rounds_needed(target)
    assert bound(needed) <= target * (1 + 1e-12)
    assert needed == 1 or bound(needed - 1) > target * (1 - 1e-12)


def kendall(values: list[float]) -> float:
    """Return Mann and Kendall's S, pairs in order less pairs out of order, from scipy's tau-c."""
    n, kinds = len(values), min(len(values), len(set(values)))
    if kinds == 1:
        return 0.0
    tau = stats.kendalltau(np.arange(n), values, variant="c").statistic
    return float(round(tau * n * n * (kinds - 1) / kinds / 2))


@given(st.lists(st.integers(-50, 50).map(float), min_size=5, max_size=60))
def test_trend_is_the_corrected_normal_tail_of_kendalls_s(values: list[float]) -> None:
    n = len(values)
    z = max(abs(kendall(values)) - 1, 0) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    assert trend(values) == pytest.approx(2 * stats.norm.sf(z), rel=1e-9)


@given(st.integers(8, 60).flatmap(lambda n: st.permutations(range(n))))
def test_trend_is_near_the_exact_test(order: list[int]) -> None:
    values = [float(x) for x in order]
    exact = stats.kendalltau(np.arange(len(values)), values, method="exact").pvalue
    assert trend(values) == pytest.approx(exact, abs=0.015)


@given(st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=60), st.floats(0.5, 0.999))
def test_prediction_limit_of_a_log_normal_sample(sample: list[float], confidence: float) -> None:
    logs, n = np.log(sample), len(sample)
    # the next value less the mean of n, in units of its estimated deviation, is Student's t with n - 1 degrees
    limit = stats.t.ppf(confidence, n - 1, loc=logs.mean(), scale=max(logs.std(ddof=1), 1e-12) * math.sqrt(1 + 1 / n))
    found = _prediction_limit(np.array(sample), confidence)
    assert found == pytest.approx(min(math.exp(min(limit, 100.0)), 1e6), rel=1e-6)
