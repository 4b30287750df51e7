"""Runs, proved for real: audited, and refused at the right round when anything is cheated with."""

from __future__ import annotations

import json
import shutil
import tracemalloc
import zipfile
from collections.abc import Callable
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import zkkrum
from support.runs import CLIENTS, CLIP, Model, Trained, deltas, initial_model, proved, trained
from zkkrum.cli import main
from zkkrum.errors import EXIT_GAP, EXIT_INVALID, InputError
from zkkrum.proof.audit import Audit, State, Stretch, audit
from zkkrum.protocol.field import hex_of
from zkkrum.protocol.params import Detection
from zkkrum.protocol.quantize import dequantize, quantize
from zkkrum.rounds.models import load_model, save_model, subject_of
from zkkrum.rounds.parties import Terms
from zkkrum.rounds.run import Gap, Run
from zkkrum.toolchain import Toolchain


@pytest.fixture(scope="module")
def honest(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Three proved rounds."""
    return trained(tmp_path_factory.mktemp("honest") / "run", toolchain, (1, 2, 3))


@pytest.fixture(scope="module")
def other(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Another run from the same initial model; its first round is that of other updates."""
    return trained(tmp_path_factory.mktemp("other") / "run", toolchain, (4, 5))


@pytest.fixture
def copied(honest: Trained, tmp_path: Path) -> Run:
    """The honest run under an adversary's hands."""
    shutil.copytree(honest.run.path, tmp_path / "run")
    return Run(tmp_path / "run")


def one_ulp(model: Model) -> Model:
    changed = {name: tensor.copy() for name, tensor in model.items()}
    changed["w"].view(np.uint32)[2, 3] ^= 1
    return changed


def refused(found: Audit, number: int | None, reason: str) -> None:
    assert not found.ok
    assert found.failed == number
    assert reason in found.reason, found.reason
    assert not found.final
    assert found.model is None


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


# Honest runs


@pytest.mark.parametrize("jobs", [1, 3])
def test_an_honest_run_ends_with_the_model_that_was_trained(honest: Trained, toolchain: Toolchain, jobs: int) -> None:
    seen: list[tuple[str, int, int]] = []
    found = audit(honest.run.path, toolchain, jobs=jobs, progress=lambda *now: seen.append(now))
    assert found.ok, found.reason
    assert (found.initial, found.final) == (subject_of(initial_model()), subject_of(honest.models[-1]))
    assert found.model is not None
    for name, tensor in honest.models[-1].items():
        assert found.model[name].dtype == tensor.dtype
        assert found.model[name].tobytes() == tensor.tobytes()
    assert found.stretches == (Stretch(1, 3, found.initial, found.final),)
    assert not found.gaps
    assert seen == [("rounds", done, 3) for done in range(4)]
    for number, row in enumerate(found.rounds, start=1):
        assert (row.number, row.state, row.flagged) == (number, State.VERIFIED, ("eve",))
        assert row.accepted == CLIENTS[:4]
        assert row.commitments_compared
        assert row.commitments_by == "clients"
        assert row.changed == ()
        assert row.round is not None
        assert row.round.subject == subject_of(honest.models[number - 1])


def test_the_models_are_what_averaging_the_accepted_updates_gives(honest: Trained) -> None:
    updates = np.stack([update.vector for update in deltas(honest.models[0], 1)])
    mean = dequantize(quantize(updates, CLIP, 12), CLIP, 12)[:4].mean(axis=0)
    before, after = ({name: t.astype(float) for name, t in m.items()} for m in honest.models[:2])
    assert np.allclose(after["b"] - before["b"], mean[:10], atol=1e-14)
    assert np.allclose(after["w"] - before["w"], mean[10:].reshape(5, 10), atol=1e-6)
    assert after["bn.num_batches_tracked"] == 3


def test_without_published_commitments_the_audit_says_so(copied: Run, toolchain: Toolchain) -> None:
    shutil.rmtree(copied.round(2).home.commitments)
    found = audit(copied.path, toolchain)
    assert found.ok
    assert [row.commitments_compared for row in found.rounds] == [True, False, True]
    assert "Not every round holds the commitments" in run("audit", copied.path).stdout


def test_terms_that_change_are_named(honest: Trained, toolchain: Toolchain, tmp_path: Path) -> None:
    models = [initial_model()]
    made = Run.create(tmp_path / "run", models[0], ".npz")
    for number, z in enumerate((None, Fraction(9), Fraction(9)), start=1):
        terms = Terms(b=12, overrides={"z": z, "detection": Detection.MAD} if z else {})
        models.append(proved(made.round(number), models[-1], deltas(models[-1], number), toolchain, terms))
    found = audit(made.path, toolchain)
    assert found.ok, found.reason
    assert [row.changed for row in found.rounds] == [(), ("z",), ()]
    assert "round 2 changes z" in run("audit", made.path).stdout


# Cheats


def test_another_initial_model(copied: Run, honest: Trained, toolchain: Toolchain, tmp_path: Path) -> None:
    said = "it starts from another model: its subject is " + hex_of(subject_of(honest.models[0]))
    save_model(copied.path / "initial.safetensors", one_ulp(initial_model()))
    refused(audit(copied.path, toolchain), 1, said)
    save_model(tmp_path / "mine.npz", initial_model())
    assert audit(copied.path, toolchain, initial=tmp_path / "mine.npz").ok
    save_model(tmp_path / "mine.npz", {**initial_model(), "bn.num_batches_tracked": np.array(4)})
    refused(audit(honest.run.path, toolchain, initial=tmp_path / "mine.npz"), 1, said)


def test_a_round_left_out(copied: Run, toolchain: Toolchain) -> None:
    shutil.rmtree(copied.round(2).path)
    refused(audit(copied.path, toolchain), 2, "left out")
    copied.round(3).path.rename(copied.round(2).path)
    refused(audit(copied.path, toolchain), 2, "it starts from another model")


def test_two_rounds_swapped(copied: Run, toolchain: Toolchain) -> None:
    copied.round(2).path.rename(copied.path / "aside")
    copied.round(3).path.rename(copied.round(2).path)
    (copied.path / "aside").rename(copied.round(3).path)
    found = audit(copied.path, toolchain)
    refused(found, 2, "it starts from another model")
    assert [row.number for row in found.rounds] == [1]


def test_a_model_changed_between_rounds_by_one_ulp(honest: Trained, copied: Run, toolchain: Toolchain) -> None:
    """Every proof is genuine; the server only handed out another model than the one that round 1 yields."""
    forged = one_ulp(honest.models[1])
    for number in (2, 3):
        shutil.rmtree(copied.round(number).path)
    proved(copied.round(2), forged, deltas(forged, 2), toolchain)
    found = audit(copied.path, toolchain)
    refused(found, 2, f"its subject is {hex_of(subject_of(forged))}, that of the model after round 1 ")
    assert hex_of(subject_of(honest.models[1])) in found.reason


def test_a_buffer_changed_between_rounds(honest: Trained, copied: Run, toolchain: Toolchain) -> None:
    forged = {**honest.models[1], "bn.num_batches_tracked": np.array(99)}
    for number in (2, 3):
        shutil.rmtree(copied.round(number).path)
    proved(copied.round(2), forged, deltas(forged, 2), toolchain)
    refused(audit(copied.path, toolchain), 2, "it starts from another model")


def test_a_genuine_bundle_of_another_run(copied: Run, other: Trained, toolchain: Toolchain) -> None:
    shutil.rmtree(copied.round(2).bundle)
    shutil.copytree(other.run.round(2).bundle, copied.round(2).bundle)
    refused(audit(copied.path, toolchain), 2, "round: round_id, subject of the bundle differ")
    shutil.rmtree(copied.round(2).path)
    shutil.copytree(other.run.round(2).path, copied.round(2).path)
    refused(audit(copied.path, toolchain), 2, "it starts from another model")


def test_a_genuine_first_round_of_another_run(copied: Run, other: Trained, toolchain: Toolchain) -> None:
    shutil.rmtree(copied.round(1).path)
    shutil.copytree(other.run.round(1).path, copied.round(1).path)
    refused(audit(copied.path, toolchain), 2, "it starts from another model")


def test_an_aggregate_of_another_round(copied: Run, toolchain: Toolchain) -> None:
    shutil.copy(copied.round(1).aggregate, copied.round(2).aggregate)
    refused(audit(copied.path, toolchain), 2, "aggregate.npz is not what A commits to")


def test_a_commitment_that_the_client_did_not_publish(copied: Run, toolchain: Toolchain) -> None:
    path = copied.round(3).home.commitments / "carol.json"
    file = json.loads(path.read_text())
    path.write_text(json.dumps({**file, "commitment": "0x" + "12" * 32}))
    refused(audit(copied.path, toolchain), 3, "commitment of 'carol'")


def test_a_round_that_moves_nothing_cannot_be_copied(toolchain: Toolchain, crs: Path, tmp_path: Path) -> None:
    """Its subject is that of the next model too: the id tells them apart."""
    made = Run.create(tmp_path / "run", initial_model())
    still = proved(made.round(1), initial_model(), deltas(initial_model(), 1, scale=0.0), toolchain)
    assert subject_of(still) == subject_of(initial_model())
    shutil.copytree(made.round(1).path, made.round(2).path)
    refused(audit(made.path, toolchain), 2, "it has the id of round 1")


@pytest.mark.parametrize("missing", ["bundle", "round.toml", "aggregate.npz"])
def test_a_round_without_one_of_its_files(copied: Run, toolchain: Toolchain, missing: str) -> None:
    path = copied.round(2).path / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused(audit(copied.path, toolchain), 2, f"no {missing} (and no gap.toml that says why)")


def test_the_earliest_failure_is_named(copied: Run, toolchain: Toolchain) -> None:
    for number in (3, 2):
        proof = copied.round(number).bundle / "proof"
        proof.write_bytes(proof.read_bytes()[::-1])
    refused(audit(copied.path, toolchain, jobs=3), 2, "proof: its hash is not the one in the manifest")


def test_a_final_model_that_is_not_the_runs(honest: Trained, toolchain: Toolchain, tmp_path: Path) -> None:
    save_model(tmp_path / "good.npz", honest.models[-1])
    save_model(tmp_path / "bad.npz", one_ulp(honest.models[-1]))
    assert audit(honest.run.path, toolchain, final=tmp_path / "good.npz").ok
    refused(audit(honest.run.path, toolchain, final=tmp_path / "bad.npz"), None, "is not the model that the run ends")


def test_what_cannot_be_read_is_no_answer(copied: Run, toolchain: Toolchain) -> None:
    copied.round(2).home.round_file.write_text("nonsense = [")
    with pytest.raises(InputError, match=r"^round 2: .*round\.toml: cannot be read as TOML"):
        audit(copied.path, toolchain)


# Gaps


def with_gaps(made: Run, honest: Trained, toolchain: Toolchain) -> Model:
    """Turn three rounds into: proved, void, proved, unproved, proved; return the last model."""
    made.round(3).path.rename(made.path / "aside")
    made.round(2).path.rename(made.round(3).path)
    shutil.rmtree(made.path / "aside")
    made.round(2).save_gap(Gap.VOID, "bob did not open")
    made.round(4).save_gap(Gap.UNPROVED, "one round in two is proved", honest.models[3])
    return proved(made.round(5), honest.models[3], deltas(honest.models[3], 9), toolchain)


def test_gaps_are_named_and_the_rest_is_verified(copied: Run, honest: Trained, toolchain: Toolchain) -> None:
    last = with_gaps(copied, honest, toolchain)
    found = audit(copied.path, toolchain)
    assert found.ok, found.reason
    states = [State.VERIFIED, State.VOID, State.VERIFIED, State.UNPROVED, State.VERIFIED]
    assert [row.state for row in found.rounds] == states
    assert [(row.number, row.reason) for row in found.gaps] == [
        (2, "bob did not open"),
        (4, "one round in two is proved"),
    ]
    subjects = [subject_of(model) for model in (*honest.models, last)]
    assert found.stretches == (Stretch(1, 3, subjects[0], subjects[2]), Stretch(5, 5, subjects[3], subjects[4]))
    said = run("audit", copied.path, code=EXIT_GAP).stdout
    assert "GAPS: rounds 2, 4" in said
    assert f"verified from {hex_of(subjects[3])} to {hex_of(subjects[4])}: round 5" in said
    assert "round 2 is void, by the server's word: bob did not open" in said
    assert "VERIFIED:" not in said


def test_after_a_void_round_the_model_is_the_same(copied: Run, toolchain: Toolchain) -> None:
    """A round declared void cannot have moved the model."""
    shutil.rmtree(copied.round(2).path)
    copied.round(2).save_gap(Gap.VOID, "so we say")
    refused(audit(copied.path, toolchain), 3, "it starts from another model")


def test_after_an_unproved_round_the_run_goes_on_from_the_model_it_states(
    copied: Run, honest: Trained, toolchain: Toolchain
) -> None:
    shutil.rmtree(copied.round(2).path)
    copied.round(2).save_gap(Gap.UNPROVED, "", one_ulp(honest.models[2]))
    refused(audit(copied.path, toolchain), 3, "it starts from another model")
    copied.round(2).save_gap(Gap.UNPROVED, "", {**honest.models[2], "more": np.zeros(1)})
    refused(audit(copied.path, toolchain), 2, "the model after it has other tensors")
    (copied.round(2).path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"round 2: .*0002: expected one of model\.npy, .*, found none"):
        audit(copied.path, toolchain)


def test_a_round_is_proved_or_a_gap(copied: Run, toolchain: Toolchain) -> None:
    copied.round(2).save_gap(Gap.VOID, "both")
    refused(audit(copied.path, toolchain), 2, "both a bundle and the record of a gap")


# The command lines


def test_audit_on_the_command_line(honest: Trained, tmp_path: Path) -> None:
    save_model(tmp_path / "mine.npz", initial_model())
    out = tmp_path / "final.safetensors"
    said = run("audit", honest.run.path, "--initial", tmp_path / "mine.npz", "--save", out).stdout
    final = hex_of(subject_of(honest.models[-1]))
    assert "exactly what the 3 proved rounds make of the initial one" in said
    assert final in said
    assert "The initial model is the run's own" not in said
    assert subject_of(load_model(out)) == subject_of(honest.models[-1])
    assert f"written: {out} (sha256 {sha256(out.read_bytes()).hexdigest()})" in said
    said = run("audit", honest.run.path, "--final", out).stdout
    assert f"{out} is that model." in said
    assert "The initial model is the run's own" in said
    found = json.loads(run("audit", honest.run.path, "--json").stdout)
    assert (found["ok"], found["final"], found["gaps"], found["failed_round"]) == (True, final, [], None)
    assert [row["clients"] for row in found["rounds"]] == [5, 5, 5]


def test_a_refuted_run_exits_with_1_and_saves_nothing(copied: Run, tmp_path: Path) -> None:
    shutil.copy(copied.round(1).aggregate, copied.round(2).aggregate)
    out = tmp_path / "final.npz"
    said = run("audit", copied.path, "--save", out, code=EXIT_INVALID).stdout
    assert "INVALID: round 2: aggregate: " in said
    assert not out.exists()
    found = json.loads(run("audit", copied.path, "--save", out, "--json", code=EXIT_INVALID).stdout)
    assert (found["ok"], found["failed_round"], found["final"], found["saved"]) == (False, 2, None, None)


def test_the_mean_and_the_next_model_from_a_bundle(honest: Trained, tmp_path: Path) -> None:
    place = honest.run.round(2)
    outside = ("--round", place.home.round_file, "--commitments", place.home.commitments)
    save_model(tmp_path / "base.npz", honest.models[1])
    out = tmp_path / "next.safetensors"
    said = run("aggregate", place.bundle, "--base", tmp_path / "base.npz", "-o", out, *outside).stdout
    assert subject_of(load_model(out)) == subject_of(honest.models[2])
    assert hex_of(subject_of(honest.models[2])) in said
    assert "Buffers, as they were: 'bn.num_batches_tracked'" in said
    mean = tmp_path / "mean.npz"
    found = json.loads(run("aggregate", place.bundle, "--aggregate", place.aggregate, "-o", mean, "--json").stdout)
    assert found["sha256"] == sha256(mean.read_bytes()).hexdigest()
    assert (found["bound"], found["commitments_compared"], found["subject"]) == (False, False, None)
    tensors = load_model(mean)
    assert {name: (t.shape, t.dtype.name) for name, t in tensors.items()} == {
        "b": ((10,), "float64"),
        "w": ((5, 10), "float64"),
    }
    for name, base in (("w", honest.models[1]["w"]), ("b", honest.models[1]["b"])):
        moved = (base.astype(np.float64) + tensors[name]).astype(base.dtype)
        assert moved.tobytes() == honest.models[2][name].tobytes()


Forge = Callable[[Run], object]


@pytest.mark.parametrize(
    ("forge", "said"),
    [
        (lambda r: shutil.copy(r.round(2).aggregate, r.round(1).aggregate), "is not what A commits to"),
        (lambda r: (r.round(1).bundle / "proof").write_bytes(bytes(7232)), "proof: its hash is not the one"),
    ],
)
def test_nothing_is_written_from_what_does_not_verify(copied: Run, tmp_path: Path, forge: Forge, said: str) -> None:
    forge(copied)
    out = tmp_path / "next.npz"
    words = ("aggregate", copied.round(1).bundle, "--base", copied.path / "initial.safetensors", "-o", out)
    told = run(*words, code=EXIT_INVALID).stdout
    assert told.startswith("INVALID: ")
    assert said in told
    assert "nothing written" in told
    assert not json.loads(run(*words, "--json", code=EXIT_INVALID).stdout)["ok"]
    assert not out.exists()


def test_a_model_that_unpacks_to_gigabytes_is_not_read(copied: Run, tmp_path: Path, toolchain: Toolchain) -> None:
    """Half a megabyte of zeros, deflated: an initial model, and the model after a round without a proof."""
    (copied.path / "initial.safetensors").rename(tmp_path / "initial.safetensors")
    zeros = zipfile.ZipFile(copied.path / "initial.npz", "w", zipfile.ZIP_DEFLATED)
    with zeros as archive, archive.open("w.npy", "w") as f:
        np.lib.format.write_array_header_1_0(f, {"descr": "<f2", "fortran_order": False, "shape": (2**28,)})
        for _ in range(2**9):
            f.write(bytes(2**20))
    bomb = copied.path / "initial.npz"
    assert bomb.stat().st_size < 2**20
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="its initial model has 268,435,456 values, and its first proved round"):
            audit(copied.path, toolchain)
        refuted = audit(copied.path, toolchain, initial=tmp_path / "initial.safetensors", final=bomb)
        assert refuted.reason == f"{bomb} is not the model that the run ends with"
        place = copied.round(3)
        shutil.rmtree(place.bundle)
        place.save_gap(Gap.UNPROVED, "no time", initial_model())
        (place.path / "model.safetensors").unlink()
        bomb.rename(place.path / "model.npz")
        refused(
            audit(copied.path, toolchain, initial=tmp_path / "initial.safetensors"),
            3,
            "the model after it has other tensors than the one before",
        )
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()


def test_a_large_model_is_read_if_a_proved_round_says_so(
    honest: Trained, copied: Run, toolchain: Toolchain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zkkrum.proof.audit.VALUES_MAX", 1)
    assert audit(copied.path, toolchain).final == subject_of(honest.models[-1])
    copied.round(1).home.round_file.unlink()
    refused(audit(copied.path, toolchain), 1, "no round.toml")


def test_nothing_is_written_from_what_cannot_be_read(copied: Run, tmp_path: Path) -> None:
    """It is neither valid nor invalid."""
    place, out = copied.round(1), tmp_path / "next.npz"
    place.aggregate.write_bytes(b"PK")
    found = run("aggregate", place.bundle, "--base", copied.path / "initial.safetensors", "-o", out, code=3)
    assert f"{place.aggregate}: not an aggregate that can be read" in found.stderr
    assert not out.exists()
    assert "round 1: " in run("audit", copied.path, code=3).stderr


def test_another_base_is_refused(honest: Trained, tmp_path: Path) -> None:
    place = honest.run.round(1)
    save_model(tmp_path / "base.npz", one_ulp(honest.models[0]))
    words = ("aggregate", place.bundle, "--base", tmp_path / "base.npz", "-o", tmp_path / "next.npz")
    assert "the round starts from another model" in run(*words, code=3).stderr
    save_model(tmp_path / "base.npz", {"v": np.zeros(60)})
    assert "tensor 'b' differs: in the update shape (10,), in the model none" in run(*words, code=3).stderr
    assert "expected a file .npy" in run("aggregate", place.bundle, "-o", tmp_path / "next.pt", code=3).stderr
    assert not (tmp_path / "next.npz").exists()


def test_a_round_that_names_no_model(toolchain: Toolchain, crs: Path, tmp_path: Path) -> None:
    run("simulate", tmp_path / "r", "-n", 5, "-d", 40, "--byzantine", 1)
    run("prove", tmp_path / "r")
    save_model(tmp_path / "base.npy", {"update": np.zeros(40, np.float32)})
    words = ("aggregate", tmp_path / "r" / "bundle", "-o", tmp_path / "next.npy")
    assert "does not name this model" in run(*words, "--base", tmp_path / "base.npy").stdout
    assert "does not name" not in run(*words).stdout  # the layout alone it does name
    found = zkkrum.verify_bundle(tmp_path / "r" / "bundle", toolchain, aggregate=tmp_path / "r" / "aggregate.npz")
    with pytest.raises(InputError, match="the round names no model that it starts from"):
        zkkrum.apply_aggregate(load_model(tmp_path / "base.npy"), found)


def test_nothing_is_taken_from_what_was_not_verified(honest: Trained, toolchain: Toolchain) -> None:
    place = honest.run.round(1)
    unopened = zkkrum.verify_bundle(place.bundle, toolchain)
    with pytest.raises(InputError, match="no aggregate was compared"):
        zkkrum.apply_aggregate(initial_model(), unopened)
    refuted = zkkrum.verify_bundle(place.bundle, toolchain, aggregate=honest.run.round(2).aggregate)
    with pytest.raises(InputError, match=r"the round is not proved: aggregate: .*is not what A commits to"):
        zkkrum.apply_aggregate(initial_model(), refuted)


def test_open_takes_dimension_and_subject_from_the_model(tmp_path: Path) -> None:
    save_model(tmp_path / "m.npz", initial_model())
    clients: list[Any] = [word for name in CLIENTS for word in ("--client", name)]
    run("open", tmp_path / "round.toml", *clients, "--base", tmp_path / "m.npz", "--clip", 1)
    text = (tmp_path / "round.toml").read_text()
    assert f'subject = "{hex_of(subject_of(initial_model()))}"' in text
    assert "d = 60\n" in text
    for extra in ((), ("--base", tmp_path / "m.npz", "-d", 60), ("--base", tmp_path / "m.npz", "--subject", "0x00")):
        said = run("open", tmp_path / "other.toml", *clients, "--clip", 1, *extra, code=2).stderr
        assert "expected --base MODEL, or --dimension" in said


# A run from the demo


def test_the_demo_makes_a_run_to_audit(toolchain: Toolchain, crs: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    said = run("demo", tmp_path / "run", "--rounds", 2).stdout
    assert "exactly what the 2 proved rounds make of the initial one" in said
    run("audit", tmp_path / "run")
    assert not list((tmp_path / "run").rglob("openings"))
    assert "already exists" in run("demo", tmp_path / "run", "--rounds", 2, code=3).stderr
