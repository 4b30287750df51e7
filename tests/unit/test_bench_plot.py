"""The plot of the benchmark can be read without colours, and its legends cover nothing."""

from __future__ import annotations

import pytest

from zkkrum import bench
from zkkrum.bench import GRID, Measurement, Shape


def measured(shape: Shape) -> Measurement:
    """A made-up measurement of a shape."""
    p = bench.round_of(shape).params
    gates = {"round vk": (100 * shape.n + 4 * shape.n * shape.d, 1)}
    seconds = {"prove": 1 + shape.d / 1000, "verify": 0.05}
    return Measurement(p.n, p.d, p.b, p.chunk, p.score.value, p.detection.value, "round", gates, seconds)


def test_lines_differ_by_more_than_colour_and_legends_lie_outside() -> None:
    matplotlib = pytest.importorskip("matplotlib", reason="the plot needs matplotlib (extra plot)")
    matplotlib.use("Agg")
    figure = bench._figure([measured(shape) for shape in GRID])
    figure.canvas.draw()
    for axes, lines in zip(figure.axes, (4, 8, 3), strict=True):
        looks = [(line.get_marker(), line.get_linestyle()) for line in axes.lines]
        assert len(looks) == len(set(looks)) == lines
        assert axes.get_legend().get_window_extent().y1 <= axes.get_window_extent().y0
    matplotlib.pyplot.close(figure)
