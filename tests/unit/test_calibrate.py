"""Calibration: false flags of later rounds, its statistics against scipy, what it refuses, the command."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from zkkrum.cli.learning import calibrate as command
from zkkrum.errors import InputError
from zkkrum.learning.attacks import honest_updates
from zkkrum.learning.calibrate import (
    calibrate,
    cost,
    decimal,
    load_clean_round,
    rate_at_most,
    same_rules,
    scores_of,
    t_quantile,
    trend,
)
from zkkrum.protocol.krum import detect
from zkkrum.protocol.params import Acceptance, Detection, Params, Round, Score
from zkkrum.protocol.quantize import quantize
from zkkrum.rounds.directory import RoundDirectory
from zkkrum.rounds.roundfile import load_round, save_round
from zkkrum.rounds.updates import save_update

PARAMS = Params.of(n=10, d=200)


def clean(count: int, seed: int, params: Params = PARAMS, heterogeneity: float = 0.3) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    updates = (honest_updates(params.n, params.d, heterogeneity, rng) for _ in range(count))
    return [scores_of(quantize(u, 20.0, params.b), params) for u in updates]


def false_flags(rounds: list[list[int]], params: Params) -> float:
    return float(np.mean([bool(detect(s, params).flagged) for s in rounds]))


@pytest.mark.parametrize(("count", "extrapolated"), [(20, True), (320, False)])
def test_it_brings_false_flags_under_the_target_where_the_default_does_not(count: int, extrapolated: bool) -> None:
    future = clean(2000, seed=1)
    assert false_flags(future, PARAMS) > 0.5
    rates = []
    for seed in range(20, 30):
        c = calibrate(clean(count, seed), PARAMS, 0.01)
        assert c.extrapolated is extrapolated
        assert c.rounds == count
        assert c.false_before > count / 3
        assert c.excess_after > c.excess_before
        rates.append(false_flags(future, replace(PARAMS, z=c.z, gamma=c.gamma)))
    assert np.mean(rates) < 0.01


def test_digits_of_unlike_clients() -> None:
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn (extra data)")
    from zkkrum.learning.training import Federation, Training, add, flatten_model, initial_model, updates_of

    params = Params.of(n=10, d=650)
    federation = Federation.of_digits(10, np.random.default_rng(4), alpha=1.0)

    def job(seed: int) -> list[list[int]]:
        rng, out = np.random.default_rng(seed), []
        model = initial_model(rng)
        layout = flatten_model(model)[1]
        for _ in range(10):
            sent = updates_of(federation, model, Training(), rng)
            out.append(scores_of(quantize(sent, 1.0, params.b), params))
            model = add(model, sent.mean(axis=0, dtype=np.float64), layout)
        return out

    past, future = ([s for seed in seeds for s in job(seed)] for seeds in (range(12), range(12, 30)))
    c = calibrate(past, params, 0.05)
    assert false_flags(future, params) > 0.2
    assert false_flags(future, replace(params, z=c.z, gamma=c.gamma)) < 0.05
    assert c.false_left_out / c.rounds <= 0.05


def test_leaving_one_out_is_honest_about_the_rate() -> None:
    c = calibrate(clean(40, 3), PARAMS, 0.2)
    assert 1 <= c.false_left_out <= 12  # of 40 at a target of 0.2
    assert c.false_left_out / 40 < c.rate_at_most < 1


def test_brackets() -> None:
    params = Params.of(n=20, d=200, detection=Detection.BRACKETS)
    rounds = clean(300, 5, params)
    c = calibrate(rounds, params, 0.01)
    assert c.gamma == 0
    assert c.z > params.z
    assert false_flags(rounds, replace(params, z=c.z)) <= 0.01 < false_flags(rounds, params)


def test_brackets_that_never_fire_keep_their_z() -> None:
    params = Params.of(n=6, d=2, detection=Detection.BRACKETS)
    c = calibrate([[1, 2, 3, 4, 5, 6]] * 5, params, 0.1)
    assert c.z == params.z
    assert c.false_left_out == 0


def test_brackets_that_no_z_can_calm_are_refused() -> None:
    params = Params.of(n=6, d=2, detection=Detection.BRACKETS)
    outlier = [100, 101, 102, 103, 99, 100000]
    with pytest.raises(InputError, match=r"z\^2 must be < n - 1"):
        calibrate([outlier] * 5, params, 0.1)


def test_rounds_without_scale() -> None:
    with pytest.raises(InputError, match="carry no scale"):
        calibrate([[0, 0, 0, 0, 0, 0, 0, 0, 0, 9]] * 5, PARAMS, 0.1)
    with pytest.raises(InputError, match="do not vary"):
        calibrate([[5] * 10] * 5, PARAMS, 0.1)
    c = calibrate([[5] * 9 + [6]] * 5, PARAMS, 0.1)  # deviation 0: gamma alone decides
    assert c.z == 0
    assert c.gamma >= Fraction(1, 5)


def test_too_few_rounds_and_silly_targets() -> None:
    with pytest.raises(InputError, match="at least 5 clean rounds"):
        calibrate(clean(4, 0), PARAMS, 0.1)
    for target in (0.0, 1.0, float("nan")):
        with pytest.raises(InputError, match="target must be"):
            calibrate(clean(5, 0), PARAMS, target)


@given(st.lists(st.lists(st.integers(0, 2**80), min_size=10, max_size=10), min_size=5, max_size=8))
def test_any_scores_give_thresholds_that_round_toml_can_hold(rounds: list[list[int]]) -> None:
    try:
        c = calibrate(rounds, PARAMS, 0.05)
    except InputError:
        return
    assert Fraction(decimal(c.z)) == c.z
    if max(c.z, c.gamma) < 10**6:
        assert false_flags(rounds, replace(PARAMS, z=c.z, gamma=c.gamma)) == 0


def test_statistics_against_published_tables() -> None:
    for p, degrees, value in [(0.95, 1, 6.314), (0.99, 2, 6.965), (0.99, 9, 2.821), (0.975, 30, 2.042), (0.5, 3, 0)]:
        assert t_quantile(p, degrees) == pytest.approx(value, abs=1e-3)
    assert rate_at_most(0, 299) == pytest.approx(0.01, rel=0.01)  # rule of three
    assert rate_at_most(1, 10) == pytest.approx(0.394, abs=1e-3)
    assert rate_at_most(4, 4) == 1
    assert trend([3.0] * 9) == 1
    assert trend([float(k) for k in range(30)]) < 1e-6


def test_what_it_costs() -> None:
    rng = np.random.default_rng(0)
    roster = tuple(f"c{i}" for i in range(10))
    round = Round(PARAMS, 20.0, roster, bytes(32))
    rounds = [(round, quantize(honest_updates(10, 200, 0.3, rng), 20.0, 12)) for _ in range(30)]
    c = calibrate([scores_of(q, PARAMS) for _, q in rounds], PARAMS, 0.05)
    seen: list[int] = []
    attacks = ["scale", "sign-flip"]
    costs = cost(rounds, c, attacks, 2, 0, lambda _, done, total: seen.append(done))
    assert costs == cost(rounds, c, attacks, 2, 0)
    assert seen[-1] == 2 * 60
    assert costs[0].flagged[0] == 1
    assert all(x.flagged[1] <= x.flagged[0] for x in costs)
    assert [x.strength for x in costs] == [None, None]


def test_wider_thresholds_let_attackers_who_know_them_do_more_harm() -> None:
    rng = np.random.default_rng(0)
    round = Round(PARAMS, 20.0, tuple(f"c{i}" for i in range(10)), bytes(32))
    rounds = [(round, quantize(honest_updates(10, 200, 0.3, rng), 20.0, 12)) for _ in range(8)]
    c = calibrate([scores_of(q, PARAMS) for _, q in rounds], PARAMS, 0.05)
    for found in cost(rounds, c, ["scale:unflagged", "sign-flip:unflagged"], 2, 0):
        assert found.flagged == (0, 0)
        assert found.strength
        assert 0 < found.strength[0] < found.strength[1]
        assert found.error[0] < found.error[1]
    multi_krum = replace(PARAMS, acceptance=Acceptance.SELECTED, m=7)
    (found,) = cost([(replace(round, params=multi_krum), q) for _, q in rounds], c, ["sign-flip:accepted"], 2, 0)
    assert found.strength
    assert found.error[0] > 0.1


@pytest.fixture
def rounds(tmp_path: Path) -> list[Path]:
    rng, roster = np.random.default_rng(0), tuple(f"c{i}" for i in range(10))
    folders = []
    for k in range(6):
        folder = RoundDirectory(tmp_path / f"round{k}")
        for client, row in zip(roster, honest_updates(10, 200, 0.3, rng), strict=True):
            folder.updates.mkdir(parents=True, exist_ok=True)
            save_update(folder.updates / f"{client}.npy", row)
        save_round(folder.round_file, Round(PARAMS, 20.0, roster, bytes(31) + bytes([k])))
        folders.append(folder.path)
    return folders


def test_the_command_writes_thresholds_a_round_takes(rounds: list[Path], tmp_path: Path) -> None:
    output, last = tmp_path / "c.toml", rounds[-1] / "round.toml"
    args = [*map(str, rounds[:-1]), "-o", str(output), "--max-false-flag", "0.1", "--round", str(last)]
    done = CliRunner().invoke(command, args)
    assert done.exit_code == 0, done.output
    for part in (
        "How sure: from 5 rounds",
        "Clopper-Pearson",
        "29 clean rounds",
        "| sign-flip:unflagged",
        "error: of the mean",
    ):
        assert part in done.stdout
    report = json.loads(CliRunner().invoke(command, [*args, "--json"]).stdout)
    assert f'z = "{report["z"]}"\ngamma = "{report["gamma"]}"\n' in output.read_text()
    after = load_round(last)
    assert (after.params.z, after.params.gamma) == (Fraction(report["z"]), Fraction(report["gamma"]))
    assert after.round_id == bytes(31) + bytes([5])


def test_a_round_under_way_keeps_its_thresholds(rounds: list[Path], tmp_path: Path) -> None:
    RoundDirectory(rounds[5]).commitments.mkdir()
    args = [*map(str, rounds[:5]), "-o", str(tmp_path / "c.toml"), "--round", str(rounds[5] / "round.toml")]
    done = CliRunner().invoke(command, args)
    assert isinstance(done.exception, InputError)
    assert "have committed" in str(done.exception)
    assert not (tmp_path / "c.toml").exists()


def test_a_round_known_to_be_attacked_is_refused(rounds: list[Path]) -> None:
    truth = {"byzantine": ["c3"], "attack": "scale", "strength": None, "seed": 0}
    RoundDirectory(rounds[1]).truth.write_text(json.dumps(truth))
    with pytest.raises(InputError, match="round1: not a clean round"):
        load_clean_round(rounds[1])
    RoundDirectory(rounds[1]).truth.write_text(json.dumps({**truth, "byzantine": []}))
    assert load_clean_round(rounds[1])[1].shape == (10, 200)


def test_rounds_must_be_of_one_federation(rounds: list[Path]) -> None:
    loaded = [(path, load_clean_round(path)[0]) for path in rounds[:2]]
    other = replace(loaded[1][1], params=Params.of(n=10, d=200, score=Score.ALL_PAIRS))
    with pytest.raises(InputError, match=r"round0: expected .*all-pairs"):
        same_rules([loaded[0], (rounds[1], other)])
