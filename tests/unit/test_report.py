"""The report's page: what it shows of a round, that it loads nothing, what it escapes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from zkkrum.errors import InputError
from zkkrum.learning.attacks import attacked_round, honest_updates
from zkkrum.proof.bundle import Manifest
from zkkrum.proof.form import MANIFEST
from zkkrum.proof.statement import round_words
from zkkrum.protocol.krum import Krum, Verdict
from zkkrum.protocol.params import Detection, Params, Round
from zkkrum.protocol.quantize import quantize
from zkkrum.report.html import render
from zkkrum.report.page import of_path
from zkkrum.report.pictures import lines
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.roundfile import save_round
from zkkrum.rounds.updates import save_update

ROSTER = ("alice", "bob", "<script>alert(1)", "dave", "eve", "f" * 30)
PARAMS = Params.of(n=6, d=200)


class Page(HTMLParser):
    """Text, tags and whatever would be loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.loads: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            loads = name in ("src", "href", "xlink:href", "data", "action", "srcset")
            if loads and not (value or "").startswith(("#", "data:")):
                self.loads.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def write_round(path: Path, params: Params = PARAMS, truth: bool = True) -> Round:
    pytest.importorskip("matplotlib", reason="the pictures need matplotlib (extra plot)")
    rng = np.random.default_rng(0)
    sent, bad = attacked_round(honest_updates(params.n, params.d, 0.0, rng), 1, "scale", rng)
    round = Round(params, 4.0, ROSTER[: params.n], bytes(31) + b"\x07")
    home = RoundDirectory(path)
    home.updates.mkdir(parents=True)
    save_round(home.round_file, round)
    for client, row in zip(round.roster, sent, strict=True):
        save_update(home.updates / f"{client}.npy", row)
    if truth:
        names = [round.roster[i] for i in bad]
        home.truth.write_text(json.dumps({"byzantine": names, "attack": "scale", "strength": None, "seed": 0}))
    return round


def write_bundle(path: Path, round: Round, verdict: Verdict) -> None:
    commitments = [bytes(31) + bytes([i + 1]) for i in range(round.params.n)]
    manifest = Manifest.describe(
        round,
        by_clients=True,
        commitments=commitments,
        aggregate=bytes(32),
        verdict=verdict,
        words=round_words(round, 1, range(round.params.n + 1), verdict),
        gates={"vk": 12345},
        files={"proof": b"p"},
        seconds={"prove": 1.25},
    )
    path.mkdir(parents=True)
    (path / MANIFEST).write_text(manifest.model_dump_json())


def verdict_of(path: Path, round: Round) -> Verdict:
    updates = RoundDirectory(path).load_updates(round.roster)
    assert updates
    return Krum(round.params)(quantize(np.stack([u.vector for u in updates]), round.clip, round.params.b)).verdict


def test_the_page_of_a_round(tmp_path: Path) -> None:
    round = write_round(tmp_path / "r")
    verdict = verdict_of(tmp_path / "r", round)
    write_bundle(tmp_path / "r" / "bundle", round, verdict)
    text = render(of_path(tmp_path / "r"))
    page = Page(text)
    assert f"1 of {round.params.n} clients flagged under mad" in page.text
    for part in ("Private.", "Byzantine", "µ + 3σ/2", "µ - σ/2", "mad flags above", "12,345", "1.25 s", "same claim"):
        assert part in page.text
    assert page.tags.count("svg") == 2
    assert "script" not in page.tags
    assert page.loads == []
    assert not re.search(r"@import|url\((?!#)", text)
    assert text == render(of_path(tmp_path / "r"))


def test_a_bundle_that_claims_something_else_is_noticed(tmp_path: Path) -> None:
    round = write_round(tmp_path / "r", truth=False)
    write_bundle(tmp_path / "r" / "bundle", round, Verdict(False, (), (0,)))
    text = render(of_path(tmp_path / "r"))
    assert "ANOTHER claim" in text
    assert "in truth" not in text


def test_the_page_of_a_bundle_has_nothing_private(tmp_path: Path) -> None:
    round = Round(PARAMS, 4.0, ROSTER, bytes(32))
    write_bundle(tmp_path / "b", round, Verdict(True, (2,), (0,)))
    page = Page(render(of_path(tmp_path / "b")))
    assert "NOT VERIFIED" in page.text
    assert "flagged: '<script>" in page.text  # escaped: it is text, and no tag
    assert "script" not in page.tags
    assert "svg" not in page.tags
    assert "Private" not in page.text
    assert "score" not in page.text.split("Parameters")[0].split("Clients")[1]
    assert "VERIFIED when" in render(of_path(tmp_path / "b", "VERIFIED when this page was made."))


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [
        (Verdict(False, (), (0,)), "Honest: nobody is flagged under brackets"),
        (Verdict(True, (), (0,)), "unattributed: nobody is flagged"),
        (Verdict(True, (1, 4), (0,)), "2 of 6 clients flagged under brackets"),
    ],
)
def test_headlines(tmp_path: Path, verdict: Verdict, headline: str) -> None:
    round = Round(Params.of(n=6, d=3, detection=Detection.BRACKETS), 4.0, ROSTER, bytes(32))
    write_bundle(tmp_path / "b", round, verdict)
    assert headline in Page(render(of_path(tmp_path / "b"))).text


def test_lines_are_what_the_rules_compare_with() -> None:
    scores = np.array([10.0, 11, 12, 13, 60])
    params = Params.of(n=5, d=3)
    found = {line.label: line for line in lines(scores, params)}
    assert found["µ"].value == pytest.approx(21.2)
    assert found["µ + 3σ/2"].value == pytest.approx(21.2 + 1.5 * scores.std())
    assert found["mad flags above (z = 5, γ = 0.25)"].value == 17
    assert [line.decides for line in found.values()] == [False] * 4 + [True] * 2
    brackets = replace(params, detection=Detection.BRACKETS, z=params.gamma, gamma=params.gamma * 0)
    assert [line.decides for line in lines(scores, brackets)] == [True] * 4 + [False] * 2


def test_a_scale_less_round_says_so(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the pictures need matplotlib (extra plot)")
    round = Round(PARAMS, 1e6, ROSTER, bytes(32))
    home = RoundDirectory(tmp_path)
    home.updates.mkdir()
    save_round(home.round_file, round)
    for client in ROSTER:
        save_update(home.updates / f"{client}.npy", np.ones(200))
    assert "is clip too large?" in render(of_path(tmp_path))


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a round"):
        of_path(tmp_path)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(InputError, match=r"manifest\.json: "):
        of_path(tmp_path)
