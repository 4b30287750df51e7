"""`zkkrum bench` on one small round: the numbers are those of the bundle, and the plot is a picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zkkrum import bench as benchmark
from zkkrum.bench import Measurement, Shape, measure, memory_of_tree, plot
from zkkrum.cli.bench import bench
from zkkrum.errors import ToolMissingError
from zkkrum.toolchain import Toolchain


@pytest.fixture(scope="module")
def small(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    return measure(Shape(5, 60), toolchain, tmp_path_factory.mktemp("bench"))


class TestMeasure:
    def test_numbers(self, small: Measurement) -> None:
        assert (small.form, small.proofs, small.values) == ("round", 1, 300)
        assert 3_000 < small.total_gates < 3_700
        assert small.gates_per_value == small.total_gates / 300
        assert 0 < small.seconds["bb"] < small.seconds["prove"]
        assert small.seconds["verify"] < small.seconds["prove"]
        assert small.cpu_seconds > 0.1
        assert 50e6 < small.memory < 500e6
        assert 5_000 < small.proof_bytes < small.bundle_bytes < 30_000
        assert small.skipped == ""

    def test_shards_are_counted(self, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Only counted: no points for it."""
        monkeypatch.setenv("CRS_PATH", str(tmp_path))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr("zkkrum.toolchain.crs.network_looks_up", lambda: False)
        found = measure(Shape(7, 2, 14, original=True), Toolchain.find(), tmp_path)
        assert (found.score, found.detection) == ("all-pairs", "brackets")
        assert "reference string" in found.skipped
        assert not found.seconds
        assert found.total_gates > 1_000

    def test_memory_of_children_counts(self) -> None:
        with memory_of_tree() as peak:
            code = "x = bytearray(150_000_000); x[::4096] = b'1' * len(x[::4096]); import time; time.sleep(0.5)"
            subprocess.run([sys.executable, "-c", code], check=True)
        assert peak() > 150e6


class TestPlot:
    def test_picture(self, small: Measurement, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        plot([small], tmp_path / "new" / "bench.png")
        assert (tmp_path / "new" / "bench.png").read_bytes().startswith(b"\x89PNG")

    def test_without_matplotlib(self, small: Measurement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(ToolMissingError) as error:
            plot([small], tmp_path / "bench.png")
        assert "zkkrum[plot]" in error.value.hint


class TestCommand:
    def run(self, monkeypatch: pytest.MonkeyPatch, small: Measurement, *arguments: str) -> tuple[Any, list[Shape]]:
        asked: list[Shape] = []

        def pretend(shape: Shape, *_: Any) -> Measurement:
            asked.append(shape)
            return small

        monkeypatch.setattr(benchmark, "measure", pretend)
        return CliRunner().invoke(bench, arguments), asked

    def test_json(self, monkeypatch: pytest.MonkeyPatch, small: Measurement, tmp_path: Path) -> None:
        result, asked = self.run(monkeypatch, small, "-n", "5", "-n", "6", "-d", "60", "--json", "-o", str(tmp_path))
        assert result.exit_code == 0, result.output
        assert asked == [Shape(5, 60), Shape(6, 60)]
        report = json.loads(result.stdout)
        assert report.pop("schema") == "zkkrum-bench-1"
        assert report == json.loads((tmp_path / "bench.json").read_text())
        assert report["rounds"][0]["total_gates"] == small.total_gates
        assert report["original_gates"]["50"] == 105_376
        assert report["machine"]["cores"] > 0

    def test_table(self, monkeypatch: pytest.MonkeyPatch, small: Measurement, tmp_path: Path) -> None:
        result, asked = self.run(monkeypatch, small, "--quick", "-o", str(tmp_path))
        assert result.exit_code == 0, result.output
        assert asked == list(benchmark.QUICK)
        assert f"{small.total_gates:,}" in result.stdout
        assert "105,376 at n = 50" in result.stdout

    def test_grid_of_the_readme(self, monkeypatch: pytest.MonkeyPatch, small: Measurement, tmp_path: Path) -> None:
        _, asked = self.run(monkeypatch, small, "-o", str(tmp_path))
        assert asked == list(benchmark.GRID)
        assert len(set(asked)) == len(asked)
