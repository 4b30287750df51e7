"""The learning commands with the real tools: proofs of a sample of training rounds, and pages about proved rounds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from zkkrum.cli import main
from zkkrum.proof.prove import aggregate_path
from zkkrum.proof.verify import verify
from zkkrum.toolchain import Toolchain

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"


def zkkrum(*arguments: object) -> Result:
    return CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)


def test_rounds_of_an_experiment_are_proved(toolchain: Toolchain, crs: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn (extra data)")
    options = ["--rounds", 2, "--prove-every", 2, "--attack", "sign-flip:3", "--no-plot"]
    aggregations = [x for name in ("unflagged", "multi-krum", "average") for x in ("--aggregation", name)]
    done = zkkrum("experiment", tmp_path, *options, *aggregations)
    assert done.exit_code == 0, done.output
    assert "2 rounds proved and verified" in done.stdout
    steps = json.loads((tmp_path / "results.json").read_text())["steps"]
    proved = {step["aggregation"]: step for step in steps if step["proof"]}
    assert {name: step["round"] for name, step in proved.items()} == {"unflagged": 2, "multi-krum": 2}
    for name, step in proved.items():
        bundle = Path(step["proof"])
        found = verify(bundle, toolchain, aggregate=aggregate_path(bundle))
        assert found.ok, found.reason
        assert found.verdict
        assert found.round
        assert list(found.verdict.flagged) == step["flagged"]
        assert list(found.verdict.selected) == step["selected"]
        accepted = found.verdict.accepted(found.round.params)
        expected = [i for i in range(10) if i not in step["flagged"]] if name == "unflagged" else step["selected"]
        assert list(accepted) == expected


def test_the_page_of_a_bundle_says_that_it_was_verified(toolchain: Toolchain, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    done = zkkrum("report", EXAMPLE / "bundle", "-o", page, "--json")
    assert json.loads(done.stdout) == {
        "schema": "zkkrum-report-1",
        "output": str(page),
        "verified": True,
        "private": False,
        "reason": "",
        "gaps": [],
    }
    text = page.read_text()
    assert "verified when this page was made" in text
    assert "compare with what the clients published (--commitments)" in text
    outside = {"--commitments": "commitments", "--round": "round.toml", "--aggregate": "aggregate.npz"}
    given = [word for option, name in outside.items() for word in (option, EXAMPLE / name)]
    assert zkkrum("report", EXAMPLE / "bundle", "-o", page, *given).exit_code == 0
    text = page.read_text()
    assert "(--commitments)" not in text
    assert all(str(EXAMPLE / name) in text for name in outside.values())


def test_no_page_where_the_comparison_fails(toolchain: Toolchain, tmp_path: Path) -> None:
    other = tmp_path / "round"
    assert zkkrum("simulate", other, "-n", 10, "-d", 650).exit_code == 0
    page = tmp_path / "report.html"
    done = zkkrum("report", EXAMPLE / "bundle", "-o", page, "--round", other / "round.toml")
    assert done.exit_code == 1
    assert "INVALID: round: " in done.stdout
    assert not page.exists()


def test_no_page_is_made_of_a_bundle_that_does_not_verify(toolchain: Toolchain, tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE / "bundle", tmp_path / "bundle")
    proof = bytearray((tmp_path / "bundle" / "proof").read_bytes())
    proof[100] ^= 1
    (tmp_path / "bundle" / "proof").write_bytes(proof)
    done = zkkrum("report", tmp_path / "bundle", "-o", tmp_path / "report.html")
    assert done.exit_code == 1
    assert "INVALID: proof" in done.stdout
    assert not (tmp_path / "report.html").exists()
    done = zkkrum("report", tmp_path / "bundle", "-o", tmp_path / "report.html", "--no-verify")
    assert done.exit_code == 0
    assert "NOT VERIFIED" in (tmp_path / "report.html").read_text()


def test_thresholds_from_simulated_rounds_go_into_the_next(tmp_path: Path) -> None:
    names = [tmp_path / f"round-{k}" for k in range(5)]
    for k, name in enumerate(names):
        options = ["--byzantine", 0, "--heterogeneity", 0.3, "--dimension", 100, "--seed", k]
        assert zkkrum("simulate", name, *options).exit_code == 0
    done = zkkrum("calibrate", *names, "-o", tmp_path / "c.toml", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    args = ["--dimension", 100, "--clip", 1, "--z", found["z"], "--gamma", found["gamma"]]
    clients = [x for i in range(10) for x in ("--client", f"c{i}")]
    opened = zkkrum("open", tmp_path / "round.toml", *args, *clients)
    assert opened.exit_code == 0, opened.output
