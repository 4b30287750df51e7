"""The report pages in a real browser: what a person finds, in both schemes, on a telephone and on a wide screen."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from support.browser import CHROMIUM, Browser, Tab, browser
from zkkrum.cli import main
from zkkrum.learning.attacks import attacked_round, honest_updates
from zkkrum.learning.federation import Play, train
from zkkrum.protocol.params import Params, Round
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.roundfile import load_round, save_round
from zkkrum.rounds.updates import save_update
from zkkrum.toolchain import Toolchain

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no browser here (Debian: apt-get install chromium)")

LONG = [f"hospital-of-the-holy-spirit-{k:02d}-ward-with-a-long-name" if k % 2 else f"0x{k:040x}" for k in range(40)]
WIDTHS, SCHEMES = (400, 1200), ("light", "dark")

BEYOND = """[...document.querySelectorAll('body *')].filter(e => {
    if (e.closest('.hidden') || e.tagName === 'title') return false;
    const box = e.getBoundingClientRect();
    return box.width > 0 && (box.right > document.documentElement.clientWidth + 1 || box.left < -1);
}).map(e => e.tagName + ' ' + e.textContent.trim().slice(0, 40))"""
"""What lies, wholly or in part, beside the page."""
OVERLAPPING = """[...document.querySelectorAll('tbody tr')].filter(row => {
    const box = row.getBoundingClientRect();
    return [...row.querySelectorAll('.drawn svg, td, th')].some(e => {
        const inner = e.getBoundingClientRect();
        return inner.height > 0 && (inner.bottom > box.bottom + 1 || inner.top < box.top - 1);
    });
}).map(row => row.textContent.trim().slice(0, 40))"""
"""Rows of a table that reach into another."""
CONTRAST = """(() => {
    const bright = text => {
        const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map(x => {
            x /= 255; return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = e => {
        for (; e; e = e.parentElement) {
            const found = getComputedStyle(e).backgroundColor;
            if (found !== 'rgba(0, 0, 0, 0)') return found;
        }
    };
    return [...document.querySelectorAll('h1, p, th, td, dt, dd, code, strong, span, a, li, footer, text')]
        .filter(e => e.textContent.trim())
        .map(e => {
            const style = getComputedStyle(e);
            const pair = [bright(e.tagName === 'text' ? style.fill : style.color), bright(behind(e))].sort();
            return [(pair[1] + 0.05) / (pair[0] + 0.05), e.textContent.trim().slice(0, 40)];
        }).sort((a, b) => a[0] - b[0])[0];
})()"""
"""The weakest contrast of text with what is behind it (WCAG 2.1), and that text."""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


def zkkrum(*words: object) -> None:
    done = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def write_forty(path: Path) -> None:
    """Write a round of forty clients with long names, six of them attacking."""
    rng = np.random.default_rng(1)
    sent, bad = attacked_round(honest_updates(40, 100, 0.3, rng), 6, "scale", rng)
    home = RoundDirectory(path)
    home.updates.mkdir(parents=True)
    save_round(home.round_file, Round(Params.of(n=40, d=100), 4.0, tuple(LONG), bytes(32)))
    for client, row in zip(LONG, sent, strict=True):
        save_update(home.updates / f"{client}.npy", row)
    truth = {"byzantine": [LONG[i] for i in bad], "attack": "scale", "strength": None, "seed": 1}
    home.truth.write_text(json.dumps(truth))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, toolchain: Toolchain, crs: Path) -> Path:
    """A folder with the pages of a round, of forty clients, of a bundle and of a run."""
    home = tmp_path_factory.mktemp("pages")
    attack = ["--attack", "scale", "--byzantine", "2", "--dimension", "200", "--seed", "5"]
    zkkrum("simulate", home / "round", *attack)
    write_forty(home / "forty")
    for name in ("round", "forty"):
        zkkrum("report", home / name, "-o", home / f"{name}.html")
    example = Path(__file__).parents[2] / "examples" / "digits"
    outside = ["--commitments", example / "commitments", "--round", example / "round.toml"]
    zkkrum("report", example / "bundle", "-o", home / "bundle.html", *outside)
    train(home / "run", Play(rounds=3, prove_every=2), toolchain)
    zkkrum("report", home / "run", "-o", home / "run.html")
    return home


NAMES = ("round", "forty", "bundle", "run")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_and_everything_can_be_read(
    name: str, width: int, scheme: str, pages: Path, chromium: Browser, tmp_path: Path
) -> None:
    page = pages / f"{name}.html"
    tab = Tab(chromium, page.as_uri(), width, 800, scheme)
    assert tab.eval(BEYOND) == []
    assert tab.eval(OVERLAPPING) == []
    assert tab.eval("document.documentElement.scrollWidth <= innerWidth")
    contrast, text = tab.eval(CONTRAST)
    assert contrast >= 4.5, text
    sizes = "[...document.querySelectorAll('p, td, th, text')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert min(tab.eval(sizes)) >= 12
    assert tab.requests() == [page.as_uri()]
    assert tab.complaints() == []
    assert painted(tab.screenshot(tmp_path / "shot.png")) > 3
    tab.close()


def painted(screenshot: bytes) -> int:
    """Return how many colours cover at least a thousandth of a picture."""
    image: Any = pytest.importorskip("matplotlib.image")
    pixels = np.round(255 * image.imread(io.BytesIO(screenshot))[:, :, :3]).astype(np.int64)
    _, counts = np.unique(pixels.reshape(-1, 3) @ [65536, 256, 1], return_counts=True)
    return int((counts > pixels[:, :, 0].size / 1000).sum())


@pytest.mark.parametrize("name", NAMES)
def test_pictures_have_names(name: str, pages: Path, chromium: Browser) -> None:
    tab = Tab(chromium, (pages / f"{name}.html").as_uri())
    nodes = tab.send("Accessibility.getFullAXTree")["nodes"]
    images = [node for node in nodes if node.get("role", {}).get("value") in ("image", "img") and not node["ignored"]]
    assert all(node["name"]["value"] for node in images)
    assert bool(images) == (name != "bundle")
    tab.close()


@pytest.mark.parametrize("name", ["round", "forty"])
def test_the_flagged_and_why(name: str, pages: Path, chromium: Browser) -> None:
    tab = Tab(chromium, (pages / f"{name}.html").as_uri(), 1200)
    roster = load_round(RoundDirectory(pages / name).round_file).roster
    rows = tab.eval("[...document.querySelectorAll('tr.client')].map(row => row.innerText)")
    assert [client for client, row in zip(roster, rows, strict=True) if client not in row] == []
    flagged = [
        client for client, row in zip(roster, rows, strict=True) if "not flagged" not in row and "flagged" in row
    ]
    assert len(flagged) >= 2
    assert f"{len(flagged)} of {len(roster)} clients flagged under mad" in tab.text("h1")
    assert all(client in tab.text("#verdict") for client in flagged)
    assert all("%" in row for row in rows)
    # a cross to the right of the dashed line for the flagged, and for nobody else
    beyond = tab.eval(
        """[...document.querySelectorAll('tr.client')].filter(row => {
            const middle = e => { const box = e.getBoundingClientRect(); return box.x + box.width / 2; };
            return middle(row.querySelector('.drawn use')) > middle(row.querySelector('.threshold'));
        }).map(row => row.querySelector('th').innerText)"""
    )
    assert beyond == [repr(client) for client in flagged]
    tab.close()


def test_the_bundle_is_verified_and_says_against_what(pages: Path, chromium: Browser) -> None:
    tab = Tab(chromium, (pages / "bundle.html").as_uri(), scheme="dark")
    assert "VERIFIED" in tab.text("#proof")
    assert "NOT VERIFIED" not in tab.text("body")
    green, red = (
        tab.eval(f"getComputedStyle(document.querySelector('{x}')).color") for x in (".good .answer", ".flagged")
    )
    assert green != red
    said = tab.text("body")
    assert "they are those that the clients published" in said
    assert "no model update was checked" in said
    assert tab.eval("document.querySelectorAll('tbody code').length") > 10
    assert "0x" in tab.text("#aggregate")
    tab.close()


def test_the_run_leads_to_its_rounds(pages: Path, chromium: Browser) -> None:
    tab = Tab(chromium, (pages / "run.html").as_uri(), 1200)
    assert "1 of 3 rounds verified" in tab.text("h1")
    assert "VERIFIED WITH GAPS" in tab.text("#proof")
    assert "round 1 (unproved), round 3 (unproved)" in tab.text("#proof")
    assert tab.eval("document.querySelectorAll('.curve circle').length") == 3
    for number in (1, 2, 3):
        target = tab.eval(f"new URL(document.querySelector('#round-{number} a').href).pathname")
        assert Path(target).resolve() == (pages / "run" / "rounds" / f"{number:04d}").resolve()
        assert tab.eval(f"document.querySelector('a[href=\"#round-{number}\"]') !== null")
    tab.close()
