"""Round directories: what is read, and what is refused with which words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from zkkrum.errors import InputError
from zkkrum.learning.simulate import simulated_updates, write_round
from zkkrum.proof.material import load
from zkkrum.protocol.field import to_hex
from zkkrum.protocol.params import Params, Round
from zkkrum.protocol.poseidon2 import hash_many
from zkkrum.rounds.directory import (
    RoundDirectory,
    Truth,
    clients_of_updates,
    load_commitments,
    read_commitments,
    save_committed,
)
from zkkrum.rounds.parties import Terms
from zkkrum.rounds.roundfile import load_round, save_round


@pytest.fixture
def directory(tmp_path: Path) -> RoundDirectory:
    tensors, attackers = simulated_updates(5, 30, 1, "gaussian", None, 0.0, seed=1)
    names = tuple(f"client-0{i}" for i in attackers)
    truth = Truth(byzantine=names, attack="gaussian", strength=None, seed=1)
    write_round(tmp_path / "round", tensors, truth, hash_many, Terms(b=8))
    return RoundDirectory(tmp_path / "round")


def test_a_round_survives_its_file(tmp_path: Path) -> None:
    round = Round(Params.of(n=3, d=7, b=10, f=0), 0.1, ("a", "ü", "0x" + "1" * 40), bytes(range(32)), chain_id=2**200)
    save_round(tmp_path / "round.toml", round)
    assert load_round(tmp_path / "round.toml") == round


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('score = "krum-2017"', 'score = "krum"', "score must be one of krum-2017, all-pairs"),
        ("d = 30", "d = 0", r"d \(coordinates\) must be in"),
        ("d = 30", 'd = "30"', r"parameters\.d"),
        ('z = "5"', "z = 0.1", "write it as text"),
        ('gamma = "1/4"', 'gamma = "-1"', "gamma: expected a decimal"),
        ('protocol = "zkkrum-2"', 'protocol = "zkkrum-1"', "expected 'zkkrum-2'"),
        ('acceptance = "unflagged"', 'acceptance = "all"', "acceptance must be one of unflagged, selected"),
        ('"client-01"', '"../etc"', "not usable as a file name"),
        ('"client-01"', '"client-00"', "must be distinct"),
        ("[parameters]", "nonsense = 1\n[parameters]", "nonsense"),
        ("[parameters]", "[parameters", "cannot be read as TOML"),
        ('round_id = "0x', 'round_id = "', "round_id: expected 0x and 64"),
    ],
)
def test_a_bad_round_file_is_named(directory: RoundDirectory, old: str, new: str, said: str) -> None:
    text = directory.round_file.read_text()
    assert old in text
    directory.round_file.write_text(text.replace(old, new))
    with pytest.raises(InputError, match=said) as raised:
        load_round(directory.round_file)
    assert str(directory.round_file) in str(raised.value)


def test_a_whole_directory_loads(directory: RoundDirectory) -> None:
    material = load(directory.path, hash_many)
    assert material.by_clients
    assert [o.q.shape for o in material.openings] == [(30,)] * 5
    assert (directory.openings / "client-00.npz").stat().st_mode & 0o777 == 0o600


def edit_commitment(directory: RoundDirectory, who: str, change: dict[str, str]) -> None:
    path = directory.commitments / f"{who}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"commitment": to_hex(5)}, "client 'client-02': its opening does not match its published commitment"),
        ({"commitment": "0x" + "0" * 66}, "expected 0x and 64"),
        ({"commitment": "12"}, "expected 0x"),
        ({"commitment": "0x1_0"}, "expected 0x"),
        ({"commitment": "0x10 "}, "expected 0x"),
        ({"context": to_hex(5)}, "committed under another context"),
        ({"client": "client-01"}, "client 'client-01' commits twice"),
        ({"client": "mallory"}, "nothing from client 'client-02'"),
    ],
)
def test_a_bad_commitment_is_named(directory: RoundDirectory, change: dict[str, str], said: str) -> None:
    edit_commitment(directory, "client-02", change)
    with pytest.raises(InputError, match=said):
        load(directory.path, hash_many)


def test_missing_and_extra_commitments_are_named(directory: RoundDirectory) -> None:
    round = load_round(directory.round_file)
    extra = directory.commitments / "extra.json"
    extra.write_text((directory.commitments / "client-00.json").read_text().replace("client-00", "mallory"))
    with pytest.raises(InputError, match="client 'mallory' is not in the roster"):
        load_commitments(directory.commitments, round)
    extra.unlink()
    (directory.commitments / "client-03.json").unlink()
    with pytest.raises(InputError, match="nothing from client 'client-03'"):
        load_commitments(directory.commitments, round)


def test_hidden_files_are_nobodys(directory: RoundDirectory) -> None:
    """macOS leaves one beside each file of a zip archive; no client id begins with a dot."""
    for path in (directory.commitments / "._client-00.json", directory.updates / "._client-00.npy"):
        path.write_bytes(b"\x00\x05\x16\x07")
    roster = load_round(directory.round_file).roster
    assert len(read_commitments(directory.commitments, roster)) == len(roster)
    assert clients_of_updates(directory.updates) == roster


def test_a_missing_opening_voids_the_round(directory: RoundDirectory) -> None:
    (directory.openings / "client-04.npz").unlink()
    with pytest.raises(InputError, match="client-04") as raised:
        load(directory.path, hash_many)
    assert "void" in raised.value.hint


def rewrite_opening(directory: RoundDirectory, **change: object) -> None:
    path = directory.openings / "client-02.npz"
    with np.load(path) as file:
        fields = {name: file[name] for name in file}
    np.savez(path, **{**fields, **change})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"q": np.zeros(29, np.int8)}, r"q: expected shape \(30,\), found \(29,\)"),
        ({"q": np.full(30, 128, np.int16)}, r"q\[0\] = 128 does not fit b = 8 bits"),
        ({"q": np.zeros(30)}, "q: expected int8 or int16 or int32 or int64, found float64"),
        ({"salt": np.full(32, 255, np.uint8)}, "salt is not a canonical field element"),
        ({"salt": np.zeros(31, np.uint8)}, r"salt: expected shape \(32,\), found \(31,\)"),
        ({"q": np.array([None] * 30)}, "q: expected int8 or int16 or int32 or int64, found object"),
    ],
)
def test_a_bad_opening_is_named(directory: RoundDirectory, change: dict[str, object], said: str) -> None:
    rewrite_opening(directory, **change)
    with pytest.raises(InputError, match=said) as raised:
        load(directory.path, hash_many)
    assert "client-02.npz" in str(raised.value)


def test_an_opening_that_is_not_the_update_is_named(directory: RoundDirectory) -> None:
    update = np.load(directory.updates / "client-01.npy")
    update[7] = -update[7] + 1
    np.save(directory.updates / "client-01.npy", update)
    with pytest.raises(InputError, match="client 'client-01': its opening is not its update: at index 7"):
        load(directory.path, hash_many)


def test_two_files_of_one_client_are_named(directory: RoundDirectory) -> None:
    np.savez(directory.updates / "client-01.npz", update=np.zeros(30, np.float32))
    with pytest.raises(InputError, match="client 'client-01' has two files"):
        load(directory.path, hash_many)


def test_updates_alone_are_committed_on_the_spot_by_the_server(directory: RoundDirectory, tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    directory.updates.rename(tmp_path / "bare" / "updates")
    material = load(tmp_path / "bare", hash_many)
    assert not material.by_clients
    assert material.round.roster == tuple(f"client-0{i}" for i in range(5))


def test_a_second_round_in_a_directory_changes_nothing(directory: RoundDirectory) -> None:
    before = {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
    round = load_round(directory.round_file)
    other = replace(round, clip=2 * round.clip)
    with pytest.raises(InputError, match="'client-00' has already committed here"):
        save_committed(directory, other, directory.load_openings(round), [bytes(32)] * 5)
    assert before == {path: path.read_bytes() for path in directory.path.rglob("*") if path.is_file()}
