"""Clients under Flower against a server that cheats: forged models, invented commitments, sybils, other terms."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="needs zkkrum[flower]")

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from support.flower import (
    BASE,
    CLIP,
    STRICT,
    Arrays,
    Forging,
    Hooked,
    N,
    arrays,
    far,
    honest,
    make_app,
    run,
    strategy,
)
from zkkrum.errors import InputError
from zkkrum.flower.accept import Pinned, accept_anything
from zkkrum.flower.client import SHOWN_KEPT, ZkKrumClient
from zkkrum.flower.grid import InProcessGrid
from zkkrum.flower.messages import (
    COMMIT,
    HISTORY,
    MODE,
    OPEN,
    SHOWN,
    SHOWN_LIST,
    START,
    STEP,
    Shown,
    client_id,
    compare_shown,
    pack_step,
    round_of,
    to_numpy,
)
from zkkrum.flower.strategy import ZkKrum
from zkkrum.proof.audit import audit
from zkkrum.proof.material import Material
from zkkrum.proof.prove import prove
from zkkrum.protocol.params import Acceptance, Detection, Params, Round, Score
from zkkrum.rounds.models import subject_of
from zkkrum.rounds.parties import open_round
from zkkrum.rounds.roundfile import RoundFile
from zkkrum.rounds.run import Gap, Run, RunRound
from zkkrum.rounds.updates import flatten
from zkkrum.toolchain import Toolchain

NODE = 1
ME = client_id(NODE)
ROSTER = [client_id(i + 1) for i in range(N)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def flwr_log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    logger = logging.getLogger("flwr")
    before, logger.propagate = logger.propagate, True
    with caplog.at_level(logging.INFO, "flwr"):
        yield caplog
    logger.propagate = before


def say(grid: InProcessGrid, kind: str, content: RecordDict, node: int = NODE) -> Message:
    """Send one message and return the reply."""
    (reply,) = grid.send_and_receive([Message(content, dst_node_id=node, message_type=kind)])
    return reply


def reason(reply: Message) -> str:
    assert reply.has_error(), "it was not refused"
    assert (reply.error.reason or "").startswith("client 'node-")
    return reply.error.reason or ""


def training(model: Arrays = BASE, mode: str = "two-message") -> RecordDict:
    return RecordDict({"arrays": arrays(model), "config": ConfigRecord({"server-round": 1, MODE: mode})})


def asked(round: Round) -> RecordDict:
    return RecordDict({"round": ConfigRecord({"round": RoundFile.of(round).model_dump_json()})})


def round_with(roster: list[str] = ROSTER, **parameters: Any) -> Round:
    params = Params.of(len(roster), 23, **parameters)
    return replace(open_round(roster, 23, CLIP, subject=subject_of(BASE)), params=params)


# One proved run, and what node 1 was sent in it


@dataclass(frozen=True)
class Told:
    """What a node was sent, and its state before."""

    kind: str
    node: int
    message: Message
    state: RecordDict


class Recording(Hooked):
    """A grid that remembers every message and the state of the node that got it."""

    def __init__(self, app: ClientApp, nodes: int) -> None:
        super().__init__(app, nodes)
        self.told: list[Told] = []

    def _deliver(self, message: Message) -> Message:
        node = message.metadata.dst_node_id
        state = deepcopy(self.contexts[node].state)
        self.told.append(Told(message.metadata.message_type, node, deepcopy(message), state))
        return super()._deliver(message)

    def trainings(self, node: int = NODE) -> list[Told]:
        return [told for told in self.told if told.kind == "train" and told.node == node]


@dataclass(frozen=True)
class Honest:
    """Three proved rounds with clients that insist on proofs."""

    path: Path
    grid: Recording
    server: ZkKrum
    final: Arrays


@pytest.fixture(scope="module")
def honest_run(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Honest:
    path = tmp_path_factory.mktemp("honest") / "run"
    grid = Recording(make_app(far, STRICT, tools=toolchain), N)
    server = strategy(prove_every=1, run=path, tools=toolchain)
    result = run(grid, server, rounds=3)
    return Honest(path, grid, server, to_numpy(result.arrays))


def again(
    told: Told,
    toolchain: Toolchain,
    change: Callable[[RecordDict], None] = lambda content: None,
    accept: Pinned = STRICT,
    *,
    fresh: bool = False,
    trust: Arrays | None = None,
) -> Message:
    """Tell a node in the same state the same, but for a change."""
    grid = InProcessGrid(make_app(far, accept, tools=toolchain, trust=trust), N)
    if not fresh:
        grid.contexts[told.node].state = deepcopy(told.state)
    content = RecordDict(dict(deepcopy(told.message).content))
    change(content)
    return say(grid, told.kind, content, told.node)


def test_clients_that_insist_on_proofs_train_on_proved_models(honest_run: Honest, toolchain: Toolchain) -> None:
    assert [done.nodes for done in honest_run.server.results] == [tuple(range(1, N + 1))] * 3
    done = audit(honest_run.path, toolchain)
    assert done.ok, done.reason
    assert not done.gaps
    assert done.final == subject_of(honest_run.final)
    assert all(found.commitments_compared for found in done.rounds)


def test_a_client_is_sent_the_proofs_it_has_not_seen(honest_run: Honest) -> None:
    sent = [
        [name for name in told.message.content.config_records if name.startswith(STEP)]
        for told in honest_run.grid.trainings()
    ]
    assert sent == [[], [f"{STEP}0001"], [f"{STEP}0002"]]


def ulp(content: RecordDict) -> None:
    model = {name: array.numpy().copy() for name, array in content.array_records["arrays"].items()}
    model["w"][0, 0] = np.nextafter(model["w"][0, 0], np.float32(9))
    content["arrays"] = arrays(model)


def withheld(content: RecordDict) -> None:
    del content[f"{STEP}0002"]


def changed_file(name: str) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        record = ConfigRecord(dict(content.config_records[f"{STEP}0002"]))
        data = record[name]
        assert isinstance(data, bytes)
        record[name] = data[:-1] + bytes([data[-1] ^ 1])
        content[f"{STEP}0002"] = record

    return change


def another_sum(content: RecordDict) -> None:
    record = ConfigRecord(dict(content.config_records[f"{STEP}0002"]))
    data = record["aggregate.npz"]
    assert isinstance(data, bytes)
    with np.load(io.BytesIO(data)) as archive:
        held = {name: archive[name].copy() for name in archive.files}
    held["sum"][0] += 1
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **held)
    record["aggregate.npz"] = buffer.getvalue()
    content[f"{STEP}0002"] = record


def without_file(name: str) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        record = ConfigRecord(dict(content.config_records[f"{STEP}0002"]))
        del record[name]
        content[f"{STEP}0002"] = record

    return change


def outside(content: RecordDict) -> None:
    content[f"{STEP}0002"] = ConfigRecord({"../proof": b""})


def declared(content: RecordDict) -> None:
    ulp(content)
    withheld(content)
    content[HISTORY] = ConfigRecord({"gap": "round 2 was not proved"})


@pytest.mark.parametrize(
    ("cheat", "why"),
    [
        (ulp, "is not the one this client knows"),
        (withheld, "is moved by no proved round"),
        (changed_file("proof"), "round 2: its proof is refuted: proof: its hash"),
        (changed_file("manifest.json"), "round 2: "),
        (another_sum, "round 2: its proof is refuted: aggregate: aggregate.npz is not what A commits to"),
        (without_file("aggregate.npz"), "round 2: aggregate.npz: "),
        (without_file("proof"), "round 2: its proof is refuted: proof: No such file"),
        (without_file("manifest.json"), "round 2: not a bundle"),
        (outside, "round 2: message: '../proof' is not a file of a bundle"),
        (declared, "no proofs lead from the model this client knows to the one received: round 2 was not proved"),
    ],
)
def test_a_forged_model_is_not_trained_on(
    honest_run: Honest, toolchain: Toolchain, cheat: Callable[[RecordDict], None], why: str
) -> None:
    told = honest_run.grid.trainings()[2]
    assert not again(told, toolchain).has_error()
    assert why in reason(again(told, toolchain, cheat))


def test_an_aggregate_of_another_round_is_refused(honest_run: Honest, toolchain: Toolchain) -> None:
    first, second = (honest_run.grid.trainings()[i].message.content.config_records for i in (1, 2))

    def swap(content: RecordDict) -> None:
        record = ConfigRecord(dict(second[f"{STEP}0002"]))
        record["aggregate.npz"] = first[f"{STEP}0001"]["aggregate.npz"]
        content[f"{STEP}0002"] = record

    refused = reason(again(honest_run.grid.trainings()[2], toolchain, swap))
    assert "aggregate.npz is not what A commits to" in refused


@pytest.mark.parametrize(
    ("terms", "why"),
    [
        (replace(STRICT, z="9/2"), "its terms are refused: z: expected 9/2, found 5"),
        (replace(STRICT, roster=ROSTER[:-1]), "its terms are refused: roster: 'node-6'"),
        (replace(STRICT, n_min=N + 1), "its terms are refused: n: expected at least 7"),
    ],
)
def test_a_round_on_other_terms_moves_no_model(
    honest_run: Honest, toolchain: Toolchain, terms: Pinned, why: str
) -> None:
    """The proof is valid; the client would not have agreed to it."""
    assert why in reason(again(honest_run.grid.trainings()[2], toolchain, accept=terms))


def proved_by_the_server(path: Path, toolchain: Toolchain, roster: list[str], base: Arrays) -> RunRound:
    """A genuine proof of commitments that the server made up, in the names of clients."""
    updates = [flatten({k: v * 0 + np.float32(i / 100) for k, v in base.items()}, c) for i, c in enumerate(roster)]
    round = open_round(roster, 23, CLIP, subject=subject_of(base))
    place = Run(path).round(2)
    prove(Material.commit(round, updates, toolchain.bb.hash_many), place.bundle, toolchain)
    return place


def test_commitments_in_a_clients_name_are_noticed(honest_run: Honest, toolchain: Toolchain, tmp_path: Path) -> None:
    told = honest_run.grid.trainings()[2]
    base = to_numpy(honest_run.grid.trainings()[1].message.content.array_records["arrays"])
    place = proved_by_the_server(tmp_path, toolchain, ROSTER, base)

    def replaced(content: RecordDict) -> None:
        content[f"{STEP}0002"] = pack_step(place)

    refused = reason(again(told, toolchain, replaced))
    assert "round 2: it names this client in its roster, which has not committed to it" in refused


def test_what_was_shown_must_be_what_is_proved(honest_run: Honest, toolchain: Toolchain) -> None:
    """The server showed node 1 an invented commitment of node 3, and proved the real one."""
    told = honest_run.grid.trainings()[2]
    state = deepcopy(told.state)
    text = str(state.config_records["zkkrum"]["json"])
    proved = SHOWN_LIST.validate_json(say_shown(honest_run.grid, NODE))[1].commitments[2]
    assert text.count(proved) == 1
    state["zkkrum"] = ConfigRecord({"json": text.replace(proved, "0x" + "5a" * 32)})
    refused = reason(again(replace(told, state=state), toolchain))
    assert "round 2: the commitment of 'node-3' that was proved is not the one this client was shown" in refused


# Joining, missing rounds


def test_a_client_that_joins_later_audits_from_the_initial_model(
    honest_run: Honest, toolchain: Toolchain, flwr_log: pytest.LogCaptureFixture
) -> None:
    class Joining(Recording):
        def get_node_ids(self) -> Iterable[int]:
            return [node for node in self.contexts if node < N or len(self.trainings()) == 2]

    grid = Joining(make_app(honest, STRICT, tools=toolchain), N)
    server = strategy(prove_every=1, tools=toolchain)
    run(grid, server, rounds=3)
    (told,) = grid.trainings(N)
    assert [len(done.nodes) for done in server.results] == [N - 1, N - 1, N]
    assert {f"{STEP}0001", f"{STEP}0002"} < set(told.message.content.config_records)
    assert START in told.message.content.array_records
    trusts = f"client 'node-6': trusts the model 0x{subject_of(BASE).hex()} as the server sent it"
    assert trusts in flwr_log.text
    assert "client 'node-6': verified rounds 1, 2" in flwr_log.text
    # with its own copy of the initial model it believes the server nothing
    assert not again(told, toolchain, fresh=True, trust=BASE).has_error()
    other = {name: value + 1 for name, value in BASE.items()}
    assert "is moved by no proved round" in reason(again(told, toolchain, fresh=True, trust=other))


def test_a_start_that_does_not_lead_to_the_model_is_refused(honest_run: Honest, toolchain: Toolchain) -> None:
    def forged_start(content: RecordDict) -> None:
        content[START] = arrays({name: value + 1 for name, value in BASE.items()})

    told = honest_run.grid.trainings()[1]
    assert "is moved by no proved round" in reason(again(told, toolchain, forged_start, fresh=True))


def test_a_model_too_far_away_needs_trust(honest_run: Honest, toolchain: Toolchain) -> None:
    """The server sends at most `catch_up` rounds."""
    server = honest_run.server
    told = honest_run.grid.trainings()[2]
    seen, server._seen = server._seen, {}
    try:
        server.catch_up = 1
        messages = list(server.configure_train(4, arrays(honest_run.final), ConfigRecord(), honest_run.grid))
    finally:
        server._seen, server.catch_up = seen, 20
    content = messages[0].content
    gap = "3 rounds are more than the 1 that the server sends"
    assert content.config_records[HISTORY]["gap"] == gap
    late = replace(told, message=messages[0])
    assert gap in reason(again(late, toolchain, fresh=True, trust=BASE))
    assert not again(late, toolchain, fresh=True, trust=honest_run.final).has_error()  # as an audit gave it
    assert not again(late, toolchain, fresh=True).has_error()  # trusts what it is sent first, and says so


def test_a_client_that_missed_a_round_catches_up(toolchain: Toolchain, crs: Path) -> None:
    calls: list[int] = []

    def failing(partition: int, base: Arrays) -> Arrays:
        calls.append(partition)
        if partition == 1 and calls.count(1) == 2:
            raise RuntimeError("no battery")
        return honest(partition, base)

    grid = Recording(make_app(failing, STRICT, tools=toolchain), N)
    server = strategy(prove_every=1, tools=toolchain)
    run(grid, server, rounds=3)
    assert [len(done.nodes) for done in server.results] == [N, N - 1, N]
    content = grid.trainings(2)[2].message.content
    assert {f"{STEP}0001", f"{STEP}0002"} < set(content.config_records)


def test_a_client_that_failed_late_is_not_sent_the_whole_run(toolchain: Toolchain, crs: Path) -> None:
    """What is left of its state is not known: it gets everything while that is little, else what it has not seen."""
    calls: list[int] = []

    def failing(partition: int, base: Arrays) -> Arrays:
        calls.append(partition)
        if partition == 1 and calls.count(1) == 3:
            raise RuntimeError("no battery")
        return honest(partition, base)

    grid = Recording(make_app(failing, STRICT, tools=toolchain), N)
    server = strategy(prove_every=1, catch_up=2, tools=toolchain)
    run(grid, server, rounds=4)
    assert [len(done.nodes) for done in server.results] == [N, N, N - 1, N]
    content = grid.trainings(2)[3].message.content
    assert sorted(name for name in content.config_records if name.startswith(STEP)) == [f"{STEP}0002", f"{STEP}0003"]
    assert START not in content.array_records


def test_after_an_unproved_round_clients_that_insist_do_not_train() -> None:
    grid = Forging(make_app(honest, STRICT), N, lambda message: None)
    server = strategy()
    run(grid, server, rounds=2)
    assert server.results[0].verdict is not None
    assert server.results[1].void.startswith("no client trained: client 'node-")
    assert "round 1 was not proved" in server.results[1].void
    assert all("round 1 was not proved" in why for why in grid.reasons("train"))
    assert len(list(grid.reasons("train"))) == N
    tolerant = strategy(run="other")
    run(InProcessGrid(make_app(honest, replace(STRICT, unproved=True)), N), tolerant, rounds=2)
    assert all(done.verdict for done in tolerant.results)


# Terms


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"z": "50"}, "z: expected 5, found 50"),
        ({"gamma": "9"}, "gamma: expected 1/4, found 9"),
        ({"f": 0}, "f: expected 1, found 0"),
        ({"m": 2}, "m: expected 1, found 2"),
        ({"b": 8}, "b: expected 12, found 8"),
        ({"clip": 2.0}, "clip: expected 1, found 2"),
        ({"detection": "brackets", "gamma": "0"}, "detection: expected mad, found brackets"),
        ({"score": "all-pairs", "f": 0}, "f: expected 1, found 0"),
        ({"accept": "selected"}, "acceptance: expected unflagged, found selected"),
    ],
)
def test_a_server_that_changes_the_terms_gets_no_commitments(parameters: dict[str, object], why: str) -> None:
    grid = Forging(make_app(honest, STRICT), N, lambda message: None)
    server = strategy(**parameters)
    run(grid, server)
    assert server.results[0].void.endswith(f"client 'node-1': refuses the round: {why}")
    assert all(f"refuses the round: {why}" in found for found in grid.reasons(f"query.{COMMIT}"))
    assert len(list(grid.reasons(f"query.{COMMIT}"))) == N


def test_pinned_terms_look_at_everything_else() -> None:
    strangers = replace(STRICT, roster=frozenset(ROSTER[1:]))
    assert strangers.refuses(round_with()) == "roster: 'node-1' is not among those who may be in it (1 such)"
    assert replace(STRICT, n_min=7).refuses(round_with()) == "n: expected at least 7 clients, found 6"
    assert "off chain" in STRICT.refuses(replace(round_with(), chain_id=1))
    assert "do not fit" in replace(STRICT, f=5).refuses(round_with())
    rules: dict[str, Any] = {"f": 0, "score": Score.ALL_PAIRS, "acceptance": Acceptance.SELECTED}
    assert "score: expected krum-2017, found all-pairs" in replace(STRICT, f=0).refuses(round_with(**rules))
    assert replace(STRICT, detection=Detection.MAD, f=1).refuses(round_with()) == ""
    assert accept_anything.refuses(replace(round_with(), clip=9.0, chain_id=1)) == ""
    with pytest.raises(InputError, match="z: expected a decimal"):
        replace(STRICT, z="five")


def test_terms_must_be_given_and_may_come_from_the_node() -> None:
    with pytest.raises(TypeError, match="accept"):
        ZkKrumClient(ClientApp())  # type: ignore[call-arg]
    with pytest.raises(InputError, match="expected Pinned terms or accept_anything"):
        ZkKrumClient(ClientApp(), None)  # type: ignore[arg-type]

    def terms(context: Context) -> Pinned:
        return replace(STRICT, clip=float(int(context.node_config["partition-id"]) + 1))

    app = ClientApp()
    client = ZkKrumClient(app, terms)
    client.train(lambda model, message, context: (honest(0, model), {"num-examples": 1}))
    grid = InProcessGrid(app, 2)
    for node in (1, 2):
        assert not say(grid, "train", training(), node).has_error()
    assert not say(grid, f"query.{COMMIT}", asked(round_with()), 1).has_error()
    assert "clip: expected 2, found 1" in reason(say(grid, f"query.{COMMIT}", asked(round_with()), 2))


def test_a_client_sends_no_model_before_anybody_has_committed() -> None:
    grid = InProcessGrid(make_app(honest, STRICT), N)
    assert "one-message mode" in reason(say(grid, "train", training(mode="one-message")))
    silent = RecordDict({"arrays": arrays(BASE), "config": ConfigRecord({})})
    assert "one-message mode" in reason(say(grid, "train", silent))
    sent = say(InProcessGrid(make_app(honest, replace(STRICT, one_message=True)), N), "train", silent)
    assert set(sent.content.array_records["arrays"]) == set(BASE)


# Reopening


def committed(accept: Pinned, *, opened: bool) -> InProcessGrid:
    """Node 1 has trained and committed under a round of all six; and opened."""
    grid = InProcessGrid(make_app(honest, accept), N)
    assert not say(grid, "train", training()).has_error()
    round = round_with()
    reply = say(grid, f"query.{COMMIT}", asked(round))
    if opened:
        mine = str(reply.content.config_records["commitment"]["commitment"])
        shown = [mine, *(f"0x{i:064x}" for i in range(1, N))]
        content = ConfigRecord({"commitments": shown, "context": "0x" + round.context.hex()})
        assert not say(grid, f"query.{OPEN}", RecordDict({"commitments": content})).has_error()
    return grid


def test_a_round_is_reopened_after_openings_only_by_terms() -> None:
    refused = reason(say(committed(STRICT, opened=True), f"query.{COMMIT}", asked(round_with())))
    assert "has been opened already: colluders may have adapted" in refused
    tolerant = committed(replace(STRICT, reopened=True), opened=True)
    assert not say(tolerant, f"query.{COMMIT}", asked(round_with())).has_error()
    before = committed(STRICT, opened=False)  # nobody has opened: a new salt, and nothing is known
    assert not say(before, f"query.{COMMIT}", asked(round_with())).has_error()


def test_a_new_training_may_be_opened_and_says_that_the_model_is_the_same(flwr_log: pytest.LogCaptureFixture) -> None:
    grid = committed(STRICT, opened=True)
    assert not say(grid, "train", training()).has_error()
    round = round_with()
    reply = say(grid, f"query.{COMMIT}", asked(round))
    shown = [str(reply.content.config_records["commitment"]["commitment"]), *(f"0x{i:064x}" for i in range(1, N))]
    content = ConfigRecord({"commitments": shown, "context": "0x" + round.context.hex()})
    assert not say(grid, f"query.{OPEN}", RecordDict({"commitments": content})).has_error()
    assert "opens again for the model" in flwr_log.text


@pytest.mark.parametrize("terms", [STRICT, replace(STRICT, reopened=True)])
def test_a_round_is_not_reopened_with_sybils(terms: Pinned) -> None:
    grid = committed(terms, opened=terms.reopened)
    sybils = [*ROSTER[:3], "node-97", "node-98", "node-99"]
    refused = reason(say(grid, f"query.{COMMIT}", asked(round_with(sybils))))
    assert "opened anew with 'node-97', which was not in it before" in refused
    assert not say(grid, f"query.{COMMIT}", asked(round_with(ROSTER[:5]))).has_error()


def dropping(kind: str, node: int, times: int = 1) -> Callable[[ClientApp], InProcessGrid]:
    """A grid on which a node's answers to one kind of message never arrive, the first few times."""

    class Dropping(InProcessGrid):
        left = times

        def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
            found = list(super().send_and_receive(messages, timeout=timeout))
            if self.left and any(reply.metadata.message_type == f"query.{kind}" for reply in found):
                self.left -= 1
                found = [reply for reply in found if reply.metadata.src_node_id != node]
            return found

    return lambda app: Dropping(app, N)


@pytest.mark.parametrize("kind", [COMMIT, OPEN])
@pytest.mark.parametrize("terms", [STRICT, replace(STRICT, reopened=True)])
def test_a_dropout_in_the_middle_of_a_round(kind: str, terms: Pinned, tmp_path: Path) -> None:
    terms = replace(terms, unproved=True)
    server = strategy()
    run(dropping(kind, 2)(make_app(honest, terms)), server, rounds=2)
    everybody, others = tuple(range(1, N + 1)), (1, 3, 4, 5, 6)
    if kind == OPEN and not terms.reopened:  # the others have opened: they do not commit again
        assert server.results[0].void.startswith("no openings from node-2; then no commitments from node-1, node-3")
        gap = Run(tmp_path / "run").round(1).load_gap()
        assert gap is not None
        assert gap.kind is Gap.VOID
    else:
        assert server.results[0].nodes == others
    assert server.results[1].nodes == everybody  # it goes on


# What clients were shown


def say_shown(grid: InProcessGrid, node: int) -> str:
    return str(say(grid, f"query.{SHOWN}", RecordDict(), node).content.config_records["shown"]["shown"])


def test_clients_find_out_that_they_were_shown_different_commitments(flwr_log: pytest.LogCaptureFixture) -> None:
    """Even where the round becomes void, and whoever of them asks."""

    def invent(message: Message) -> None:
        if message.metadata.message_type == f"query.{OPEN}" and message.metadata.dst_node_id == NODE:
            record = ConfigRecord(dict(message.content.config_records["commitments"]))
            shown = record["commitments"]
            assert isinstance(shown, list)
            record["commitments"] = [*map(str, shown[:2]), "0x" + "5a" * 32, *map(str, shown[3:])]
            message.content["commitments"] = record

    published: list[Shown] = []
    grid = Forging(make_app(honest, STRICT, publish=published.append), N, invent)
    run(grid, strategy())
    views = {client_id(node): SHOWN_LIST.validate_json(say_shown(grid, node)) for node in (1, 2, 3)}
    (difference, *more) = compare_shown(views)
    assert "'node-1' and 'node-2' were shown different commitments of 'node-3'" in difference
    assert len(more) == 1  # and so were node 1 and node 3
    assert compare_shown({name: views[name] for name in ("node-2", "node-3")}) == []
    assert views["node-1"][0].digest != views["node-2"][0].digest == views["node-3"][0].digest
    assert published[:2] == [views["node-1"][0], views["node-2"][0]]
    for view in (views["node-1"][0], views["node-2"][0]):
        assert f"with digest {view.digest}" in flwr_log.text


def test_clients_find_out_that_they_committed_under_different_terms() -> None:
    view = Shown(round_id="0x" + "01" * 32, context="0x" + "02" * 32, roster=("a",), commitments=("0x" + "03" * 32,))
    other = view.model_copy(update={"context": "0x" + "04" * 32})
    (found,) = compare_shown({"a": [view], "b": [other]})
    assert "'a' and 'b' committed under different terms" in found


def test_a_view_names_every_client() -> None:
    with pytest.raises(ValueError, match="expected 2 commitments, found 1"):
        Shown(round_id="0x", context="0x", roster=("a", "b"), commitments=("0x",))


def test_the_same_commitment_shown_twice_is_invented() -> None:
    grid = InProcessGrid(make_app(honest, STRICT), N)
    say(grid, "train", training())
    round = round_with()
    mine = say(grid, f"query.{COMMIT}", asked(round)).content.config_records["commitment"]["commitment"]
    shown = [str(mine), *["0x" + "5a" * 32] * (N - 1)]
    content = ConfigRecord({"commitments": shown, "context": "0x" + round.context.hex()})
    assert "one of them is invented" in reason(say(grid, f"query.{OPEN}", RecordDict({"commitments": content})))


def test_what_is_kept_is_bounded() -> None:
    grid = InProcessGrid(make_app(honest, replace(STRICT, unproved=True)), N)
    run(grid, strategy(), rounds=SHOWN_KEPT + 2)
    assert len(SHOWN_LIST.validate_json(say_shown(grid, NODE))) == SHOWN_KEPT


# What a server says that means nothing


@pytest.mark.parametrize(
    ("kind", "content", "why"),
    [
        ("train", RecordDict({"config": training()["config"]}), "expected one ArrayRecord, found 0"),
        ("train", training(mode="three-message"), "zkkrum-mode: expected one-message or two-message"),
        ("train", RecordDict({**training(), HISTORY: ConfigRecord({"gap": 3})}), "gap: expected str, found int"),
        ("train", RecordDict({**training(), "more": ArrayRecord()}), "expected one ArrayRecord, found 2"),
        (f"query.{COMMIT}", RecordDict(), "message: round: round: expected str, found NoneType"),
        (f"query.{COMMIT}", RecordDict({"round": ConfigRecord({"round": "{"})}), "message: round: "),
        (f"query.{COMMIT}", RecordDict({"round": ConfigRecord({"round": "{}"})}), "protocol: Field required"),
        (f"query.{OPEN}", RecordDict(), "commitments: expected list, found NoneType"),
        (
            f"query.{OPEN}",
            RecordDict({"commitments": ConfigRecord({"commitments": [1, 2]})}),
            "commitments: expected strings",
        ),
    ],
)
def test_nonsense_from_a_server_is_refused_in_words(kind: str, content: RecordDict, why: str) -> None:
    assert why in reason(say(InProcessGrid(make_app(honest, STRICT), N), kind, content))


def test_a_round_whose_keys_stand_twice_is_refused() -> None:
    content = asked(round_with())
    text = str(content.config_records["round"]["round"])
    content["round"] = ConfigRecord({"round": text.replace("{", '{"clip": 1e9,', 1)})
    with pytest.raises(InputError, match="message: round: key 'clip' stands twice"):
        round_of(content)


def test_the_server_is_warned_where_the_rule_is_unfit(flwr_log: pytest.LogCaptureFixture) -> None:
    run(InProcessGrid(make_app(honest, STRICT), N), strategy())
    assert "round 1: mad is not calibrated" in flwr_log.text
    assert "d = 23 is below 100 coordinates" in flwr_log.text
