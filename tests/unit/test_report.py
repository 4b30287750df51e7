"""The report's page: what it shows of a round, that it loads nothing, what it escapes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zkkrum.errors import InputError
from zkkrum.learning.attacks import attacked_round, honest_updates
from zkkrum.proof.audit import Audit, AuditedRound, State, Stretch
from zkkrum.proof.bundle import Manifest
from zkkrum.proof.form import MANIFEST
from zkkrum.proof.statement import round_words, sentence
from zkkrum.proof.verify import Verification
from zkkrum.protocol.explain import rules
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.krum import Krum, Verdict
from zkkrum.protocol.params import Acceptance, Detection, Params, Round, Score
from zkkrum.protocol.quantize import quantize
from zkkrum.report.html import render, render_run
from zkkrum.report.page import of_path
from zkkrum.report.pictures import Scale, anchor, shade_paths
from zkkrum.report.run_page import RunPage
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.roundfile import save_round
from zkkrum.rounds.run import Run
from zkkrum.rounds.updates import save_update

ROSTER = ("alice", "bob", "<script>alert(1)", "dave", "eve", "f" * 30)
PARAMS = Params.of(n=6, d=200)


class Page(HTMLParser):
    """Text, tags and whatever would be loaded from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.loads: list[str | None] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            loads = name in ("src", "href", "xlink:href", "data", "action", "srcset")
            if loads and not (value or "").startswith(("#", "data:")):
                self.loads.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def write_round(path: Path, params: Params = PARAMS, truth: bool = True) -> Round:
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
    for part in ("Private.", "Byzantine", "NOT VERIFIED", "12,345", "1.25 s", "same claim", "median of the scores"):
        assert part in page.text
    assert "script" not in page.tags
    assert page.loads == []
    assert not re.search(r"@import|url\(", text)
    assert text == render(of_path(tmp_path / "r"))


def test_why_a_client_is_flagged_stands_in_its_row_and_is_drawn(tmp_path: Path) -> None:
    round = write_round(tmp_path / "r")
    page = of_path(tmp_path / "r")
    assert page.private
    why = page.private.explanation
    text = render(page)
    rows = re.findall(r'<tr class="client">.*?</tr>', text, re.DOTALL)
    assert len(rows) == round.params.n
    threshold = f"{why.threshold:.5g}"
    for client, reason, row in zip(round.roster, why.clients, rows, strict=True):
        score = f"{reason.score:.5g}"
        assert reason.excess is not None
        words = Page(row).text
        for part in (client, score, threshold, f"{100 * reason.excess:+.1f} %"):
            assert part in words
        above = "above" if reason.flagged else "not above"
        assert f"{client!r}: score {score}, {above} the threshold {threshold}" in words  # the picture's title
        assert row.count('class="threshold"') == 1  # one line: the one in force
        places = re.search(r'x1="([\d.]+)%" x2="([\d.]+)%" y1="50%"', row)
        assert places
        line, mark = map(float, places.groups())
        assert (mark > line) == reason.flagged
        assert 0 <= mark <= 100
        assert row.count('href="#flagged"') == 2 * reason.flagged  # beside the word, and where it lies
        assert ("flagged" in words.replace("not flagged", "")) == reason.flagged
    assert f"{why.line} = {threshold}" in Page(text).text


@pytest.mark.parametrize("n", [12, 40, 120])
def test_every_distance_is_in_the_picture(n: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(n)
    points = rng.random((n, 2))
    distances = np.sqrt(((points[:, None] - points[None]) ** 2).sum(axis=2))
    cells = {}
    for opacity, path in shade_paths(distances):
        for x, y in re.findall(r"M(\d+) (\d+)h1v1h-1z", path):
            assert (int(y), int(x)) not in cells
            cells[int(y), int(x)] = opacity
    assert len(cells) == n * n - n
    for (y, x), opacity in cells.items():
        assert 0 <= opacity - distances[y, x] / distances.max() < 0.1 + 1e-9


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    names = ("$x_{$", "<b>&amp;", "{{ 7 * 7 }}", "a" * 64, "żółć", '"><svg onload=x>')
    rng = np.random.default_rng(0)
    home = RoundDirectory(tmp_path / "r")
    home.updates.mkdir(parents=True)
    save_round(home.round_file, Round(PARAMS, 4.0, names, bytes(32)))
    for client, row in zip(names, honest_updates(6, 200, 0.0, rng), strict=True):
        save_update(home.updates / f"{client}.npy", row)
    text = render(of_path(tmp_path / "r"))
    page = Page(text)
    for client in names:
        assert page.text.count(client) >= 2  # its row and the title of its picture
    assert "b" not in page.tags
    assert "onload" not in page.attributes


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
    assert "Flagged:  '<script>alert(1)'" in page.text  # escaped: it is text, and no tag
    assert "script" not in page.tags
    assert "Private" not in page.text
    assert "score" not in page.text.split("The rules")[0].split("Clients")[1]
    assert 'class="threshold"' not in render(of_path(tmp_path / "b"))
    for i in range(round.params.n):
        assert hex_of(bytes(31) + bytes([i + 1])) in page.text
    assert "A, of the aggregate" in page.text


def answer_of(round: Round, verdict: Verdict, **compared: Any) -> Verification:
    statement = sentence(round, verdict, bytes(32))
    return Verification(True, statement=statement, round=round, verdict=verdict, aggregate=bytes(32), **compared)


@pytest.mark.parametrize("malicious", [False, True])
def test_verified_is_verified_whatever_the_verdict(malicious: bool, tmp_path: Path) -> None:
    round = Round(PARAMS, 4.0, ROSTER, bytes(32))
    verdict = Verdict(malicious, (2,) if malicious else (), (0,))
    write_bundle(tmp_path / "b", round, verdict)
    text = render(of_path(tmp_path / "b", answer_of(round, verdict)))
    assert '<section class="card good" id="proof"' in text
    assert "NOT VERIFIED" not in Page(text).text
    assert "In round 0x00" in Page(text).text


def test_what_was_compared_and_what_was_not(tmp_path: Path) -> None:
    round, verdict = Round(PARAMS, 4.0, ROSTER, bytes(32)), Verdict(False, (), (0,))
    write_bundle(tmp_path / "b", round, verdict)
    answer = answer_of(round, verdict, round_file=Path("published/round.toml"))
    text = Page(render(of_path(tmp_path / "b", answer))).text
    assert "published/round.toml" in text
    assert "those that the operator published" in text
    assert "compare with what the clients published (--commitments)" in text
    assert "compare with the file you were sent (--aggregate)" in text


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


@pytest.mark.parametrize(
    ("params", "found"),
    [
        (Params.of(n=6, d=3), ["3 nearest others", "above both M + z·A and (1 + γ)·M", "lowest score", "not flagged"]),
        (
            Params.of(
                n=6, d=3, detection=Detection.BRACKETS, score=Score.ALL_PAIRS, m=4, acceptance=Acceptance.SELECTED
            ),
            ["to all others", "above µ + z·σ", "4 lowest scores", "selected who are not flagged"],
        ),
    ],
)
def test_each_rule_is_a_sentence(params: Params, found: list[str]) -> None:
    said = rules(params)
    assert len(said) == len(found)
    for (_, meaning), part in zip(said, found, strict=True):
        assert part in meaning


def test_a_scale_is_logarithmic_where_one_score_is_far_beyond() -> None:
    scale = Scale.of([10, 11, 12, 1e6], 15)
    assert scale.logarithmic
    assert 3 == scale.place(10) < scale.place(12) < scale.place(15) < 10 < scale.place(1e6) == 97
    assert not Scale.of([10, 11, 12, 40], 15).logarithmic
    assert Scale.of([0, 0], 0).place(0) == 3
    assert [anchor(x) for x in (3, 50, 97)] == ["start", "middle", "end"]


RUN_ROUND = Round(PARAMS, 4.0, ROSTER, bytes(32))


def run_page(count: int = 7) -> RunPage:
    """A run of which rounds 3 and 4 are gaps; <script> is flagged in rounds 2 and 5."""
    rows = []
    for k in range(1, count + 1):
        flagged = (ROSTER[2],) if k in (2, 5) else ()
        if k in (3, 4):
            rows.append(AuditedRound(k, State.VOID if k == 3 else State.UNPROVED, "no <time>"))
        else:
            accepted = tuple(client for client in ROSTER if client not in flagged)
            rows.append(
                AuditedRound(k, State.VERIFIED, "", RUN_ROUND, bool(flagged), flagged, accepted, "clients", True)
            )
    parts = (Stretch(1, 2, b"a" * 32, b"b" * 32), Stretch(5, count, b"c" * 32, b"d" * 32))
    audit = Audit(True, rounds=tuple(rows), stretches=parts, initial=b"a" * 32, final=b"d" * 32)
    links = {k: f"run/rounds/{k:04d}/" for k in range(1, count + 1)}
    return RunPage("run", audit, ROSTER, links, {1: 0.5, 2: 0.75, count: 0.875})


def test_the_page_of_a_run() -> None:
    text = render_run(run_page())
    page = Page(text)
    assert "5 of 7 rounds verified" in page.text
    assert "VERIFIED WITH GAPS" in page.text
    for model in (b"a", b"b", b"c", b"d"):
        assert hex_of(model * 32) in page.text
    assert "round 3 (void), round 4 (unproved)" in page.text
    assert "unproved: no <time>" in page.text
    assert "50.0 % after round 1, 87.5 % after round 7" in page.text
    assert "'<script>alert(1)': flagged in round 2, 5" in page.text
    assert "'alice': never flagged" in page.text
    assert "2 of 5" in page.text
    for k in range(1, 8):
        assert f'id="round-{k}"' in text
        assert f'href="run/rounds/{k:04d}/"' in text
    assert "script" not in page.tags
    assert text.count('class="box"') == 2
    assert text.count('class="gapped"') == 2 * len(ROSTER) + 1  # and the legend


def test_a_long_run_and_one_without_accuracy() -> None:
    long = run_page(250)
    assert "248 of 250 rounds verified" in Page(render_run(long)).text
    text = Page(render_run(replace(long, accuracy={}))).text
    assert "Accuracy" not in text
    assert "Who was flagged" in text


def test_accuracies_of_a_run(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.load_accuracy() == {}
    run.save_accuracy({1: 0.5, 2: 1.0})
    assert run.load_accuracy() == {1: 0.5, 2: 1.0}
    for damaged in ('{"accuracy": {"1": 2}}', "{", '{"accuracy": {"one": 0.5}}', "[]"):
        run.accuracy_file.write_text(damaged)
        with pytest.raises(InputError, match=r"accuracy\.json"):
            run.load_accuracy()


def test_a_scale_less_round_says_so(tmp_path: Path) -> None:
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
    with pytest.raises(InputError, match="its manifest is not valid: "):
        of_path(tmp_path)
