"""What the server is told of its round, beside a proof: reasons and warnings. None of it enters the bundle."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zkkrum.cli import main
from zkkrum.protocol.explain import explain
from zkkrum.protocol.krum import Krum
from zkkrum.protocol.quantize import step
from zkkrum.rounds.history import load_past_round

pytestmark = pytest.mark.usefixtures("toolchain", "crs")


def run(*words: object) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module", params=[4_000, 32_700], ids=["sharded", "one circuit"])
def proved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    path = tmp_path_factory.mktemp("explained") / "round"
    options = ["-n", 5, "-d", 300, "--byzantine", 1, "--attack", "scale", "--seed", 3]
    run("simulate", path, *options, "--shard-gates", request.param)
    return path, run("prove", path, "--json")


def test_the_server_is_told_why(proved: tuple[Path, Result]) -> None:
    path, result = proved
    done = json.loads(result.stdout)
    round, q = load_past_round(path)
    found = explain(Krum(round.params)(q), round.params, step(round.clip, round.params.b))
    assert done["private"]["threshold_is"] == found.line
    assert done["private"]["flags_nobody"] is None
    assert [c["client"] for c in done["private"]["clients"]] == list(round.roster)
    for said, reason in zip(done["private"]["clients"], found.clients, strict=True):
        assert said["score"] == reason.score
        assert said["threshold"] == found.threshold
        assert said["excess"] == reason.excess
        assert (said["client"] in done["flagged"]) == (said["excess"] > 0)
    assert done["warnings"] == []
    assert "warning" not in result.stderr


def test_nothing_of_it_is_in_the_bundle(proved: tuple[Path, Result]) -> None:
    path, result = proved
    private = json.loads(result.stdout)["private"]
    round, q = load_past_round(path)
    outcome = Krum(round.params)(q)
    found = explain(outcome, round.params)
    floats = [c[name] for c in private["clients"] for name in ("score", "threshold", "excess")]
    floats += [found.threshold, *(c.score for c in found.clients)]
    integers = [*outcome.scores, *{int(x) for x in outcome.distances.ravel() if x}]
    traces = [b"threshold", b"excess", b"flags_nobody", b"warning", b"margin"]
    traces += [repr(x)[:9].encode() for x in floats] + [struct.pack(order, x) for x in floats for order in ("<d", ">d")]
    traces += [str(x).encode() for x in integers] + [f"{x:x}".encode() for x in integers]
    traces += [x.to_bytes(8, order) for x in integers for order in ("little", "big")]
    files = [file for file in (path / "bundle").rglob("*") if file.is_file()]
    assert {"manifest.json"} < {file.name for file in files}
    for file in files:
        content = file.read_bytes()
        for trace in traces:
            assert trace not in content, f"{file.name}: {trace!r}"


def test_the_table_says_it_client_by_client(proved: tuple[Path, Result]) -> None:
    path, result = proved
    private = json.loads(result.stdout)["private"]
    said = run("prove", path, "--restart").stdout
    rows = {row.split()[0].strip("'"): row for row in said.splitlines() if row.startswith("'client-")}
    for client in private["clients"]:
        row = rows[client["client"]]
        assert f"{100 * client['excess']:+.1f} %" in row
        assert f"{client['score']:.5g}" in row
        assert f"{client['threshold']:.5g}" in row
        assert ("flagged" in row) == (client["excess"] > 0)
    assert f"the threshold {private['threshold_is']}" in said
    assert "Private, never in the bundle" in said


def test_a_false_accusation_is_announced_before_it_is_proved(tmp_path: Path) -> None:
    """A clean round of ten clients on thirty coordinates, in which an honest client is flagged."""
    for seed in range(20):
        path = tmp_path / f"round-{seed}"
        run("simulate", path, "-n", 10, "-d", 30, "--byzantine", 0, "--seed", seed)
        round, q = load_past_round(path)
        if Krum(round.params)(q).verdict.flagged:
            break
    result = run("prove", path, "--json")
    done = json.loads(result.stdout)
    assert done["flagged"]
    (sentence,) = done["warnings"]
    assert f"warning: {sentence}" in " ".join(result.stderr.split())
    for part in ("d = 30", repr(done["flagged"][0]), "zkkrum calibrate"):
        assert part in sentence


def test_a_round_without_scale_says_that_nobody_can_be_flagged(tmp_path: Path) -> None:
    path = tmp_path / "round"
    run("simulate", path, "-n", 5, "-d", 300, "--byzantine", 1, "--clip", 1e9)
    said = run("prove", path, "--restart").stdout
    assert "Nobody is flagged, whatever the excess: the median score is zero" in said
