"""The layout of a run: what is written is read back, and whatever else lies there is named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from zkkrum.errors import InputError
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.params import Params, Round
from zkkrum.rounds.directory import load_commitments
from zkkrum.rounds.models import subject_of
from zkkrum.rounds.roundfile import load_round
from zkkrum.rounds.run import Gap, Run

MODEL = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "steps": np.array(1)}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", MODEL)


def test_a_run_begins_with_its_model(run: Run) -> None:
    assert (run.path / "initial.safetensors").is_file()
    assert subject_of(run.load_initial()) == subject_of(MODEL)
    with pytest.raises(InputError, match="already exists"):
        Run.create(run.path, MODEL)
    with pytest.raises(InputError, match=r"not a run: no folder rounds/"):
        run.numbers()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_the_initial_model_is_one_file(tmp_path: Path, suffix: str) -> None:
    run = Run.create(tmp_path / "run", MODEL, suffix)
    assert subject_of(run.load_initial()) == subject_of(MODEL)
    (run.path / "initial.npy").touch()
    with pytest.raises(InputError, match=rf"expected one of initial\.npy, .*, found initial\.npy, initial\{suffix}"):
        run.load_initial()


def test_what_is_published_is_read_as_a_round_directory(run: Run) -> None:
    round = Round(Params.of(n=5, d=6), 1.0, tuple("abcde"), bytes(31) + b"\1", subject_of(MODEL))
    place = run.round(1)
    place.publish(round, {client: bytes([i + 1]) * 32 for i, client in enumerate("abcde")})
    assert load_round(place.home.round_file) == round
    assert load_commitments(place.home.commitments, round)[4] == bytes([5]) * 32
    assert hex_of(subject_of(MODEL)) in place.home.round_file.read_text()
    assert (place.bundle, place.aggregate) == (place.path / "bundle", place.path / "aggregate.npz")


def test_numbers_are_those_of_the_folders(run: Run) -> None:
    for number in (12, 1, 10_000):
        run.round(number).path.mkdir(parents=True)
    assert [run.round(n).path.name for n in run.numbers()] == ["0001", "0012", "10000"]
    (run.rounds / ".hidden").mkdir()
    assert run.numbers() == [1, 12, 10_000]


@pytest.mark.parametrize("name", ["1", "0000", "00001", "first", "0002.bak", "-001", "٠٠٠٣"])
def test_other_names_are_refused(run: Run, name: str) -> None:
    run.round(1).path.mkdir(parents=True)
    (run.rounds / name).mkdir()
    with pytest.raises(InputError, match="expected only folders 0001, 0002"):
        run.numbers()


def test_a_file_is_no_round(run: Run) -> None:
    run.rounds.mkdir()
    with pytest.raises(InputError, match="no rounds"):
        run.numbers()
    (run.rounds / "0001").touch()
    with pytest.raises(InputError, match="expected only folders"):
        run.numbers()


def test_gaps_come_back(run: Run) -> None:
    place = run.round(1)
    assert place.load_gap() is None
    place.save_gap(Gap.VOID, 'node "7" did not open\nσ')
    found = place.load_gap()
    assert found is not None
    assert (found.kind, found.reason) == (Gap.VOID, 'node "7" did not open\nσ')
    moved = {**MODEL, "w": MODEL["w"] + 1}
    place.save_gap(Gap.UNPROVED, "every second", moved)
    found = place.load_gap()
    assert found is not None
    assert found.kind is Gap.UNPROVED
    assert subject_of(place.load_model_after()) == subject_of(moved)


@pytest.mark.parametrize("text", ["", 'kind = "lost"\nreason = ""', 'kind = "void"', "=", 'kind = "void"\nreason = 3'])
def test_a_damaged_record_is_named(run: Run, text: str) -> None:
    run.round(1).save_gap(Gap.VOID, "")
    run.round(1).gap_file.write_text(text)
    with pytest.raises(InputError, match=r"gap\.toml: "):
        run.round(1).load_gap()


def test_accuracy_is_read_as_a_strangers_file(tmp_path: Path) -> None:
    run = Run(tmp_path)
    os.mkfifo(run.accuracy_file)
    with pytest.raises(InputError, match=r"accuracy\.json: cannot be read"):
        run.load_accuracy()
    for text in ('{"accuracy": {"1": 0.5}, "accuracy": {"1": 0.9}}', "[" * 100_000, "x" * (2**20 + 1)):
        run.accuracy_file.unlink()
        run.accuracy_file.write_text(text)
        with pytest.raises(InputError, match=r"accuracy\.json: "):
            run.load_accuracy()
