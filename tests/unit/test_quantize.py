"""Quantization: half a step of error, the way back, what is clipped, and what is refused."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from zkkrum.protocol.params import BITS
from zkkrum.protocol.quantize import clipped_share, dequantize, quantize, step

bits = st.sampled_from(BITS)
clips = st.floats(1e-6, 1e6)


def vectors(dtype: type = np.float64, width: Literal[16, 32, 64] = 64) -> st.SearchStrategy[np.ndarray]:
    return arrays(dtype, st.integers(1, 20), elements=st.floats(-60_000, 60_000, width=width))


@given(vectors(), clips, bits)
def test_round_trip_is_within_half_a_step_of_the_clipped_value(u: np.ndarray, clip: float, b: int) -> None:
    back = dequantize(quantize(u, clip, b), clip, b)
    assert np.all(np.abs(back - np.clip(u, -clip, clip)) <= step(clip, b) * (0.5 + 1e-9))


@given(st.data(), clips, bits)
def test_integers_survive_the_way_there_and_back(data: st.DataObject, clip: float, b: int) -> None:
    half = 2 ** (b - 1) - 1
    q = data.draw(arrays(np.int64, st.integers(1, 50), elements=st.integers(-half, half)))
    assert np.array_equal(quantize(dequantize(q, clip, b), clip, b), q)


@given(vectors(), clips, bits)
def test_values_fit_and_are_symmetric(u: np.ndarray, clip: float, b: int) -> None:
    q = quantize(u, clip, b)
    assert q.dtype == np.int64
    assert np.abs(q).max() <= 2 ** (b - 1) - 1
    assert np.array_equal(quantize(-u, clip, b), -q)


@given(vectors(), clips, bits)
def test_order_is_kept(u: np.ndarray, clip: float, b: int) -> None:
    assert np.all(np.diff(quantize(np.sort(u), clip, b)) >= 0)


@given(vectors(np.float16, 16) | vectors(np.float32, 32), bits)
def test_narrow_floats_quantize_as_their_exact_values(u: np.ndarray, b: int) -> None:
    assert np.array_equal(quantize(u, 3.0, b), quantize(u.astype(np.float64), 3.0, b))


@pytest.mark.parametrize("b", BITS)
def test_halves_go_to_even_and_the_clip_to_the_ends(b: int) -> None:
    half = 2 ** (b - 1) - 1
    clip = float(half)  # a step of exactly 1
    u = np.array([0.5, 1.5, 2.5, -0.5, -1.5, half, half + 0.4, 1e300, -1e300])
    assert quantize(u, clip, b).tolist() == [0, 2, 2, 0, -2, half, half, half, -half]


def test_what_was_clipped_stays_bounded() -> None:
    u = np.array([1e30, -5.0, 0.5, 1.0])
    assert np.abs(dequantize(quantize(u, 1.0, 12), 1.0, 12)).max() <= 1.0
    assert clipped_share(u, 1.0) == 0.5
    assert clipped_share(np.zeros(0), 1.0) == 0
