"""The training experiment: who is aggregated, what attacks do, outputs, refused setups, the command."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from support.pictures import frame
from zkkrum.cli.learning import experiment as command
from zkkrum.errors import InputError
from zkkrum.learning.experiment import (
    AGGREGATIONS,
    ATTACKS,
    AVERAGE,
    HONEST_ONLY,
    KRUM,
    MARKS,
    MULTI_KRUM,
    NONE,
    RAW_AVERAGE,
    UNFLAGGED,
    Result,
    Setup,
    Step,
    plot,
    run,
    summary,
    to_csv,
    to_dict,
)
from zkkrum.learning.training import Model, add
from zkkrum.protocol.aggregate import mean_update, unproved_mean
from zkkrum.protocol.krum import Outcome
from zkkrum.protocol.params import Acceptance, Params
from zkkrum.rounds.tensors import Layout

pytest.importorskip("sklearn", reason="the digits come with scikit-learn (extra data)")

SETUP = Setup(rounds=6, attacks=("sign-flip:3", "mimic"))


@pytest.fixture(scope="module")
def result() -> Result:
    return run(SETUP)


def test_fixed_seeds_give_identical_results(result: Result) -> None:
    again = run(SETUP)
    assert again == result
    assert to_csv(again) == to_csv(result)
    other = run(Setup(rounds=6, attacks=("sign-flip:3", "mimic"), seed=1))
    assert other.steps != result.steps


def test_the_attack_ruins_the_average_and_not_the_defended(result: Result) -> None:
    honest = result.curve(NONE, HONEST_ONLY)[-1]
    assert honest > 0.9
    assert result.curve("sign-flip:3", AVERAGE)[-1] < 0.3
    for how in (KRUM, MULTI_KRUM, UNFLAGGED):
        assert result.curve("sign-flip:3", how)[-1] > honest - 0.08


def test_each_aggregation_takes_whom_it_says(result: Result) -> None:
    for step in result.steps:
        assert step.attackers_flagged + step.honest_flagged == len(step.flagged)
        if step.aggregation == KRUM:
            assert len(step.selected) == 1
            assert step.attackers_used == (step.attack != NONE and step.selected[0] in result.byzantine)
        if step.aggregation == MULTI_KRUM:
            assert len(step.selected) == 7
        if step.aggregation == UNFLAGGED:
            assert step.attackers_used == 3 - step.attackers_flagged
        if step.aggregation == AVERAGE:
            assert step.attackers_used == 3
        if step.aggregation == HONEST_ONLY:
            assert step.attackers_used == 0


def test_arms_are_rounds_whose_aggregate_a_proof_binds() -> None:
    unflagged, krum, multi_krum = (SETUP.params(how) for how in (UNFLAGGED, KRUM, MULTI_KRUM))
    assert unflagged.acceptance is Acceptance.UNFLAGGED
    assert (krum.acceptance, krum.m) == (Acceptance.SELECTED, 1)
    assert (multi_krum.acceptance, multi_krum.m) == (Acceptance.SELECTED, 10 - multi_krum.f)


def test_the_mean_is_the_one_that_a_holder_of_the_aggregate_computes() -> None:
    q = np.random.default_rng(0).integers(-2047, 2048, (10, 30))
    for clients in ((4,), (0, 3, 9), tuple(range(10))):
        found = unproved_mean(q, clients, 0.7, 12)
        assert found == pytest.approx(q[list(clients)].mean(axis=0) * 0.7 / 2047, rel=1e-12)
        total = (q[list(clients)] + 2048).sum(axis=0)
        assert found.tolist() == mean_update(total, len(clients), 0.7, 12).tolist()


def test_attackers_that_know_the_rule_meet_each_arm_with_its_own() -> None:
    setup = Setup(rounds=3, attacks=("scale:unflagged", "scale:accepted"), aggregations=(MULTI_KRUM, UNFLAGGED))
    done = run(setup)
    for step in done.steps:
        if step.attack == NONE:
            assert step.strength is None
            continue
        assert (step.strength or 0) > 0.5
        assert step.attackers_flagged == 0
        if (step.attack, step.aggregation) != ("scale:unflagged", MULTI_KRUM):
            assert step.attackers_used >= 2  # one may have to stay out, of three who all want to be selected
    head, rows = summary(setup, done)
    assert head[-1] == "strength"
    assert float(rows[1][-1]) > 0.5


def test_attackers_who_are_flagged_at_any_strength_give_up() -> None:
    """In the first rounds all clients agree so much that even a zero update stands out."""
    done = run(Setup(rounds=1, attacks=("sign-flip:unflagged",), aggregations=(UNFLAGGED,)))
    assert [s.strength for s in done.steps] == [None, 0.0]
    assert done.steps[1].attackers_flagged == 3


def test_only_clipped_values_are_aggregated(monkeypatch: pytest.MonkeyPatch) -> None:
    moves: list[float] = []

    def recording(model: Model, delta: NDArray[Any], layout: Layout) -> Model:
        moves.append(float(np.abs(delta).max()))
        return add(model, delta, layout)

    monkeypatch.setattr("zkkrum.learning.experiment.add", recording)
    defended = tuple(how for how in AGGREGATIONS if how != RAW_AVERAGE)
    run(Setup(rounds=2, attacks=("scale:1000000",), aggregations=defended, clip=0.05))
    assert max(moves) <= 0.05 * (1 + 1e-12)
    run(Setup(rounds=2, attacks=("scale:1000000",), aggregations=(RAW_AVERAGE,), clip=0.05))
    assert max(moves) > 1000


def test_proofs_of_a_sample_of_rounds() -> None:
    asked: list[tuple[str, int, int]] = []

    def prove(name: str, r: int, params: Params, q: np.ndarray, outcome: Outcome) -> str:
        assert q.shape == (params.n, params.d)
        asked.append((name, r, params.m))
        return f"bundles/{name}-{r}"

    done = run(SETUP, prove=prove, prove_every=3)
    assert len(asked) == 2 * 3 * 2
    assert ("mimic-multi-krum", 6, 7) in asked
    assert {s.round for s in done.steps if s.proof} == {3, 6}


def test_non_iid_and_hidden() -> None:
    done = run(Setup(rounds=2, attacks=("label-flip",), aggregations=(UNFLAGGED,), alpha=0.5, hidden=4))
    assert len(done.steps) == 4


def test_outputs(result: Result, tmp_path: Path) -> None:
    rows = list(csv.DictReader(to_csv(result).splitlines()))
    assert len(rows) == 6 * (1 + 2 * len(AGGREGATIONS))
    assert float(rows[0]["accuracy"]) == result.steps[0].accuracy
    assert json.loads(json.dumps(to_dict(SETUP, result)))["setup"]["d"] == 650
    head, table = summary(SETUP, result)
    assert all(len(row) == len(head) for row in table)


@pytest.mark.parametrize("attacks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("rounds", [1, 20])
def test_the_picture_cuts_nothing_off(attacks: int, rounds: int, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot needs matplotlib (extra plot)")
    setup = Setup(rounds=rounds, attacks=ATTACKS[:attacks], alpha=0.5)
    steps = [Step(attack, how, r, 0.9, (), (), 0, 0, 0) for attack, how in setup.arms() for r in range(1, rounds + 1)]
    (tmp_path / "out.png").write_bytes(plot(setup, Result((), tuple(steps))))
    assert frame(tmp_path / "out.png") == {(255, 255, 255)}
    assert set(MARKS) == set(AGGREGATIONS)
    assert len(set(MARKS.values())) == len(MARKS)


def test_the_command(tmp_path: Path) -> None:
    args = [str(tmp_path / "x"), "--rounds", "2", "--attack", "scale", "--aggregation", "krum", "--no-plot"]
    done = CliRunner().invoke(command, args)
    assert done.exit_code == 0, done.output
    assert "| scale" in done.stdout
    assert sorted(p.name for p in (tmp_path / "x").iterdir()) == ["results.csv", "results.json"]
    assert len(json.loads((tmp_path / "x" / "results.json").read_text())["steps"]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attackers": 10}, r"attackers must be in \[0, clients\)"),
        ({"rounds": 0}, "rounds must be"),
        ({"attacks": ("zap",)}, "expected one of"),
        ({"attacks": ("scale:much",)}, "a number, unflagged or accepted after the colon, found 'much'"),
        ({"attacks": ("label-flip:unflagged",)}, "cannot be tuned to be unflagged"),
        ({"aggregations": ("median",)}, "aggregations must be among"),
        ({"clip": 0.0}, "clip must be"),
        ({"b": 9}, "b \\(bits\\)"),
    ],
)
def test_bad_setups_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Setup(**options)


def test_strengths() -> None:
    with pytest.raises(InputError, match="has no strength"):
        run(Setup(rounds=1, attacks=("label-flip:2",)))
