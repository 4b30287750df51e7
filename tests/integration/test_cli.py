"""The commands as a user runs them: what they write, say and exit with."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from support.proving import vectors
from support.terminal import on_terminal
from zkkrum.cli import COMMANDS, main
from zkkrum.cli.demo import example_bundle
from zkkrum.protocol.field import hex_of
from zkkrum.rounds.roundfile import load_round

pytestmark = pytest.mark.usefixtures("toolchain", "crs")


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def run_json(*words: object, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def round_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated round with its bundle."""
    path = tmp_path_factory.mktemp("cli") / "round"
    run("simulate", path, "-n", 5, "-d", 40, "--byzantine", 1, "--format", "safetensors", "--seed", 3)
    run("prove", path)
    return path


def test_every_command_has_help() -> None:
    for command in COMMANDS:
        assert run(command, "--help").stdout.startswith("Usage:")
    assert "Exit codes" in run("--help").stdout


def test_a_simulated_round_is_proved_and_verified(round_path: Path) -> None:
    truth = json.loads((round_path / "truth.json").read_text())
    found = run_json(
        "verify",
        round_path / "bundle",
        "--commitments",
        round_path / "commitments",
        "--round",
        round_path / "round.toml",
        "--expect",
        "malicious",
    )
    assert found["ok"]
    assert found["flagged"] == truth["byzantine"]
    assert found["compared"]["commitments"] == str(round_path / "commitments")
    assert found["compared"]["round"] == str(round_path / "round.toml")
    assert found["compared"]["aggregate"] is None
    assert found["claims"]["commitments_by"] == "clients"
    assert f"flagged: {truth['byzantine'][0]!r}" in found["statement"]


def test_verify_says_what_it_compared_with_nothing(round_path: Path) -> None:
    said = run("verify", round_path / "bundle").stdout
    assert said.startswith("VERIFIED")
    assert "Nothing was compared with an outside source" in said


def test_an_invalid_proof_exits_with_1(round_path: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(round_path / "bundle", bundle)
    proof = bytearray((bundle / "proof").read_bytes())
    proof[100] ^= 1
    (bundle / "proof").write_bytes(proof)
    assert "INVALID: proof: its hash" in run("verify", bundle, code=1).stdout
    assert "not the expected 'honest'" in run("verify", round_path / "bundle", "--expect", "honest", code=8).stdout


def test_nothing_private_is_in_the_bundle(round_path: Path) -> None:
    manifest = json.loads((round_path / "bundle" / "manifest.json").read_text())
    text = json.dumps(manifest)
    for secret in ("scores", "distances", "salt", "margin", "blind"):
        assert secret not in text
    assert {p.name for p in (round_path / "bundle").iterdir()} == {"manifest.json", "proof", "public_inputs", "vk"}
    assert not list(round_path.glob(".*work"))


def test_the_originals_own_example_flags_the_sixth_client(tmp_path: Path) -> None:
    x, y = (10, 15, 9, 13, 11, 50), (20, 21, 22, 20, 19, 100)
    (tmp_path / "updates").mkdir()
    for i, point in enumerate(zip(x, y, strict=True), start=1):
        np.save(tmp_path / "updates" / f"client-{i}.npy", np.array(point, dtype=np.float64))
    for score in ("krum-2017", "all-pairs"):
        rules = ("--detection", "brackets", "--score", score, "--clip", 127, "-b", 8)
        done = run_json("prove", tmp_path, *rules, "--restart")
        assert done["flagged"] == ["client-6"]
        assert done["malicious"]
        assert done["commitments_by"] == "server"
        assert done["float_agrees"]
    assert "the server's, not the clients'" in run("verify", tmp_path / "bundle").stdout


def test_a_finished_bundle_is_not_replaced_unasked(tmp_path: Path) -> None:
    run("simulate", tmp_path / "r", "-n", 5, "-d", 12)
    run("prove", tmp_path / "r")
    before = (tmp_path / "r" / "aggregate.npz").read_bytes()
    for more in ((), ("--resume",)):
        assert "a bundle is there already" in run("prove", tmp_path / "r", *more, code=3).stderr
    assert (tmp_path / "r" / "aggregate.npz").read_bytes() == before
    run("verify", tmp_path / "r" / "bundle", "--aggregate", tmp_path / "r" / "aggregate.npz")
    run("prove", tmp_path / "r", "--restart")
    assert (tmp_path / "r" / "aggregate.npz").read_bytes() != before


def test_a_round_is_opened_from_a_file_of_ids(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("alice\n\n bob \ncarol\n", encoding="utf-8")
    terms = ("--roster", tmp_path / "ids.txt", "-d", 12, "--clip", 1)
    assert "zkkrum commit UPDATE --round" in run("open", tmp_path / "round.toml", *terms).stdout
    found = load_round(tmp_path / "round.toml")
    assert found.roster == ("alice", "bob", "carol")
    shown = run("inspect", tmp_path / "round.toml").stdout
    for part in ("clip               1.0", "client #1          'bob'", "detection: brackets", hex_of(found.context)):
        assert part in shown
    assert run_json("inspect", tmp_path / "round.toml")["roster"] == ["alice", "bob", "carol"]
    assert "expected the roster" in run("open", tmp_path / "x.toml", *terms, "--client", "dave", code=2).stderr
    assert "expected the roster" in run("open", tmp_path / "x.toml", "-d", 12, "--clip", 1, code=2).stderr
    (tmp_path / "ids.txt").write_bytes(b"\xff\xfe")
    assert "expected UTF-8 text" in run("open", tmp_path / "x.toml", *terms, code=3).stderr


def test_a_round_for_a_contract_is_of_addresses(tmp_path: Path) -> None:
    addresses = ["0x" + f"{i:02x}" * 20 for i in range(1, 4)]

    def opened(
        *clients: str, code: int, chain: tuple[object, ...] = ("--chain-id", 5, "--contract", addresses[0])
    ) -> str:
        named = [word for client in clients for word in ("--client", client)]
        return run("open", tmp_path / "round.toml", *named, "-d", 12, "--clip", 1, *chain, code=code).stderr

    assert f"client {addresses[2][:-2]!r}: expected an address" in opened(*addresses[:2], addresses[2][:-2], code=3)
    assert "expected an address" in opened(*addresses[:2], "carol", code=3)
    for alone in (("--chain-id", 5), ("--contract", addresses[0])):
        assert "--chain-id and --contract together" in opened(*addresses, chain=alone, code=2)
    opened(*addresses, code=0)


def test_a_client_is_warned_where_clip_does_not_suit_its_update(tmp_path: Path) -> None:
    clients = [word for name in ("a", "b", "c", "d") for word in ("--client", name)]
    run("open", tmp_path / "round.toml", *clients, "-d", 100, "--clip", 4)
    vectors = {"a": 1.0, "b": 1e-4, "c": 1e3, "d": 0.0}
    for name, size in vectors.items():
        np.save(tmp_path / f"{name}.npy", size * np.random.default_rng(0).normal(size=100))
        done = run("commit", tmp_path / f"{name}.npy", "--round", tmp_path / "round.toml", "-o", tmp_path, "--json")
        assert ("warning: " in done.stderr) == (name != "a")
        found = json.loads(done.stdout)
        assert (found["clipped"] > 0.9, found["vanished"] > 0.9) == (name == "c", name == "b")
    assert "zero everywhere" in done.stderr


def test_a_client_refuses_a_round_of_another_model(tmp_path: Path) -> None:
    for name, value in (("mine", 0.0), ("other", 1.0)):
        np.savez(tmp_path / f"{name}.npz", w=np.full((3, 4), value, np.float32))
    clients = [word for i in range(3) for word in ("--client", f"c{i}")]
    run("open", tmp_path / "round.toml", *clients, "--base", tmp_path / "other.npz", "--clip", 1)
    np.savez(tmp_path / "c0.npz", w=np.full((3, 4), 0.5, np.float32))
    words = ("commit", tmp_path / "c0.npz", "--round", tmp_path / "round.toml", "-o", tmp_path)
    assert "the round starts from another model" in run(*words, "--base", tmp_path / "mine.npz", code=3).stderr
    assert not (tmp_path / "openings").exists()
    base = ("--base", tmp_path / "other.npz")
    for different in ({"w": (4, 3)}, {"v": (3, 4)}, {"w": (3, 3), "b": (3,)}):
        arrays: dict[str, Any] = {name: np.ones(shape, np.float32) for name, shape in different.items()}
        np.savez(tmp_path / "c1.npz", **arrays)
        wrong = run("commit", tmp_path / "c1.npz", "--round", tmp_path / "round.toml", "-o", tmp_path, *base, code=3)
        assert "differs: in the update" in wrong.stderr
    assert not (tmp_path / "openings").exists()
    run(*words, *base)


def test_clients_commit_one_by_one_and_the_server_proves(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(5)]
    clients = [word for name in names for word in ("--client", name)]
    run("open", tmp_path / "round.toml", *clients, "-d", 12, "--clip", 1)
    rng = np.random.default_rng(0)
    (tmp_path / "private").mkdir()
    for name in names:
        update = tmp_path / "private" / f"{name}.npy"
        np.save(update, rng.normal(size=12).astype(np.float16))
        said = run_json("commit", update, "--round", tmp_path / "round.toml", "-o", tmp_path)
        assert Path(said["publish"]).is_file()
    again = run("commit", tmp_path / "private" / "c0.npy", "--round", tmp_path / "round.toml", "-o", tmp_path, code=3)
    assert "already committed" in again.stderr
    done = run_json("prove", tmp_path, "-o", tmp_path / "out")
    assert done["commitments_by"] == "clients"
    assert done["float_agrees"] is None
    run("verify", tmp_path / "out", "--commitments", tmp_path / "commitments", "--round", tmp_path / "round.toml")


def test_sharded_by_the_operators_choice(tmp_path: Path) -> None:
    run("simulate", tmp_path / "r", "-n", 5, "-d", 300, "--byzantine", 1, "--shard-gates", 4000)
    forecast = run_json("estimate", tmp_path / "r")
    assert forecast["form"] == "sharded"
    assert forecast["chunks"] > 1
    done = run_json("prove", tmp_path / "r")
    assert done["proofs"] == forecast["proofs"]
    assert done["gates"]["vk.shard"] <= 4000
    assert run_json("verify", tmp_path / "r" / "bundle", "--commitments", tmp_path / "r" / "commitments")["ok"]


def test_estimate_is_close_to_the_truth(round_path: Path) -> None:
    manifest = json.loads((round_path / "bundle" / "manifest.json").read_text())
    gates = manifest["circuits"]["vk"]["gates"]
    assert run_json("estimate", round_path)["circuits"]["round"] == pytest.approx(gates, rel=0.01)
    assert run_json("estimate", "-n", 10, "-d", 10_000_000)["form"] == "sharded"
    assert "expected a ROUND" in run("estimate", code=2).stderr


def test_inspect_names_the_public_inputs(round_path: Path) -> None:
    manifest = run_json("inspect", round_path / "bundle")
    names = [word["name"] for word in manifest["public_inputs"]]
    assert names[0] == "statement"
    assert names[-3:] == ["malicious", "flagged", "selected"]
    said = dict(line.split(maxsplit=1) for line in run("inspect", round_path / "bundle").stdout.splitlines())
    assert said["claims"].startswith("not checked here")
    assert said["flagged"] == ", ".join(map(repr, manifest["verdict"]["flagged"]))
    assert said["aggregate"] == manifest["aggregate"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("prove", "{tmp}/nothing"), 3, "does not exist"),
        (("prove", "{tmp}"), 3, "expected openings/ or updates/"),
        (("verify", "{tmp}"), 3, "not a bundle"),
        (("inspect", "{tmp}"), 3, "not a bundle"),
        (("simulate", "{tmp}/x", "-n", "4", "--detection", "mad"), 3, "mad needs n >= 5"),
        (("simulate", "{tmp}/x", "--byzantine", "10"), 3, "attackers: expected a number"),
        (("simulate", "{tmp}/x", "--z", "1e3"), 3, "--z: expected a decimal"),
        (("open", "{tmp}/x.toml", "--client", "a", "-d", "3"), 3, "--clip"),
        (("frobnicate",), 2, "No such command"),
    ],
)
def test_bad_input_is_one_sentence_and_a_code(words: tuple[str, ...], code: int, said: str, tmp_path: Path) -> None:
    result = run(*(word.format(tmp=tmp_path) for word in words), code=code)
    assert said in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("value", "shown"), [(np.nan, "nan"), (np.inf, "inf")])
def test_a_nan_names_client_tensor_and_index(round_path: Path, tmp_path: Path, value: float, shown: str) -> None:
    (tmp_path / "updates").mkdir()
    for i in range(5):
        update = np.ones(6, np.float32)
        update[4] = value if i == 2 else i
        np.save(tmp_path / "updates" / f"c{i}.npy", update)
    said = run("prove", tmp_path, code=3).stderr
    assert "c2" in said
    assert f"found {shown} at index 4" in said
    assert not (tmp_path / "bundle").exists()


def test_the_shipped_bundle_verifies_without_a_reference_string(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the key table should have spared compiling")

    monkeypatch.setenv("CRS_PATH", str(tmp_path))
    monkeypatch.setattr("zkkrum.proof.keys.build", refuse)
    home = example_bundle().parent
    found = run_json("verify", home / "bundle", "--commitments", home / "commitments", "--round", home / "round.toml")
    assert found["ok"]
    assert found["flagged"] == json.loads((home / "truth.json").read_text())["byzantine"]


def test_the_demo_without_a_reference_string_verifies_what_ships_and_exits_with_5(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CRS_PATH", str(tmp_path))
    monkeypatch.setattr("zkkrum.toolchain.crs.default_folder", lambda: tmp_path / "none")
    result = run("demo", tmp_path / "demo", code=5)
    assert "No proof can be made here" in result.stderr
    assert result.stdout.startswith("VERIFIED")
    assert not (tmp_path / "demo").exists()


def test_the_demo_flags_the_byzantine_clients(tmp_path: Path) -> None:
    done = run_json("demo", tmp_path / "demo")
    assert done["ok"]
    assert done["flagged"] == done["byzantine"]


def test_addresses_stay_whole_at_eighty_columns(tmp_path: Path) -> None:
    clients = ["0x" + f"{i:02x}" * 20 for i in range(1, 6)]
    home, initial = tmp_path / "run" / "rounds" / "0001", tmp_path / "run" / "initial.npz"
    home.mkdir(parents=True)
    np.savez(initial, w=np.zeros(60, np.float32))
    named = [word for client in clients for word in ("--client", client)]
    run("open", home / "round.toml", *named, "--base", initial, "--clip", 4)
    for client, vector in zip(clients, vectors(1), strict=True):
        np.savez(tmp_path / f"{client}.npz", w=vector)
        run("commit", tmp_path / f"{client}.npz", "--round", home / "round.toml", "-o", home)
    for words, said in ((["prove", "run/rounds/0001"], "#4 is"), (["audit", "run"], "round 1: #4 is")):
        lines, code = on_terminal([*words], tmp_path)
        assert code == 0, lines
        assert [line for line in lines if len(line) > 80 and " " in line.strip()] == []
        hexadecimal = [word for line in lines for word in re.findall(r"[0-9a-fx]{12,}", line)]
        assert {len(word) for word in hexadecimal} <= {42, 66}, lines
        assert f"{said} {clients[4]!r}" in lines


def test_jobs_where_they_decide_nothing(tmp_path: Path) -> None:
    run("simulate", tmp_path / "round", "-n", 5, "-d", 12)
    said = run("prove", tmp_path / "round", "--jobs", 2).stderr
    assert "--jobs: this round is one circuit and has one proof" in said
    refused = run("prove", tmp_path / "round", "--jobs", 2, "--scheduler", "tls://localhost:1", code=2).stderr
    assert "--jobs: a cluster's workers decide it" in refused


def test_four_clients_fall_back_to_brackets_and_are_told(tmp_path: Path) -> None:
    words = "detection: brackets, since mad needs 5 clients and there are 4"
    assert words in run("bench", "-n", 4, "-d", 12, "-o", tmp_path / "bench").stderr
    experiment = ["experiment", tmp_path / "x", "--clients", 4, "--attackers", 1, "--rounds", 1, "--no-plot"]
    assert words in run(*experiment).stderr
