"""The Flower strategy on an in-process grid: who is dropped, what is aggregated, what makes a round void."""

from __future__ import annotations

import logging
import runpy
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="needs zkkrum[flower]")

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from support.flower import (
    BASE,
    CLIP,
    Arrays,
    Hooked,
    N,
    alter,
    far,
    honest,
    make_app,
    moved,
    run,
    strategy,
    verdict,
)
from zkkrum.errors import InputError
from zkkrum.flower.grid import InProcessGrid
from zkkrum.flower.messages import COMMIT, OPEN, client_id
from zkkrum.flower.strategy import ZkKrum
from zkkrum.proof.audit import audit
from zkkrum.proof.verify import verify
from zkkrum.protocol.field import to_hex
from zkkrum.rounds.history import load_past_round
from zkkrum.rounds.models import subject_of
from zkkrum.rounds.parties import open_round
from zkkrum.rounds.roundfile import RoundFile
from zkkrum.rounds.run import Gap, Run
from zkkrum.toolchain import Toolchain


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has its own place for the run; nobody waits for nodes that never come."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("zkkrum.flower.strategy.SETTLED", 0.2)


MODES = pytest.mark.parametrize("one_message", [False, True])


@MODES
def test_a_value_far_beyond_the_clip_is_flagged_and_left_out(one_message: bool) -> None:
    server = strategy(one_message=one_message)
    result = run(InProcessGrid(make_app(far), N), server)
    step = moved(result)
    assert all(np.abs(x - 0.2).max() < 0.02 for x in step.values())
    assert [r.nodes for r in server.results] == [tuple(range(1, N + 1))]
    assert server.results[0].accepted == tuple(range(1, N))
    metrics = result.train_metrics_clientapp[1]
    assert metrics["zkkrum-flagged"] == 1
    assert metrics["zkkrum-malicious"] == 1
    assert metrics["zkkrum-accepted"] == N - 1
    assert metrics["loss"] == pytest.approx(np.mean(range(N - 1)))  # the flagged client's is not averaged either


@MODES
def test_what_is_aggregated_stays_within_the_clip(one_message: bool) -> None:
    """Nobody is flagged here (γ is huge), yet 10^9 moves no coordinate by more than its share of the clip."""
    server = strategy(one_message=one_message, gamma="4000000000")
    step = moved(run(InProcessGrid(make_app(far), N), server))
    assert verdict(server).flagged == ()
    for x in step.values():
        assert np.abs(x - (5 * 0.2 + CLIP) / N).max() < 0.02


def test_only_committed_integers_are_aggregated() -> None:
    server = strategy(b=8)
    step = moved(run(InProcessGrid(make_app(), N), server))
    count, unit = len(server.results[0].accepted), CLIP / 127
    for x in step.values():
        assert np.allclose(np.rint(x * count / unit), x * count / unit, atol=1e-3)  # a mean of multiples of Δ


@pytest.mark.parametrize("m", [1, 3])
def test_krum_and_multi_krum_select(m: int) -> None:
    server = strategy(accept="selected", m=m)
    run(InProcessGrid(make_app(far), N), server)
    selected = verdict(server).selected
    assert len(selected) == m
    assert server.results[0].accepted == tuple(i + 1 for i in selected)
    assert N not in server.results[0].accepted


def test_several_rounds_and_what_is_kept(tmp_path: Path) -> None:
    server = strategy(private=tmp_path / "rounds")
    run(InProcessGrid(make_app(far), N), server, rounds=3)
    assert len(server.results) == 3
    ids = set()
    for r in (1, 2, 3):
        round, q = load_past_round(tmp_path / "rounds" / f"round-{r:04d}")
        assert q.shape == (N, 23)
        assert round.roster == tuple(client_id(i + 1) for i in range(N))
        assert set(np.unique(q[N - 1])) == {2047}
        ids.add(round.round_id)
    assert len(ids) == 3


def test_a_node_that_fails_to_train_is_not_in_the_roster() -> None:
    def failing(partition: int, base: Arrays) -> Arrays:
        if partition == 2:
            raise RuntimeError("no battery")
        return honest(partition, base)

    for one_message in (False, True):
        server = strategy(one_message=one_message, run=f"run-{one_message}")
        run(InProcessGrid(make_app(failing), N), server)
        assert server.results[0].nodes == (1, 2, 4, 5, 6)


@MODES
def test_what_is_no_update_keeps_its_sender_out(one_message: bool) -> None:
    def broken(partition: int, base: Arrays) -> Arrays:
        if partition == 1:
            return {**honest(partition, base), "b": np.full(3, np.nan, np.float32)}
        return honest(partition, base)

    server = strategy(one_message=one_message)
    run(InProcessGrid(make_app(broken), N), server)
    assert server.results[0].nodes == (1, 3, 4, 5, 6)


def test_another_layout_keeps_its_sender_out(caplog: pytest.LogCaptureFixture) -> None:
    def reshaped(partition: int, base: Arrays) -> Arrays:
        return {k: v.reshape(-1) for k, v in base.items()} if partition == 0 else honest(partition, base)

    server = strategy(one_message=True)
    with caplog.at_level(logging.WARNING, "flwr"):
        run(InProcessGrid(make_app(reshaped), N), server)
    assert server.results[0].nodes == (2, 3, 4, 5, 6)


@pytest.fixture
def flwr_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("flwr")
    before, logger.propagate = logger.propagate, True
    with caplog.at_level(logging.INFO, "flwr"):
        yield caplog
    logger.propagate = before


def test_one_message_mode_says_that_colluders_may_adapt(flwr_log: pytest.LogCaptureFixture) -> None:
    run(InProcessGrid(make_app(), N), strategy(one_message=True))
    assert "Colluders may adapt" in flwr_log.text
    flwr_log.clear()
    run(InProcessGrid(make_app(), N), strategy(run="other"))
    assert "Colluders" not in flwr_log.text


# Void rounds


def wrong_commitment(content: RecordDict) -> None:
    content.config_records["commitment"]["commitment"] = to_hex(1)


def not_canonical(content: RecordDict) -> None:
    content.config_records["commitment"]["commitment"] = "0x" + "f" * 63


def other_context(content: RecordDict) -> None:
    content.config_records["commitment"]["context"] = to_hex(2)


def other_q(content: RecordDict) -> None:
    q = content.array_records["opening"]["q"].numpy().copy()
    q[0] += 1
    content["opening"] = ArrayRecord({"q": Array(q)})


def float_q(content: RecordDict) -> None:
    content["opening"] = ArrayRecord({"q": Array(np.zeros(23, np.float32))})


def short_q(content: RecordDict) -> None:
    content["opening"] = ArrayRecord({"q": Array(np.zeros(22, np.int16))})


def other_salt(content: RecordDict) -> None:
    content.config_records["salt"]["salt"] = to_hex(3)


def nothing(content: RecordDict) -> None:
    content.clear()


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (COMMIT, not_canonical),
        (COMMIT, other_context),
        (COMMIT, nothing),
        (OPEN, other_q),
        (OPEN, float_q),
        (OPEN, short_q),
        (OPEN, other_salt),
        (OPEN, nothing),
    ],
)
def test_a_void_round_is_opened_anew_with_those_who_answered(kind: str, change: Callable[[RecordDict], None]) -> None:
    grid = Hooked(make_app(far), N, alter(kind, 2, change))
    server = strategy()
    run(grid, server)
    assert server.results[0].nodes == (1, 3, 4, 5, 6)
    assert server.results[0].accepted == (1, 3, 4, 5)
    commits = [node for kind, node in grid.sent if kind == f"query.{COMMIT}"]
    assert commits == [1, 2, 3, 4, 5, 6, 1, 3, 4, 5, 6]


def test_a_changed_commitment_is_noticed_by_its_maker() -> None:
    grid = Hooked(make_app(), N, alter(COMMIT, 2, wrong_commitment))
    server = strategy()
    run(grid, server)
    assert server.results[0].nodes == (1, 3, 4, 5, 6)


def test_without_reopening_a_void_round_leaves_the_model() -> None:
    grid = Hooked(make_app(), N, alter(OPEN, 2, other_salt))
    server = strategy(reopen=0)
    result = run(grid, server)
    assert server.results[0].verdict is None
    assert result.train_metrics_clientapp[1]["zkkrum-void"] == 1
    assert not result.arrays  # no aggregate was made


def test_too_few_for_the_rules_is_void() -> None:
    def failing(partition: int, base: Arrays) -> Arrays:
        if partition == 2:
            raise RuntimeError("no battery")
        return honest(partition, base)

    server = strategy(detection="mad", f=1)
    run(InProcessGrid(make_app(failing), 5), server)  # mad needs five
    assert server.results[0].verdict is None
    assert "4" in server.results[0].void


def test_metrics_that_cannot_be_averaged_end_nothing() -> None:
    def spoil(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == "train" and message.metadata.dst_node_id in (1, 3):
            first = message.metadata.dst_node_id == 1
            reply.content["metrics"] = MetricRecord({"num-examples": -7, "loss": [1.0]} if first else {"x": 1})
        return reply

    server = strategy()
    result = run(Hooked(make_app(), N, spoil), server)
    assert result.train_metrics_clientapp[1]["zkkrum-clients"] == N


# What a client refuses


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("subject", "about another model"),
        ("roster", "not in the roster"),
        ("replay", "committed to before"),
        ("untrained", "nothing was trained"),
    ],
)
def test_clients_refuse_to_commit(what: str, reason: str) -> None:
    app = make_app()
    grid = InProcessGrid(app, N)
    arrays = ArrayRecord({name: Array(value) for name, value in BASE.items()})
    if what != "untrained":
        content = RecordDict({"arrays": arrays, "config": ConfigRecord({"zkkrum-mode": "two-message"})})
        (trained,) = grid.send_and_receive([Message(content, dst_node_id=1, message_type="train")])
        assert not trained.has_error()
        assert not trained.content.array_records  # the update stays with the client
    roster = [client_id(i) for i in (range(2, 8) if what == "roster" else range(1, 7))]
    subject = bytes(32) if what == "subject" else subject_of(BASE)
    round = open_round(roster, 23, CLIP, subject=subject)
    asked = RecordDict({"round": ConfigRecord({"round": RoundFile.of(round).model_dump_json()})})
    for _ in range(2 if what == "replay" else 1):
        (reply,) = grid.send_and_receive([Message(asked, dst_node_id=1, message_type=f"query.{COMMIT}")])
    assert reply.has_error()
    assert reason in (reply.error.reason or "")


@pytest.mark.parametrize("what", ["fewer", "context", "again"])
def test_clients_refuse_to_open(what: str) -> None:
    """Before all have committed, for another round, or twice."""
    opened: list[Message] = []

    def hook(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == f"query.{OPEN}":
            opened.append(reply)
        return reply

    class Cheating(Hooked):
        def _deliver(self, message: Message) -> Message:
            if message.metadata.message_type == f"query.{OPEN}" and what != "again":
                shown = message.content.config_records["commitments"]
                commitments = shown["commitments"]
                assert isinstance(commitments, list)
                if what == "fewer":
                    shown["commitments"] = [str(c) for c in commitments[:-1]]
                else:
                    shown["context"] = to_hex(5)
            if message.metadata.message_type == f"query.{OPEN}" and what == "again":
                super()._deliver(message)
            return super()._deliver(message)

    run(Cheating(make_app(), N, hook), strategy(reopen=0))
    refused = [r for r in opened if r.has_error()]
    assert len(refused) == N
    reasons = {"fewer": "before all have committed", "context": "not committed to", "again": "not committed to"}
    assert all(reasons[what] in (r.error.reason or "") for r in refused)


def test_settings_are_checked() -> None:
    with pytest.raises(InputError, match="accept must be one of unflagged, selected, found 'median'"):
        ZkKrum(1.0, accept="median")
    with pytest.raises(InputError, match="z: expected a decimal"):
        ZkKrum(1.0, z="five")
    with pytest.raises(InputError, match="score must be one of krum-2017, all-pairs, found 'zap'"):
        ZkKrum(1.0, score="zap")
    with pytest.raises(InputError, match="detection must be one of mad, brackets"):
        ZkKrum(1.0, detection="zap")


# Too few nodes


@pytest.mark.parametrize(
    ("nodes", "options", "problem", "simulated"),
    [
        (2, {}, "n (clients) must be in [3, 253], found 2", 10),
        (4, {"detection": "mad"}, "mad needs n >= 5, found 4", 10),
        (6, {"f": 5}, "f = 5, n = 6; these rules need at least 13", 13),
    ],
)
def test_too_few_nodes_stop_the_run_at_once(
    nodes: int, options: dict[str, Any], problem: str, simulated: int, tmp_path: Path
) -> None:
    grid = Hooked(make_app(), nodes)
    with pytest.raises(InputError) as found:
        run(grid, strategy(**options))
    assert problem in found.value.message
    assert f'flwr run . --federation-config "num-supernodes={simulated}"' in found.value.hint
    assert grid.sent == []
    assert not (tmp_path / "run").exists()


def test_nodes_that_are_waited_for_count() -> None:
    """Flower waits for `min_train_nodes`; here they come late."""

    class Late(InProcessGrid):
        asked = 0

        def get_node_ids(self) -> list[int]:
            self.asked += 1
            return list(self.contexts)[: 2 if self.asked < 3 else N]

    server = strategy(min_train_nodes=N)
    run(Late(make_app(), N), server)
    assert server.results[0].nodes == tuple(range(1, N + 1))


# What the server keeps


def test_the_run_records_void_and_unproved_rounds_as_gaps(tmp_path: Path) -> None:
    def failing(message: Message, reply: Message) -> Message:
        if message.metadata.message_type == f"query.{COMMIT}" and "second" in stage:
            reply.content.clear()
        return reply

    stage: list[str] = []

    class Staged(Hooked):
        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
            sent = list(messages)
            if any(message.metadata.message_type == "train" for message in sent):
                stage.append("second" if stage == ["first"] else "first" if not stage else "third")
                del stage[:-1]
            return super().send_and_receive(sent, timeout=timeout)

    result = run(Staged(make_app(), N, failing), strategy(), rounds=3)
    kept = Run(tmp_path / "run")
    assert subject_of(kept.load_initial()) == subject_of(BASE)
    assert kept.numbers() == [1, 2, 3]
    gaps = [kept.round(number).load_gap() for number in (1, 2, 3)]
    assert [gap.kind for gap in gaps if gap] == [Gap.UNPROVED, Gap.VOID, Gap.UNPROVED]
    assert gaps[1] is not None
    assert "no commitments from node-1" in gaps[1].reason
    after = {name: array.numpy() for name, array in result.arrays.items()}
    assert subject_of(kept.round(3).load_model_after()) == subject_of(after)


def test_a_run_is_not_written_over() -> None:
    run(InProcessGrid(make_app(), N), strategy())
    with pytest.raises(InputError, match="already exists"):
        run(InProcessGrid(make_app(), N), strategy())


# Proofs


@MODES
def test_rounds_are_proved_and_anybody_can_audit(
    one_message: bool, toolchain: Toolchain, crs: Path, tmp_path: Path, flwr_log: pytest.LogCaptureFixture
) -> None:
    server = strategy(
        one_message=one_message, prove_every=2, run=tmp_path / "r", private=tmp_path / "p", tools=toolchain
    )
    result = run(InProcessGrid(make_app(far, tools=toolchain), N), server, rounds=3)
    place = Run(tmp_path / "r").round(2)
    assert [r.bundle for r in server.results] == [None, place.bundle, None]
    assert str(place.bundle) in flwr_log.text
    metrics = result.train_metrics_clientapp[2]
    assert metrics["zkkrum-proved"] == 1
    seconds = metrics["zkkrum-proving-seconds"]
    assert isinstance(seconds, float)
    assert seconds > 0
    found = verify(
        place.bundle, toolchain, commitments=None if one_message else place.home.commitments, aggregate=place.aggregate
    )
    assert found.ok, found.reason
    assert found.verdict == server.results[1].verdict
    assert verdict(server, 1).flagged == (N - 1,)
    assert found.commitments_by == ("server" if one_message else "clients")
    assert place.home.commitments.is_dir() != one_message
    assert not place.home.openings.exists()  # the server's alone
    assert load_past_round(tmp_path / "p" / "round-0002")[0].round_id == (found.round.round_id if found.round else b"")
    done = audit(tmp_path / "r", toolchain)
    assert done.ok, done.reason
    assert done.final == subject_of({name: array.numpy() for name, array in result.arrays.items()})
    assert [gap.number for gap in done.gaps] == [1, 3]


EXAMPLE = Path(__file__).parents[2] / "examples" / "flower_digits" / "run_in_process.py"


def example(capsys: pytest.CaptureFixture[str], *arguments: str, clients: int = 10) -> list[list[str]]:
    """Run the example; return the cells of its last table."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn (extra data)")
    runpy.run_path(str(EXAMPLE))["main"](["num-server-rounds=2", *arguments], clients)
    return [line.split() for line in capsys.readouterr().out.splitlines()[-2:]]


@pytest.mark.parametrize(
    ("arguments", "flagged"),
    [
        (["byzantine=2"], "2"),
        (["byzantine=3", "attack=gaussian", "strength=10", "one-message=true"], "3"),
        (["byzantine=2", "attack=label-flip", "hidden=4"], "2"),
        (["byzantine=2", "accept=selected", "m=7"], "2"),
    ],
)
def test_the_example_app(
    arguments: list[str], flagged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = example(capsys, "prove-every=0", "accept-anything=true", *arguments)
    assert [row[2:5] for row in rows] == [[flagged, "of", "10"]] * 2
    assert (tmp_path / "output" / "model.safetensors").is_file()
    if "hidden=4" not in arguments:
        assert float(rows[-1][1]) > 0.8


def test_the_example_app_proves(
    toolchain: Toolchain, crs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = example(capsys)
    assert Path(rows[1][5]) == tmp_path / "output" / "run" / "rounds" / "0002" / "bundle"
    done = audit(tmp_path / "output" / "run", toolchain, final=tmp_path / "output" / "model.safetensors")
    assert done.ok, done.reason
    assert not done.gaps


def test_the_example_apps_clients_have_terms(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = example(capsys, "clip=2", "prove-every=0")
    assert [row[2] for row in rows] == ["void", "void"]
    assert " ".join(rows[0]).endswith("refuses the round: clip: expected 1, found 2")
    assert not (tmp_path / "output" / "model.safetensors").exists()


def test_the_example_app_stops_at_once_where_nodes_are_too_few(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        example(capsys, clients=2)
    assert stopped.value.code == InputError.exit_code
    assert '--federation-config "num-supernodes=10"' in capsys.readouterr().err
