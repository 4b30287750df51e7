"""The NumPy reference against a plain Python Krum and its own symmetries; what other projects' formulas would pick."""

from __future__ import annotations

from fractions import Fraction
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from support.shared_vectors import VECTORS, vector
from zkkrum.learning.attacks import attacked_round, honest_updates
from zkkrum.protocol.float_rule import float_krum, float_scores
from zkkrum.protocol.krum import (
    BLOCK,
    Brackets,
    Krum,
    Mad,
    Verdict,
    bitmap,
    lower_median,
    nearest,
    pair_list,
    scores,
    select,
    squared_distances,
)
from zkkrum.protocol.params import Detection, Params, Score
from zkkrum.protocol.quantize import quantize


def plain_krum(q: list[list[int]], f: int, m: int) -> tuple[list[int], list[int]]:
    """Krum in ten lines of Python, straight from Blanchard et al. 2017: scores and the m selected."""
    n, score = len(q), []
    for i in range(n):
        distances = []
        for j in range(n):
            if j != i:
                distances.append(sum((a - b) ** 2 for a, b in zip(q[i], q[j], strict=True)))
        score.append(sum(sorted(distances)[: n - f - 2]))
    chosen = sorted(range(n), key=lambda i: (score[i], i))[:m]
    return score, sorted(chosen)


def plain_mad(s: list[int], z: Fraction, gamma: Fraction) -> tuple[int, ...]:
    middle = (len(s) - 1) // 2
    median = sorted(s)[middle]
    deviation = sorted(abs(x - median) for x in s)[middle]
    hit = [i for i, x in enumerate(s) if x - median > z * deviation and x > (1 + gamma) * median]
    return tuple(hit) if median else ()


def plain_brackets(s: list[int], z: Fraction) -> tuple[bool, tuple[int, ...]]:
    """By µ and σ² as exact fractions, comparing squares on the side that counts."""
    mean = Fraction(sum(s), len(s))
    variance = sum((x - mean) ** 2 for x in s) / len(s)
    low = sum(x < mean and 4 * (mean - x) ** 2 < variance for x in s)
    high = sum(x > mean and 4 * (x - mean) ** 2 < 9 * variance for x in s)
    hit = tuple(i for i, x in enumerate(s) if x > mean and (x - mean) ** 2 > z * z * variance)
    return low > high, hit if low > high else ()


LIMIT = 2**15 - 1


@st.composite
def rounds(draw: st.DrawFn) -> tuple[np.ndarray, int, int]:
    """Quantized updates with f and m; small values make ties and duplicates, large ones reach the clip."""
    n = draw(st.integers(3, 9))
    largest = draw(st.sampled_from([1, 3, 50, LIMIT]))
    q = draw(arrays(np.int64, (n, draw(st.integers(1, 4))), elements=st.integers(-largest, largest)))
    f = draw(st.integers(0, (n - 3) // 2))
    return q, f, draw(st.integers(1, n - f))


def params(n: int, d: int, *, f: int | None = None, **options: Any) -> Params:
    options.setdefault("detection", Detection.MAD if n >= 5 else Detection.BRACKETS)
    if options["detection"] is Detection.BRACKETS and n <= 5:
        options.setdefault("z", Fraction(1))
    return Params.of(n=n, d=d, b=16, f=f, **options)


# Three Krums, of which the circuit's own is compared in the integration tests


@given(rounds())
def test_agrees_with_plain_python(case: tuple[np.ndarray, int, int]) -> None:
    q, f, m = case
    outcome = Krum(params(*q.shape, f=f, m=m))(q)
    score, selected = plain_krum(q.tolist(), f, m)
    assert list(outcome.scores) == score
    assert list(outcome.verdict.selected) == selected


@given(st.lists(st.integers(0, 2**80) | st.integers(0, 6), min_size=5, max_size=11), st.data())
def test_detectors_agree_with_plain_python(s: list[int], data: st.DataObject) -> None:
    z = data.draw(st.fractions(0, 3, max_denominator=9))
    gamma = data.draw(st.fractions(0, 2, max_denominator=9))
    assert Mad.of(s, params(len(s), 1, z=z, gamma=gamma)).flagged == plain_mad(s, z, gamma)
    if z * z < len(s) - 1:
        found = Brackets.of(s, params(len(s), 1, detection=Detection.BRACKETS, z=z))
        assert (found.malicious, found.flagged) == plain_brackets(s, z)


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize(("n", "b"), [(5, 8), (6, 8), (6, 14)])
def test_shared_vectors(name: str, n: int, b: int) -> None:
    q = vector(name, n, b)
    for f, m in ((0, 1), (1, 1), (1, 3), (0, n)):
        outcome = Krum(Params.of(n=n, d=3, b=b, f=f, m=m))(q)
        score, selected = plain_krum(q.tolist(), f, m)
        assert list(outcome.scores) == score
        assert list(outcome.verdict.selected) == selected
        assert outcome.verdict.flagged == plain_mad(score, Fraction(5), Fraction(1, 4))


# Symmetries


@given(rounds(), st.randoms(use_true_random=False))
def test_permuting_clients_permutes_scores_and_flags(case: tuple[np.ndarray, int, int], random: Random) -> None:
    q, f, m = case
    order = list(range(len(q)))
    random.shuffle(order)
    p = params(*q.shape, f=f, m=m)
    before, after = Krum(p)(q), Krum(p)(q[order])
    assert [before.scores[i] for i in order] == list(after.scores)
    assert {i for i, j in enumerate(order) if j in before.verdict.flagged} == set(after.verdict.flagged)
    if len(set(before.scores)) == len(q):
        assert {i for i, j in enumerate(order) if j in before.verdict.selected} == set(after.verdict.selected)


@given(rounds(), st.integers(-1000, 1000), st.permutations(range(4)))
def test_translation_and_reordered_coordinates_change_nothing(
    case: tuple[np.ndarray, int, int], shift: int, axes: list[int]
) -> None:
    q, f, m = case
    p = params(*q.shape, f=f, m=m)
    expected = Krum(p)(q)
    offsets = shift * np.arange(1, q.shape[1] + 1)
    assert Krum(p)(q + offsets).scores == expected.scores
    moved = Krum(p)(q[:, [a for a in axes if a < q.shape[1]]])
    assert (moved.scores, moved.verdict) == (expected.scores, expected.verdict)


@given(rounds())
def test_scaling_scales_scores(case: tuple[np.ndarray, int, int]) -> None:
    q, f, m = case
    p = params(*q.shape, f=f, m=m)
    small, large = Krum(p)(q // 3), Krum(p)(3 * (q // 3))
    assert [9 * s for s in small.scores] == list(large.scores)
    assert small.verdict == large.verdict


# Ties, duplicates, extremes


def test_ties_go_to_the_lowest_index() -> None:
    assert select([5, 3, 3, 3], 1) == (1,)
    assert select([5, 3, 3, 3], 2) == (1, 2)
    assert select([3, 3, 3, 2], 2) == (0, 3)
    assert nearest(squared_distances(np.array([[0], [1], [-1], [1]])), 0, 2) == [1, 2]


def test_a_three_cycle() -> None:
    """Three updates at equal distances from one another: whatever order one goes round, the first wins."""
    cycle = np.array([[9, 0, 0], [0, 9, 0], [0, 0, 9]])
    for turn in range(3):
        outcome = Krum(Params.of(n=3, d=3, f=0, z=Fraction(1)))(np.roll(cycle, turn, axis=0))
        assert outcome.scores == (162, 162, 162)
        assert outcome.verdict.selected == (0,)


def test_zeros_and_duplicates_carry_no_scale() -> None:
    for q in (np.zeros((6, 4), dtype=np.int64), np.full((6, 4), 7), np.array([[1, 2]] * 5 + [[2000, -2000]])):
        outcome = Krum(Params.of(n=6, d=q.shape[1]))(q)
        assert outcome.scores_carry_no_scale
        assert outcome.verdict.flagged == ()
        assert not outcome.verdict.malicious
        assert outcome.verdict.selected == (0,)


@pytest.mark.parametrize("b", [8, 10, 12, 14, 16])
def test_the_clip_on_both_sides_is_exact(b: int) -> None:
    half, d = 2 ** (b - 1) - 1, 5000
    q = np.full((6, d), half)
    q[::2] *= -1
    outcome = Krum(Params.of(n=6, d=d, b=b, f=1))(q)
    assert outcome.distances[0, 1] == d * (2 * half) ** 2
    assert set(outcome.scores) == {d * (2 * half) ** 2}


def test_distances_beyond_one_block_are_exact() -> None:
    rng = np.random.default_rng(0)
    q = rng.integers(-LIMIT, LIMIT, (3, BLOCK + 7), endpoint=True)
    expected = [[int(((a - b) ** 2).sum()) for b in q] for a in q]
    assert squared_distances(q).tolist() == expected


def test_scores_beyond_64_bits_are_exact() -> None:
    n = 40
    distances = np.full((n, n), 2**62, dtype=np.int64)
    np.fill_diagonal(distances, 0)
    assert scores(distances, Params.of(n=n, d=1, score=Score.ALL_PAIRS)) == [(n - 1) * 2**62] * n


@pytest.mark.parametrize("f", [0, 1, 2, 3])
def test_the_smallest_federation_for_f(f: int) -> None:
    """At n = 2f + 3 a score is the sum of f + 1 distances, one more than the attackers can be close to."""
    n = 2 * f + 3
    p = params(n, 2, f=f)
    assert p.neighbours == f + 1
    rng = np.random.default_rng(f)
    q = rng.integers(-20, 20, (n, 2))
    q[n - f :] = [1000, 1000]
    assert Krum(p)(q).verdict.selected[0] < n - f
    assert list(Krum(p)(q).scores) == plain_krum(q.tolist(), f, 1)[0]


def test_the_originals_own_example_flags_the_sixth() -> None:
    """The original zk-Krum clears it: its circuit aborts on these very numbers."""
    q = np.array([[10, 15, 9, 13, 11, 50], [20, 21, 22, 20, 19, 100]]).T
    outcome = Krum(Params.of(n=6, d=2, b=8, score=Score.ALL_PAIRS, detection=Detection.BRACKETS))(q)
    assert outcome.verdict.malicious
    assert outcome.verdict.flagged == (5,)
    assert Krum(Params.of(n=6, d=2, b=8))(q).verdict.flagged == (1, 5)  # d = 2 is too little for mad's defaults


# Detection, at its edges


def test_mad_needs_both_excesses_and_neither_at_equality() -> None:
    p = Params.of(n=5, d=1, z=Fraction(2), gamma=Fraction(1, 4))
    assert Mad.of([100, 101, 102, 103, 104], p).flagged == ()  # far in deviations, not in proportion
    assert Mad.of([60, 80, 100, 120, 140], p).flagged == ()  # M = 100, A = 20: 140 is exactly M + 2A
    assert Mad.of([60, 80, 100, 120, 141], p).flagged == (4,)
    assert Mad.of([100, 100, 100, 100, 125], p).flagged == ()  # A = 0: 125 is exactly 1.25·M
    assert Mad.of([100, 100, 100, 100, 126], p).flagged == (4,)


def test_brackets_count_strictly_and_can_stay_unattributed() -> None:
    p = Params.of(n=6, d=1, detection=Detection.BRACKETS)
    assert Brackets.of([5] * 6, p).malicious is False
    on_the_mean = Brackets.of([0, 10, 10, 10, 10, 20], p)
    assert (on_the_mean.low, on_the_mean.high) == (0, 0)
    found = Brackets.of([90, 90, 91, 100, 60, 130], p)
    assert found.malicious
    assert found.flagged == ()


def test_lower_median() -> None:
    assert lower_median([3, 1, 2]) == 2
    assert lower_median([4, 3, 1, 2]) == 2


def test_no_flag_without_malicious() -> None:
    rng = np.random.default_rng(1)
    for detection in Detection:
        p = Params.of(n=7, d=3, detection=detection)
        for _ in range(300):
            verdict = Krum(p)(rng.integers(-9, 9, (7, 3)) * rng.integers(1, 9, (7, 1))).verdict
            assert verdict.malicious or not verdict.flagged
            assert verdict.public_words() == (verdict.malicious, bitmap(verdict.flagged), bitmap(verdict.selected))
            assert Verdict.of_words(*verdict.public_words()) == verdict


def test_pairs_come_in_the_protocols_order() -> None:
    distances = squared_distances(np.array([[0], [1], [3], [7]]))
    assert pair_list(distances) == [1, 9, 49, 4, 36, 16]


# The floating-point rule, and the Krums of others


def test_the_float_rule_agrees_where_its_margin_is_wide() -> None:
    compared = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        u, _ = attacked_round(honest_updates(10, 50, 0.2, rng), 2, "scale", rng, 3.0)
        for p in (Params.of(n=10, d=50, b=16), Params.of(n=10, d=50, b=16, detection=Detection.BRACKETS)):
            plain = float_krum(u, p)
            if plain.margin > 1e-3:
                compared += 1
                assert Krum(p)(quantize(u, float(np.abs(u).max()), 16)).verdict == plain.verdict
    assert compared > 20


def winner(updates: np.ndarray, neighbours: int, *, squared: bool = True) -> int:
    return int(np.argmin(float_scores(updates, neighbours, squared=squared)))


def disagreement(attack: str, neighbours: int, squared: bool, n: int = 11, k: int = 4) -> float:
    """Share of rounds in which another project's Krum picks another client than Blanchard's n - f - 2."""
    different = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        u, _ = attacked_round(honest_updates(n, 50, 0.0, rng), k, attack, rng)
        different += winner(u, n - k - 2) != winner(u, neighbours, squared=squared)
    return different / 200


@settings(max_examples=30)
@given(st.integers(0, 2**32))
def test_float_scores_by_hand(seed: int) -> None:
    u = np.random.default_rng(seed).normal(size=(7, 3))
    d = np.linalg.norm(u[:, None] - u[None], axis=2)
    for count in (2, 4, 6):
        assert np.allclose(float_scores(u, count), np.sort(d**2, axis=1)[:, 1 : count + 1].sum(axis=1))
        assert np.allclose(float_scores(u, count, squared=False), np.sort(d, axis=1)[:, 1 : count + 1].sum(axis=1))


def test_byzfl_takes_one_neighbour_more_and_picks_others() -> None:
    """ByzFL sums the n - f - 1 nearest squared distances, not n - f - 2."""
    n, k = 11, 4
    assert 0.1 < disagreement("gaussian", n - k - 1, True) < 0.9
    line = np.array([[0.0], [1.0], [2.0], [8.0], [9.0]])  # n = 5, f = 1: two neighbours here, three there
    assert winner(line, 2) == 1
    assert winner(line, 3) == 2


def test_calicarpa_also_leaves_distances_unsquared() -> None:
    """calicarpa/krum sums the n - f - 1 nearest distances, unsquared."""
    n, k = 11, 4
    assert 0.1 < disagreement("gaussian", n - k - 1, False) < 0.9
    star = np.array([[0.0, 0], [0, 0.1], [5, 0], [5, 5], [3, 2.4]])
    picks = {(c, sq): winner(star, c, squared=sq) for c in (2, 3) for sq in (True, False)}
    assert picks[3, True] != picks[3, False]


def test_the_original_takes_all_pairs() -> None:
    """The original zk-Krum sums all n - 1; attackers then move every score, and a majority of them wins."""
    rng = np.random.default_rng(0)
    u, byzantine = attacked_round(honest_updates(11, 50, 0.0, rng), 4, "min-max", rng, 2.0)
    assert winner(u, 5) in set(range(11)) - set(byzantine)
    assert disagreement("gaussian", 10, True) > 0.1


def test_flowers_float32_formula_fails_on_large_norms() -> None:
    """Weights instead of updates: a common offset eats the digits of ‖x‖² + ‖y‖² - 2x·y in float32; integers do not."""
    wrong = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        u = honest_updates(10, 2000, 0.05, rng)
        x = (1000 + 0.01 * u).astype(np.float32)
        gram = (x**2).sum(axis=1)[:, None] + (x**2).sum(axis=1)[None] - 2 * x @ x.T
        theirs = int(np.argsort(np.sort(gram, axis=1)[:, 1:6].sum(axis=1))[0])
        exact = Krum(Params.of(n=10, d=2000, b=16, f=3))(quantize(u, float(np.abs(u).max()), 16)).verdict.selected[0]
        assert exact == winner(u, 5)
        wrong += theirs != exact
    assert wrong > 25


def test_margins_are_never_negative() -> None:
    for seed in range(5):
        updates = honest_updates(8, 5, 0.3, np.random.default_rng(seed))
        assert float_krum(updates, Params.of(n=8, d=5)).margin >= 0
