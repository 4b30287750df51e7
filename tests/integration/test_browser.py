"""The report in a real browser: headless Chromium, where there is one."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from zkkrum.cli import main
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.roundfile import load_round

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
    "--window-size=1100,2400",
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser here (Debian: apt-get install chromium)")


def browse(page: Path, home: Path, *what: str) -> bytes:
    assert CHROMIUM
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={home}", *what, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    pytest.importorskip("matplotlib", reason="the pictures need matplotlib (extra plot)")
    folder = tmp_path_factory.mktemp("report")
    round, report = folder / "round", folder / "report.html"
    options = ["--attack", "scale", "--byzantine", "2", "--dimension", "200", "--seed", "5"]
    for command in (["simulate", str(round), *options], ["report", str(round), "-o", str(report)]):
        done = CliRunner().invoke(main, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    return round, report


def test_the_browser_shows_the_verdict(page: tuple[Path, Path], tmp_path: Path) -> None:
    round, report = page
    dom = browse(report, tmp_path, "--dump-dom").decode()
    text = re.sub(r"<[^>]*>", " ", dom[dom.index("<body") :])
    assert "2 of 10 clients flagged under mad" in text
    roster = load_round(RoundDirectory(round).round_file).roster
    assert all(client in text for client in roster)
    flagged = re.findall(r"<td>([^<]*)</td><td><span class=\"flagged\">flagged", dom)
    byzantine = re.findall(r"<td>([^<]*)</td>(?:(?!</tr>).)*<td>Byzantine</td>", dom)
    assert flagged == byzantine
    assert len(flagged) == 2
    assert dom.count("</svg>") == 2


def test_the_browser_paints_the_pictures(page: tuple[Path, Path], tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    shot = tmp_path / "shot.png"
    browse(page[1], tmp_path / "home", f"--screenshot={shot}")
    pixels = np.round(255 * image.imread(io.BytesIO(shot.read_bytes()))[:, :, :3]).astype(int)
    assert pixels.shape[:2] == (2400, 1100)
    for colour in ((0xC0, 0x39, 0x2B), (0x44, 0x01, 0x54), (0x1E, 0x84, 0x49)):  # flagged, distance 0, selected
        assert (np.abs(pixels - colour).max(axis=2) <= 3).sum() > 50
