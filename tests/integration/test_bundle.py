"""Bundles of one circuit: proved for real, verified, and refused for the right reason when anything is touched."""

from __future__ import annotations

import json
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.proving import (
    CLIENTS,
    CLIP,
    B,
    D,
    Example,
    Forgery,
    N,
    example,
    forged,
    material_of,
    rejected,
    round_directory,
    updates_directory,
    vectors,
    with_claims,
)
from zkkrum.errors import InputError, ReferenceStringError, ToolFailedError
from zkkrum.proof.form import Form
from zkkrum.proof.material import load
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.prove import prove
from zkkrum.proof.verify import verify
from zkkrum.proof.work import work_path
from zkkrum.protocol.aggregate import Aggregate, mean_update
from zkkrum.protocol.commitment import Opening, circuit_values
from zkkrum.protocol.field import P, hex_of, to_hex
from zkkrum.protocol.krum import Krum, Outcome, Verdict
from zkkrum.protocol.params import Acceptance
from zkkrum.rounds.aggregate import load_aggregate
from zkkrum.rounds.directory import CommitmentFile, load_commitments, load_opening, save_commitment, save_opening
from zkkrum.rounds.parties import Terms
from zkkrum.rounds.roundfile import RoundFile, load_round, save_round
from zkkrum.toolchain import Toolchain

OUTPUTS = {"malicious": 2 + N, "flagged": 3 + N, "selected": 4 + N}
LEAVES = "the leaves of the proof do not make it up"


@pytest.fixture(scope="session")
def malicious(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Example:
    """A round in which the last client is flagged."""
    return example(tmp_path_factory.mktemp("malicious"), toolchain, Form.ROUND)


@pytest.fixture(scope="session")
def honest(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Another round, of equal clients."""
    return example(tmp_path_factory.mktemp("honest"), toolchain, Form.ROUND, seed=2, outlier=1.0)


@pytest.fixture
def forgery(malicious: Example, tmp_path: Path) -> Forgery:
    return Forgery(malicious.bundle, tmp_path / "forged")


# Honest bundles


class TestHonest:
    def test_malicious_round(self, malicious: Example, toolchain: Toolchain) -> None:
        home = malicious.home
        checked = verify(
            malicious.bundle,
            toolchain,
            commitments=home.commitments,
            round_file=home.round_file,
        )
        assert checked.ok, checked.reason
        assert checked.reason == ""
        assert checked.verdict == malicious.proved.outcome.verdict
        assert checked.verdict.flagged == (N - 1,)
        assert checked.commitments_compared
        assert checked.round_compared
        assert checked.commitments_by == "clients"
        assert "flagged: 'eve'" in checked.statement
        assert "accepted are all but the flagged (4 of 5)" in checked.statement
        assert checked.aggregate.hex() in checked.statement
        assert not checked.aggregate_compared
        assert malicious.round.round_id.hex() in checked.statement

    def test_honest_round_is_the_same_statement(
        self, malicious: Example, honest: Example, toolchain: Toolchain
    ) -> None:
        checked = verify(honest.bundle, toolchain)
        assert checked.ok, checked.reason
        assert checked.verdict is not None
        assert not checked.verdict.malicious
        assert "honest: nobody is flagged" in checked.statement
        assert (honest.bundle / "vk").read_bytes() == (malicious.bundle / "vk").read_bytes()

    def test_nothing_outside_is_compared_unless_asked_for(self, honest: Example, toolchain: Toolchain) -> None:
        checked = verify(honest.bundle, toolchain)
        assert checked.ok
        assert not checked.commitments_compared
        assert not checked.round_compared

    def test_files_and_modes(self, malicious: Example) -> None:
        found = sorted(p.relative_to(malicious.bundle).as_posix() for p in malicious.bundle.rglob("*") if p.is_file())
        assert found == ["manifest.json", "proof", "public_inputs", "vk"]
        assert stat.S_IMODE(malicious.bundle.stat().st_mode) == 0o755
        assert sorted(p.name for p in malicious.bundle.parent.iterdir()) == ["aggregate.npz", "bundle", "round"]

    def test_no_secret_is_in_it(self, malicious: Example) -> None:
        everything = b"".join(p.read_bytes() for p in malicious.bundle.iterdir())
        text = everything.decode("latin-1")
        outcome = malicious.proved.outcome
        with np.load(malicious.proved.aggregate) as file:
            secrets = [int.from_bytes(file["salt"].tobytes(), "big")]
            assert file["sum"].astype("<i8").tobytes() not in everything
        secrets += [o.salt for o in malicious.material.openings]
        private = [int(x) for x in outcome.distances.flatten() if x > 1000] + list(outcome.scores)
        for value in secrets + private:
            assert to_hex(value) not in text
            assert str(value) not in text
            assert value.to_bytes(32, "big") not in everything

    def test_public_inputs_are_named_in_order(self, malicious: Example) -> None:
        manifest = json.loads((malicious.bundle / "manifest.json").read_text())
        names = [w["name"] for w in manifest["public_inputs"]]
        outputs = ["malicious", "flagged", "selected"]
        assert names == ["statement", *(f"leaf[{c}]" for c in CLIENTS), "leaf_of_aggregate", *outputs]
        raw = (malicious.bundle / "public_inputs").read_bytes()
        assert bytes.fromhex("".join(w["value"][2:] for w in manifest["public_inputs"])) == raw

    def test_the_server_learns_what_the_bundle_does_not_say(self, malicious: Example) -> None:
        proved = malicious.proved
        assert proved.float_outcome is not None
        assert proved.float_outcome.verdict == proved.outcome.verdict
        assert set(proved.clipped) == set(CLIENTS)
        assert proved.proofs == 1
        assert proved.accepted == (0, 1, 2, 3)


# Tampering


POSITIONS = (0, 31, 32, 63, 64, 100, 500, 1000, 2000, 3000, 4000, 5000, -64, -33, -32, -1)


class TestProofBytes:
    @pytest.mark.parametrize("offset", POSITIONS)
    def test_flip(self, forgery: Forgery, toolchain: Toolchain, offset: int) -> None:
        forgery.flip("proof", offset)
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    def test_flip_without_fixing_hashes(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.flip("proof", 777)
        rejected(forgery.done(fix=False), toolchain, "proof: its hash is not the one in the manifest")

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: b"",
            lambda data: data[:-1],
            lambda data: data[:-32],
            lambda data: data[: len(data) // 2],
            lambda data: data + b"\0",
            lambda data: data + bytes(32),
            lambda data: bytes(len(data)),
            lambda data: b"\xff" * len(data),
            lambda data: data[:-64] + data[-32:] + data[-64:-32],
        ],
        ids=["empty", "less-1", "less-32", "half", "more-1", "more-32", "zeros", "ones", "swapped-words"],
    )
    def test_size_and_content(self, forgery: Forgery, toolchain: Toolchain, change: Callable[[bytes], bytes]) -> None:
        whole = forgery.data("proof")
        forgery.write("proof", change(whole))
        size = len(forgery.data("proof"))
        wrong = f"proof: expected {len(whole):,} bytes, found {size:,}"
        rejected(forgery.done(), toolchain, "proof: bb refutes it" if size == len(whole) else wrong)

    def test_another_rounds_proof(
        self, malicious: Example, honest: Example, tmp_path: Path, toolchain: Toolchain
    ) -> None:
        path = forged(malicious.bundle, tmp_path / "f", lambda f: f.copy(honest.bundle, "proof"))
        rejected(path, toolchain, "proof: bb refutes it")

    def test_swapped_with_its_public_inputs(
        self, malicious: Example, honest: Example, tmp_path: Path, toolchain: Toolchain
    ) -> None:
        path = forged(malicious.bundle, tmp_path / "f", lambda f: f.copy(honest.bundle, "proof", "public_inputs"))
        rejected(path, toolchain, f"commitment of 'alice': {LEAVES}")

    @pytest.mark.parametrize("name", ["proof", "public_inputs", "vk", "manifest.json"])
    def test_missing_file(self, forgery: Forgery, toolchain: Toolchain, name: str) -> None:
        path = forgery.done()
        (path / name).unlink()
        if name == "manifest.json":
            with pytest.raises(InputError, match="not a bundle"):
                verify(path, toolchain)
        else:
            rejected(path, toolchain, f"{name}: No such file")


class TestPublicInputBytes:
    def test_every_byte(self, forgery: Forgery, toolchain: Toolchain) -> None:
        """With all hashes and names fixed, each changed byte is told by what its word is."""
        original = forgery.data("public_inputs")
        names = [w["name"] for w in forgery.manifest["public_inputs"]]
        for offset in range(len(original)):
            forgery.flip("public_inputs", offset)
            name = names[offset // 32]
            if name.startswith("leaf["):
                reason = f"commitment of {name[5:-1]!r}: {LEAVES}"
            elif name == "leaf_of_aggregate":
                reason = "aggregate: the leaves of the proof do not make up A"
            else:
                reason = f"public_inputs: {name} is not that of this round"
            checked = verify(forgery.done(), toolchain)
            assert checked.reason in (reason, "public_inputs: a word is not below the field modulus")
            forgery.write("public_inputs", original)

    def test_without_fixing_hashes(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.flip("public_inputs", 40)
        rejected(forgery.done(fix=False), toolchain, "public_inputs: its hash is not the one in the manifest")

    @pytest.mark.parametrize("change", [b"", bytes(32), b"\0"], ids=["empty", "more", "ragged"])
    def test_size(self, forgery: Forgery, toolchain: Toolchain, change: bytes) -> None:
        forgery.write("public_inputs", forgery.data("public_inputs") + change if change else b"")
        path = forgery.done(fix=False)
        forgery.fix_hashes()
        forgery.done(fix=False)
        rejected(path, toolchain, f"public_inputs: expected {32 * (N + 5)} bytes")

    @pytest.mark.parametrize("index", [0, 1, 1 + N])
    def test_alias_modulo_p(self, forgery: Forgery, toolchain: Toolchain, index: int) -> None:
        forgery.set_word("public_inputs", index, forgery.words()[index] + P)
        rejected(forgery.done(), toolchain, "public_inputs: a word is not below the field modulus")


class TestKeyBytes:
    @pytest.mark.parametrize("offset", [0, 31, 32, 63, 95, 96, 127, 160, 700, 1500, -1])
    def test_flip(self, forgery: Forgery, toolchain: Toolchain, offset: int) -> None:
        forgery.flip("vk", offset)
        rejected(forgery.done(), toolchain, "vk: not the verification key of this statement")

    def test_another_content(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.write("vk", bytes(1888))
        rejected(forgery.done(), toolchain, "vk: not the verification key of this statement")

    @pytest.mark.parametrize("data", [b"", b"{}", bytes(1887), bytes(1889)])
    def test_another_size(self, forgery: Forgery, toolchain: Toolchain, data: bytes) -> None:
        forgery.write("vk", data)
        rejected(forgery.done(), toolchain, f"vk: expected 1,888 bytes, found {len(data):,}")

    def test_without_fixing_hashes(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.flip("vk", 200)
        rejected(forgery.done(fix=False), toolchain, "vk: its hash is not the one in the manifest")


# Lies about the round: the adversary puts the context of the claimed round wherever it stands


def claim(name: str, value: object) -> Callable[[Forgery], None]:
    def edit(forgery: Forgery) -> None:
        place = forgery.manifest["round"]
        if name in place["parameters"]:
            place = place["parameters"]
        assert place[name] != value
        place[name] = value

    return edit


SAME_CIRCUIT = {
    "clip": 3.5,
    "round_id": "0x" + "11" * 32,
    "subject": "0x" + "22" * 32,
    "chain_id": "1",
    "contract": "0x" + "33" * 20,
    "roster": ["bob", "alice", *CLIENTS[2:]],
    "chunk": 84,
}
OTHER_CIRCUIT = {"m": 2, "z": "6", "gamma": "1/2", "f": 0, "d": 59, "acceptance": "selected"}


class TestLiesAboutTheRound:
    def test_a_circuit_that_would_not_fit_into_memory(self, forgery: Forgery, toolchain: Toolchain) -> None:
        claim("d", 1_000_000)(forgery)
        claim("chunk", 21 * 50_000)(forgery)
        forgery.fix_commitments()
        with pytest.raises(ReferenceStringError, match="claims a circuit of about"):
            verify(forgery.done(), toolchain)

    @pytest.mark.parametrize("name", [*SAME_CIRCUIT, *OTHER_CIRCUIT])
    def test_context_comes_first(self, forgery: Forgery, toolchain: Toolchain, name: str) -> None:
        claim(name, {**SAME_CIRCUIT, **OTHER_CIRCUIT}[name])(forgery)
        if name == "roster":
            forgery.manifest["commitments"][:2] = reversed(forgery.manifest["commitments"][:2])
        forgery.fix_accepted()
        rejected(forgery.done(), toolchain, f": {LEAVES}")

    @pytest.mark.parametrize("name", [n for n in SAME_CIRCUIT if n != "roster"])
    def test_then_the_proof(self, forgery: Forgery, toolchain: Toolchain, name: str) -> None:
        claim(name, SAME_CIRCUIT[name])(forgery)
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    def test_clients_renamed(self, forgery: Forgery, toolchain: Toolchain) -> None:
        """The flagged client points at another."""
        swap = {"eve": "alice", "alice": "eve"}
        forgery.manifest["round"]["roster"] = [swap.get(c, c) for c in CLIENTS]
        for entry in forgery.manifest["commitments"]:
            entry["client"] = swap.get(entry["client"], entry["client"])
        verdict = forgery.manifest["verdict"]
        for key in ("flagged", "selected", "accepted"):
            verdict[key] = [swap.get(c, c) for c in verdict[key]]
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    @pytest.mark.parametrize("name", OTHER_CIRCUIT)
    def test_then_the_key(self, forgery: Forgery, toolchain: Toolchain, name: str) -> None:
        claim(name, OTHER_CIRCUIT[name])(forgery)
        forgery.fix_accepted()
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "vk: not the verification key of this statement")

    def test_two_commitments_exchanged(self, forgery: Forgery, toolchain: Toolchain) -> None:
        entries = forgery.manifest["commitments"]
        for entry, value in zip(entries[:2], [entries[1]["commitment"], entries[0]["commitment"]], strict=True):
            entry["commitment"] = value
        rejected(forgery.done(), toolchain, f"commitment of 'alice': {LEAVES}")

    def test_two_leaves_exchanged(self, forgery: Forgery, toolchain: Toolchain) -> None:
        words = forgery.words()
        forgery.set_word("public_inputs", 1, words[2])
        forgery.set_word("public_inputs", 2, words[1])
        rejected(forgery.done(), toolchain, f"commitment of 'alice': {LEAVES}")
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    def test_another_rounds_commitments(
        self, malicious: Example, honest: Example, forgery: Forgery, toolchain: Toolchain
    ) -> None:
        for i, leaves in enumerate(honest.material.leaves):
            forgery.set_word("public_inputs", 1 + i, leaves[0])
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "proof: bb refutes it")
        rejected(
            forgery.path,
            toolchain,
            "commitment of 'alice': the bundle's is not the one in",
            commitments=malicious.home.commitments,
        )


class TestLiesAboutTheVerdict:
    @pytest.mark.parametrize(
        ("changes", "word"),
        [
            ({"malicious": False, "flagged": []}, "malicious"),
            ({"flagged": ["alice"]}, "flagged"),
            ({"flagged": ["eve", "dave"]}, "flagged"),
            ({"flagged": []}, "flagged"),
            ({"selected": ["eve"]}, "selected"),
            ({"selected": []}, "selected"),
        ],
    )
    def test_outputs(self, forgery: Forgery, toolchain: Toolchain, changes: dict[str, Any], word: str) -> None:
        forgery.manifest["verdict"].update(changes)
        accepted = forgery.manifest["verdict"]["accepted"]
        forgery.fix_accepted()
        if forgery.manifest["verdict"]["accepted"] != accepted:
            forgery.manifest["verdict"]["accepted"] = accepted
            rejected(forgery.done(), toolchain, "manifest: verdict: accepted does not follow from flagged and selected")
            forgery.fix_accepted()
        rejected(forgery.done(), toolchain, f"public_inputs: {word} is not that of this round")
        claimed = forgery.manifest["verdict"]
        index = {client: i for i, client in enumerate(CLIENTS)}
        verdict = Verdict(
            claimed["malicious"],
            tuple(index[c] for c in claimed["flagged"]),
            tuple(index[c] for c in claimed["selected"]),
        )
        for name, value in zip(OUTPUTS, verdict.public_words(), strict=True):
            forgery.set_word("public_inputs", OUTPUTS[name], value)
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    @pytest.mark.parametrize("accepted", [[*CLIENTS], [*CLIENTS[:3]], [], ["alice"], [*CLIENTS[:4], "mallory"]])
    def test_accepted(self, forgery: Forgery, toolchain: Toolchain, accepted: list[str]) -> None:
        forgery.manifest["verdict"]["accepted"] = accepted
        reason = "client 'mallory' is not in the roster" if "mallory" in accepted else "accepted does not follow"
        rejected(forgery.done(), toolchain, f"manifest: verdict: {reason}")

    def test_another_a(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.manifest["aggregate"] = "0x" + "11" * 32
        rejected(forgery.done(), toolchain, "aggregate: the leaves of the proof do not make up A")

    def test_another_leaf_of_the_aggregate(self, forgery: Forgery, honest: Example, toolchain: Toolchain) -> None:
        """The aggregate of another round, with A and the statement made to fit."""
        forgery.set_word("public_inputs", 1 + N, Forgery.words_of(honest.bundle, "public_inputs")[1 + N])
        rejected(forgery.done(), toolchain, "aggregate: the leaves of the proof do not make up A")
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    def test_unknown_client(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.manifest["verdict"]["flagged"] = ["mallory"]
        rejected(forgery.done(), toolchain, "manifest: verdict: client 'mallory' is not in the roster")

    def test_client_named_twice(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.manifest["verdict"]["flagged"] = ["eve", "eve"]
        rejected(forgery.done(), toolchain, "manifest: verdict: a client is named twice")


class TestManifest:
    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"{}",
            b"[]",
            b"null",
            b"\xff\xfe",
            b'{"format": "zkkrum-bundle-2"',
            b'{"format": "zkkrum-bundle-2", "form": "round"}',
            b"[" * 100_000,
        ],
        ids=["empty", "object", "array", "null", "binary", "cut", "incomplete", "deep"],
    )
    def test_not_one(self, forgery: Forgery, toolchain: Toolchain, data: bytes) -> None:
        forgery.write("manifest.json", data)
        rejected(forgery.path, toolchain, "manifest: ")

    @pytest.mark.parametrize(
        ("place", "value", "reason"),
        [
            (("format",), "zkkrum-bundle-02", "format"),
            (("format",), "zkkrum-bundle-99999", "format"),
            (("form",), "both", "form"),
            (("form",), "sharded", "form: d = 60 in chunks of 63 makes 1, so it is not 'sharded'"),
            (("round", "parameters", "chunk"), 42, "form: d = 60 in chunks of 42 makes 2, so it is not 'round'"),
            (("round", "protocol"), "zkkrum-1", "protocol: expected 'zkkrum-2'"),
            (("round", "parameters", "acceptance"), "all", "acceptance must be one of"),
            (("round", "round_id"), "0x00", "round_id: expected 0x and 64"),
            (("round", "clip"), 0.0, "clip"),
            (("round", "clip"), -1.0, "clip"),
            (("round", "clip"), "wide", "clip"),
            (("round", "chain_id"), 1.5, "chain_id"),
            (("round", "chain_id"), "-1", "chain_id: expected an integer"),
            (("round", "roster"), list(CLIENTS[:4]), "roster: expected n = 5 clients, found 4"),
            (("round", "roster"), ["alice", *CLIENTS[:4]], "roster: clients must be distinct"),
            (("round", "roster"), ["../alice", *CLIENTS[1:]], "not usable as a file name"),
            (("round", "parameters", "n"), 2, "n (clients) must be in"),
            (("round", "parameters", "n"), "5", "parameters.n"),
            (("round", "parameters", "d"), 0, "d (coordinates) must be in"),
            (("round", "parameters", "d"), 2**31, "d (coordinates) must be in"),
            (("round", "parameters", "b"), 13, "b (bits) must be one of"),
            (("round", "parameters", "chunk"), 20, "chunk must be a positive multiple of 21"),
            (("round", "parameters", "f"), 2, "f (tolerated Byzantine clients)"),
            (("round", "parameters", "m"), 5, "m (selected clients)"),
            (("round", "parameters", "z"), 5.0, "parameters.z"),
            (("round", "parameters", "z"), "1/0", "z: expected a decimal or a fraction"),
            (("round", "parameters", "z"), "-1", "z: expected a decimal or a fraction"),
            (("round", "parameters", "score"), "krum", "score must be one of"),
            (("round", "parameters", "detection"), "iqr", "detection must be one of"),
            (("commitments", 0, "client"), "bob", "its commitments are not those of the roster"),
            (("commitments", 0, "commitment"), "0x" + "0" * 63, "commitment: expected 0x and 64"),
            (("commitments", 0, "commitment"), "12", "expected 0x and 64"),
            (("aggregate",), "0x12", "aggregate: expected 0x and 64"),
            (("commitments", 0, "commitment"), "0xzz", "commitment"),
            (("commitments", 0, "commitment"), "0x1_0", "commitment"),
            (("commitments", 0, "commitment"), "0x" + "0" * 100_000, "commitment"),
            (("verdict", "malicious"), 1, "verdict.malicious"),
            (("public_inputs", 0, "name"), "text", "named public inputs are not those of the proof"),
            (("public_inputs", 1, "value"), to_hex(5), "named public inputs are not those of the proof"),
            (("files", "proof"), "00", "proof: its hash is not the one in the manifest"),
            (("files", "notes.txt"), "00" * 32, "'notes.txt' is not a file of this form"),
            (("files", "../vk"), "00" * 32, "'../vk' is not a file of this form"),
            (("note",), "hello", "note"),
        ],
    )
    def test_field(
        self, forgery: Forgery, toolchain: Toolchain, place: tuple[str | int, ...], value: object, reason: str
    ) -> None:
        forgery.manifest = with_claims(forgery.manifest, *place, value=value)
        rejected(forgery.done(fix=False), toolchain, reason)

    def test_missing_commitment(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.manifest["commitments"].pop()
        rejected(forgery.done(fix=False), toolchain, "its commitments are not those of the roster")

    def test_missing_file_entry(self, forgery: Forgery, toolchain: Toolchain) -> None:
        del forgery.manifest["files"]["vk"]
        rejected(forgery.done(fix=False), toolchain, "manifest: vk is missing")

    def test_what_it_says_of_tools_and_times_decides_nothing(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.manifest |= {"zkkrum": "9", "noir": "x", "bb": "y", "seconds": {"prove": 0.0}}
        assert verify(forgery.done(), toolchain).ok

    def test_an_older_protocol_is_no_forgery(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.manifest = {"format": "zkkrum-bundle-1", "form": "round"}
        with pytest.raises(InputError, match="a bundle of protocol 1, which proves the verdict but not the aggregate"):
            verify(forgery.done(fix=False), toolchain)

    @pytest.mark.parametrize("protocol", [3, 10, 9999])
    def test_nor_is_a_newer_one(self, forgery: Forgery, toolchain: Toolchain, protocol: int) -> None:
        """Whatever else its manifest has."""
        forgery.manifest = {"format": f"zkkrum-bundle-{protocol}", "shape": "round"}
        with pytest.raises(InputError, match=f"a bundle of protocol {protocol}, newer than this zkkrum") as refused:
            verify(forgery.done(fix=False), toolchain)
        assert "verify it with a newer zkkrum" in refused.value.hint

    def test_not_a_bundle(self, tmp_path: Path, toolchain: Toolchain) -> None:
        for path in (tmp_path, tmp_path / "nowhere"):
            with pytest.raises(InputError, match="not a bundle"):
                verify(path, toolchain)


# Outside sources


@pytest.fixture
def published(malicious: Example, tmp_path: Path) -> Path:
    folder = tmp_path / "commitments"
    shutil.copytree(malicious.home.commitments, folder)
    return folder


class TestPublishedCommitments:
    def test_file_names_do_not_matter(self, malicious: Example, published: Path, toolchain: Toolchain) -> None:
        (published / "alice.json").rename(published / "zz.json")
        assert verify(malicious.bundle, toolchain, commitments=published).ok

    def test_different(self, malicious: Example, published: Path, toolchain: Toolchain) -> None:
        save_commitment(published / "carol.json", "carol", malicious.round.context, bytes(32))
        rejected(malicious.bundle, toolchain, "commitment of 'carol': the bundle's is not", commitments=published)

    def test_exchanged(self, malicious: Example, published: Path, toolchain: Toolchain) -> None:
        values = malicious.material.commitments
        save_commitment(published / "alice.json", "alice", malicious.round.context, values[1])
        save_commitment(published / "bob.json", "bob", malicious.round.context, values[0])
        rejected(malicious.bundle, toolchain, "commitment of 'alice'", commitments=published)

    def test_another_rounds(self, malicious: Example, honest: Example, toolchain: Toolchain) -> None:
        reason = "commitment of 'alice': published under another context than the bundle's"
        rejected(malicious.bundle, toolchain, reason, commitments=honest.home.commitments)

    def test_missing(self, malicious: Example, published: Path, toolchain: Toolchain) -> None:
        (published / "dave.json").unlink()
        with pytest.raises(InputError, match=r"nothing from client 'dave' \(1 of 5 missing\)"):
            verify(malicious.bundle, toolchain, commitments=published)

    def test_extra(self, malicious: Example, published: Path, toolchain: Toolchain) -> None:
        save_commitment(published / "mallory.json", "mallory", malicious.round.context, bytes(32))
        with pytest.raises(InputError, match="client 'mallory' is not in the roster"):
            verify(malicious.bundle, toolchain, commitments=published)

    def test_repeated(self, malicious: Example, published: Path, toolchain: Toolchain) -> None:
        shutil.copyfile(published / "bob.json", published / "bob-again.json")
        with pytest.raises(InputError, match=r"client 'bob' commits twice: bob-again\.json, bob\.json"):
            verify(malicious.bundle, toolchain, commitments=published)

    @pytest.mark.parametrize(
        ("fields", "reason"),
        [
            ({"commitment": "0x" + "f" * 66}, "not a commitment"),
            ({"commitment": "0x-5"}, "not a commitment"),
            ({"commitment": "5"}, "expected 0x"),
            ({"commitment": 5}, "not a commitment"),
            ({"context": "0x12"}, "not a commitment"),
            ({"client": 7}, "not a commitment"),
            ({"extra": 1}, "not a commitment"),
        ],
    )
    def test_malformed(
        self, malicious: Example, published: Path, toolchain: Toolchain, fields: dict[str, Any], reason: str
    ) -> None:
        path = published / "alice.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
        with pytest.raises(InputError, match=reason) as error:
            verify(malicious.bundle, toolchain, commitments=published)
        assert "alice.json" in error.value.message

    def test_no_folder(self, malicious: Example, tmp_path: Path, toolchain: Toolchain) -> None:
        with pytest.raises(InputError, match="no such folder"):
            verify(malicious.bundle, toolchain, commitments=tmp_path / "nowhere")


class TestPublishedRound:
    @pytest.mark.parametrize("name", [*SAME_CIRCUIT, *OTHER_CIRCUIT])
    def test_different_field(self, malicious: Example, toolchain: Toolchain, tmp_path: Path, name: str) -> None:
        fields = RoundFile.of(malicious.round).model_dump()
        value = {**SAME_CIRCUIT, **OTHER_CIRCUIT}[name]
        (fields["parameters"] if name in fields["parameters"] else fields)[name] = value
        path = tmp_path / "round.toml"
        save_round(path, RoundFile.model_validate(fields).round())
        told = "parameters" if name in {*OTHER_CIRCUIT, "chunk"} else name
        rejected(malicious.bundle, toolchain, f"round: {told} of the bundle differ from {path}", round_file=path)

    def test_damaged(self, malicious: Example, toolchain: Toolchain, tmp_path: Path) -> None:
        path = tmp_path / "round.toml"
        path.write_text(malicious.home.round_file.read_text().replace("clip", "clap"))
        with pytest.raises(InputError, match=r"round\.toml: cl[ai]p"):
            verify(malicious.bundle, toolchain, round_file=path)
        with pytest.raises(InputError, match="no such file"):
            verify(malicious.bundle, toolchain, round_file=tmp_path / "other.toml")


# The aggregate's file: what its holder checks


class TestAggregateFile:
    @pytest.fixture
    def rewritten(self, malicious: Example, tmp_path: Path) -> Callable[..., Path]:
        """Write the genuine file with some arrays replaced."""

        def rewrite(**changes: Any) -> Path:
            with np.load(malicious.proved.aggregate) as file:
                arrays = {name: file[name] for name in file}
            for name, change in changes.items():
                arrays[name] = change(arrays[name].copy()) if callable(change) else change
            path = tmp_path / "aggregate.npz"
            np.savez_compressed(path, **arrays)
            return path

        return rewrite

    def test_genuine(self, malicious: Example, toolchain: Toolchain) -> None:
        checked = verify(malicious.bundle, toolchain, aggregate=malicious.proved.aggregate)
        assert checked.ok, checked.reason
        assert checked.aggregate_compared
        assert stat.S_IMODE(malicious.proved.aggregate.stat().st_mode) == 0o600

    def test_it_is_the_mean_of_the_accepted(self, malicious: Example) -> None:
        """By plain Python: the sum of committed integers of the unflagged, and the mean of their dequantized values."""
        found = load_aggregate(malicious.proved.aggregate, D)
        rows = [[int(x) for x in o.q] for i, o in enumerate(malicious.material.openings) if i != N - 1]
        assert found.aggregate.total.tolist() == [
            sum(q + 2 ** (B - 1) for q in column) for column in zip(*rows, strict=True)
        ]
        assert (found.count, found.b, found.clip) == (N - 1, B, CLIP)
        mean = mean_update(found.aggregate.total, found.count, found.clip, found.b)
        delta = CLIP / (2 ** (B - 1) - 1)
        assert mean.tolist() == [sum(column) * delta / (N - 1) for column in zip(*rows, strict=True)]
        assert [spec.name for spec in found.layout] == ["update"]

    @pytest.mark.parametrize("k", [0, 1, D - 1])
    @pytest.mark.parametrize("by", [1, -1])
    def test_one_coordinate_off_by_one(
        self, malicious: Example, toolchain: Toolchain, rewritten: Callable[..., Path], k: int, by: int
    ) -> None:
        def change(total: Any) -> Any:
            total[k] += by
            return total

        path = rewritten(sum=change)
        rejected(malicious.bundle, toolchain, f"aggregate: {path} is not what A commits to", aggregate=path)

    def test_lanes_that_carry(self, malicious: Example, toolchain: Toolchain, rewritten: Callable[..., Path]) -> None:
        """S_0 + 2^SB and S_1 - 1 pack to the same word, so A is the same: only the holder's range check refuses."""
        p = malicious.round.params

        def carry(total: Any) -> Any:
            total[0] += 1 << p.sum_bits
            total[1] -= 1
            return total

        path = rewritten(sum=carry)
        with np.load(path) as file:
            carried = Aggregate(file["sum"], int.from_bytes(file["salt"].tobytes(), "big"))
        genuine = load_aggregate(malicious.proved.aggregate, D).aggregate
        word = sum(int(x) << p.sum_bits * k for k, x in enumerate(carried.total[: p.group]))
        assert word == genuine.words(p, 0)[0]
        reason = rf"sum\[0\] = {carried.total[0]} is not in \[0, 2\^{p.sum_bits}\)"
        found = verify(malicious.bundle, toolchain, aggregate=path)
        assert re.search(reason, found.reason), found.reason

    @pytest.mark.parametrize(
        ("name", "change", "reason"),
        [
            ("sum", lambda s: -s, "is not in [0, 2^"),
            ("salt", lambda s: s ^ 1, "is not what A commits to"),
            ("salt", np.full(32, 255, np.uint8), "the salt is not a canonical field element"),
            ("count", np.int64(N), f"counts {N} accepted clients, the proof {N - 1}"),
            ("bits", np.int64(8), "bits: expected the round's 12, found 8"),
            ("clip", np.float64(8), "clip: expected the round's 4.0, found 8.0"),
            ("layout", np.frombuffer(b'[["w", [7], "float32"]]', np.uint8), f"expected tensors of {D} values"),
        ],
    )
    def test_not_of_the_round(
        self,
        malicious: Example,
        toolchain: Toolchain,
        rewritten: Callable[..., Path],
        name: str,
        change: Any,
        reason: str,
    ) -> None:
        rejected(malicious.bundle, toolchain, reason, aggregate=rewritten(**{name: change}))

    @pytest.mark.parametrize(
        ("name", "change", "reason"),
        [
            ("sum", lambda s: s[:-1], f"expected shape ({D},), found ({D - 1},)"),
            ("sum", lambda s: s.astype(np.float64), "sum: expected int64, found float64"),
            ("layout", np.frombuffer(b'[["w", [-60], "float32"]]', np.uint8), "layout: expected tensors"),
            ("layout", np.frombuffer(b"[[", np.uint8), "layout: "),
            (
                "layout",
                np.frombuffer(b'[["w", [20], "float32"], ["b", [40], "float32"]]', np.uint8),
                "names in ascending order",
            ),
            (
                "layout",
                np.frombuffer(b'[["w", [20], "float32"], ["w", [40], "float32"]]', np.uint8),
                "names in ascending order",
            ),
            ("more", np.zeros(3), "expected arrays bits, clip, count, layout, salt, sum"),
        ],
    )
    def test_not_an_aggregate(
        self,
        malicious: Example,
        toolchain: Toolchain,
        rewritten: Callable[..., Path],
        name: str,
        change: Any,
        reason: str,
    ) -> None:
        """It refutes nothing: nothing in it could be compared."""
        path = rewritten(**{name: change})
        with pytest.raises(InputError, match=re.escape(f"{path}: ") + ".*" + re.escape(reason)):
            verify(malicious.bundle, toolchain, aggregate=path)

    def test_of_one_accepted_client(self, toolchain: Toolchain, crs: Path, tmp_path: Path) -> None:
        """Then it is that client's update, and only its salt keeps A from telling so."""
        overrides = {"m": 1, "acceptance": Acceptance.SELECTED}
        home = round_directory(tmp_path / "round", toolchain, chunk=None, overrides=overrides)
        material = material_of(home, toolchain)
        proved = prove(material, tmp_path / "bundle", toolchain)
        [only] = proved.accepted
        found = load_aggregate(proved.aggregate, D)
        assert found.count == 1
        assert found.aggregate.total.tolist() == circuit_values(material.openings[only].q, B).tolist()
        assert verify(proved.bundle, toolchain, aggregate=proved.aggregate).ok

    def test_of_another_round(self, malicious: Example, honest: Example, toolchain: Toolchain) -> None:
        path = honest.proved.aggregate
        rejected(malicious.bundle, toolchain, f"aggregate: {path} is not what A commits to", aggregate=path)

    def test_of_another_proof_of_the_round(self, malicious: Example, toolchain: Toolchain, tmp_path: Path) -> None:
        """The same sum under another salt: A is of one proof."""
        again = prove(malicious.material, tmp_path / "again", toolchain).aggregate
        rejected(malicious.bundle, toolchain, "is not what A commits to", aggregate=again)

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"hello"])
    def test_damaged(self, malicious: Example, toolchain: Toolchain, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "a.npz").write_bytes(data)
        with pytest.raises(InputError, match=r"a\.npz: not an aggregate that can be read"):
            verify(malicious.bundle, toolchain, aggregate=tmp_path / "a.npz")

    def test_missing(self, malicious: Example, toolchain: Toolchain, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"a\.npz: "):
            verify(malicious.bundle, toolchain, aggregate=tmp_path / "a.npz")


# Proving


class TestProve:
    def test_refuses_when_reference_and_circuit_differ(
        self, malicious: Example, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A reference with a bug: its verdict is not what the circuit computes."""
        true_rule = Krum.of_distances

        def wrong(self: Krum, distances: Any) -> Outcome:
            outcome = true_rule(self, distances)
            return replace(outcome, verdict=replace(outcome.verdict, malicious=False))

        monkeypatch.setattr(Krum, "of_distances", wrong)
        with pytest.raises(ToolFailedError, match="the circuit's outputs and the NumPy reference differ"):
            prove(malicious.material, tmp_path / "bundle", toolchain)
        assert list(tmp_path.iterdir()) == []

    def test_failure_leaves_the_earlier_bundle(self, malicious: Example, toolchain: Toolchain, tmp_path: Path) -> None:
        bundle = tmp_path / "bundle"
        shutil.copytree(malicious.bundle, bundle)
        (tmp_path / "aggregate.npz").write_text("of the earlier bundle")
        before = {p.name: p.read_bytes() for p in bundle.iterdir()}
        first = malicious.material.openings[0]
        broken = replace(
            malicious.material,
            openings=[Opening(first.q, first.salt + 1), *malicious.material.openings[1:]],
        )
        with pytest.raises(ToolFailedError):  # the circuit refuses the salt
            prove(broken, bundle, toolchain)
        assert {p.name: p.read_bytes() for p in bundle.iterdir()} == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["aggregate.npz", "bundle"]
        assert (tmp_path / "aggregate.npz").read_text() == "of the earlier bundle"

    def test_replaces_an_earlier_bundle(
        self, malicious: Example, honest: Example, toolchain: Toolchain, tmp_path: Path
    ) -> None:
        bundle = tmp_path / "bundle"
        shutil.copytree(honest.bundle, bundle)
        prove(malicious.material, bundle, toolchain)
        checked = verify(bundle, toolchain)
        assert checked.round == malicious.round
        assert sorted(p.name for p in tmp_path.iterdir()) == ["aggregate.npz", "bundle"]

    @pytest.mark.parametrize("name", ["code.js", "shards/notes"])
    def test_what_else_is_in_a_folder_is_not_deleted(
        self, honest: Example, toolchain: Toolchain, tmp_path: Path, name: str
    ) -> None:
        bundle = tmp_path / "bundle"
        shutil.copytree(honest.bundle, bundle)
        (bundle / name).parent.mkdir(exist_ok=True)
        (bundle / name).write_text("precious")
        with pytest.raises(InputError, match="exists and is not a bundle"):
            prove(honest.material, bundle, toolchain)
        assert (bundle / name).read_text() == "precious"

    def test_a_manifest_of_something_else_is_not_a_bundle(
        self, honest: Example, toolchain: Toolchain, tmp_path: Path
    ) -> None:
        (tmp_path / "manifest.json").write_text('{"manifest_version": 3}')
        with pytest.raises(InputError, match="exists and is not a bundle"):
            prove(honest.material, tmp_path, toolchain)

    def test_fresh_randomness(self, malicious: Example, toolchain: Toolchain, tmp_path: Path) -> None:
        """The same round proved twice: the same leaves, another salt of the aggregate, another proof."""
        prove(malicious.material, tmp_path / "again", toolchain)
        again = tmp_path / "again"
        first, second = (Forgery.words_of(path, "public_inputs") for path in (malicious.bundle, again))
        assert [a == b for a, b in zip(first, second, strict=True)] == [False, *[True] * N, False, True, True, True]
        assert (tmp_path / "again.aggregate.npz").is_file()
        assert (again / "proof").read_bytes() != (malicious.bundle / "proof").read_bytes()

    @pytest.mark.parametrize("kind", ["folder", "file"])
    def test_refuses_what_is_not_a_bundle(
        self, malicious: Example, toolchain: Toolchain, tmp_path: Path, kind: str
    ) -> None:
        path = tmp_path / "thesis"
        if kind == "folder":
            path.mkdir()
            (path / "chapter.txt").write_text("years of work")
        else:
            path.write_text("years of work")
        with pytest.raises(InputError, match="exists and is not a bundle"):
            prove(malicious.material, path, toolchain)
        assert (path / "chapter.txt" if kind == "folder" else path).read_text() == "years of work"

    @pytest.mark.parametrize("keep", [False, True])
    def test_work_directory_is_private(
        self, malicious: Example, toolchain: Toolchain, tmp_path: Path, keep: bool
    ) -> None:
        work = tmp_path / ".bundle.work"
        modes = []

        def watch(what: str, done: int, total: int) -> None:
            if work.exists():
                modes.append(stat.S_IMODE(work.stat().st_mode))

        proved = prove(malicious.material, tmp_path / "bundle", toolchain, ProveOptions(keep=keep), progress=watch)
        assert set(modes) == {0o700}
        assert work.exists() is keep
        assert proved.kept == (work if keep else None)
        if keep:
            private = list(work.rglob("round-*.toml"))
            assert [stat.S_IMODE(p.stat().st_mode) for p in private] == [0o600]

    def test_work_directory_stands_beside_the_bundle(self) -> None:
        assert work_path(Path("a/b")).name == ".b.work"

    def test_every_rule_and_several_selected(self, toolchain: Toolchain, tmp_path: Path, crs: Path) -> None:
        home = round_directory(tmp_path / "round", toolchain, chunk=None, overrides={"m": 2, "f": 1})
        proved = prove(material_of(home, toolchain), tmp_path / "bundle", toolchain)
        assert len(proved.outcome.verdict.selected) == 2
        assert "Multi-Krum (m = 2)" in proved.verification.statement


# Loading


@pytest.fixture(scope="module")
def pristine(toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return round_directory(tmp_path_factory.mktemp("pristine") / "round", toolchain, chunk=None).path


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    path = tmp_path / "round"
    shutil.copytree(pristine, path)
    return path


class TestLoad:
    def refused(self, folder: Path, toolchain: Toolchain, reason: str) -> None:
        with pytest.raises(InputError, match=reason):
            load(folder, toolchain.bb.hash_many)

    def test_opening_of_another_commitment(self, folder: Path, toolchain: Toolchain) -> None:
        round = load_round(folder / "round.toml")
        opening = load_opening(folder / "openings" / "bob.npz", round.params)
        q = opening.q.copy()
        q[7] += 1
        save_opening(folder / "openings" / "bob.npz", Opening(q, opening.salt), B)
        self.refused(folder, toolchain, "client 'bob': its opening does not match its published commitment")

    def test_another_salt(self, folder: Path, toolchain: Toolchain) -> None:
        round = load_round(folder / "round.toml")
        opening = load_opening(folder / "openings" / "bob.npz", round.params)
        save_opening(folder / "openings" / "bob.npz", Opening(opening.q, opening.salt ^ 1), B)
        self.refused(folder, toolchain, "client 'bob': its opening does not match its published commitment")

    def test_copied_commitment(self, folder: Path, toolchain: Toolchain) -> None:
        """Bob publishes Alice's commitment as his own and sends her opening."""
        round = load_round(folder / "round.toml")
        alice = load_commitments(folder / "commitments", round)[0]
        save_commitment(folder / "commitments" / "bob.json", "bob", round.context, alice)
        shutil.copyfile(folder / "openings" / "alice.npz", folder / "openings" / "bob.npz")
        self.refused(folder, toolchain, "client 'bob': its opening does not match its published commitment")

    def test_opening_of_another_update(self, folder: Path, toolchain: Toolchain) -> None:
        value = np.load(folder / "updates" / "carol.npy")
        value[11] += 0.5
        np.save(folder / "updates" / "carol.npy", value)
        self.refused(folder, toolchain, "client 'carol': its opening is not its update: at index 11")

    def test_difference_below_a_step_is_none(self, folder: Path, toolchain: Toolchain) -> None:
        value = np.load(folder / "updates" / "carol.npy").astype(np.float64)
        np.save(folder / "updates" / "carol.npy", value + 1e-12)
        load(folder, toolchain.bb.hash_many)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_not_finite(self, folder: Path, toolchain: Toolchain, bad: float) -> None:
        value = np.load(folder / "updates" / "dave.npy")
        value[3] = bad
        np.save(folder / "updates" / "dave.npy", value)
        self.refused(folder, toolchain, r"dave\.npy: client 'dave'.*expected finite values, found .* at index 3")

    def test_wrong_size(self, folder: Path, toolchain: Toolchain) -> None:
        np.save(folder / "updates" / "dave.npy", np.zeros(D + 1, dtype=np.float32))
        self.refused(folder, toolchain, rf"client 'dave': expected {D} values \(d\), found {D + 1}")

    def test_wrong_opening_size(self, folder: Path, toolchain: Toolchain) -> None:
        save_opening(folder / "openings" / "dave.npz", Opening(np.zeros(D - 1, dtype=np.int64), 1), B)
        self.refused(
            folder, toolchain, rf"client 'dave': not an opening: q: expected shape \({D},\), found \({D - 1},\)"
        )

    def test_value_out_of_range(self, folder: Path, toolchain: Toolchain) -> None:
        q = np.zeros(D, dtype=np.int64)
        q[5] = 2048
        save_opening(folder / "openings" / "dave.npz", Opening(q, 1), B)
        self.refused(folder, toolchain, r"q\[5\] = 2048 does not fit b = 12 bits")

    def test_salt_not_canonical(self, folder: Path, toolchain: Toolchain) -> None:
        save_opening(folder / "openings" / "dave.npz", Opening(np.zeros(D, dtype=np.int64), P), B)
        self.refused(folder, toolchain, "the salt is not a canonical field element")

    @pytest.mark.parametrize("part", ["updates", "commitments", "openings"])
    def test_missing_client(self, folder: Path, toolchain: Toolchain, part: str) -> None:
        next((folder / part).glob("eve.*")).unlink()
        self.refused(folder, toolchain, rf"{part}: nothing from client 'eve' \(1 of 5 missing\)")

    @pytest.mark.parametrize("part", ["updates", "openings"])
    def test_extra_client(self, folder: Path, toolchain: Toolchain, part: str) -> None:
        source = next((folder / part).glob("eve.*"))
        shutil.copyfile(source, source.with_stem("mallory"))
        self.refused(folder, toolchain, "client 'mallory' is not in the roster")

    def test_client_with_two_updates(self, folder: Path, toolchain: Toolchain) -> None:
        np.savez(folder / "updates" / "bob.npz", update=np.load(folder / "updates" / "bob.npy"))
        self.refused(folder, toolchain, "client 'bob' has two files")

    @pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x93NUMPY", b"hello"])
    def test_damaged_opening(self, folder: Path, toolchain: Toolchain, data: bytes) -> None:
        (folder / "openings" / "bob.npz").write_bytes(data)
        self.refused(folder, toolchain, r"bob\.npz: client 'bob': not an opening")

    def test_pickled_opening(self, folder: Path, toolchain: Toolchain) -> None:
        np.savez(folder / "openings" / "bob.npz", q=np.array([{}], dtype=object), salt=np.zeros(32, np.uint8))
        self.refused(folder, toolchain, r"bob\.npz: client 'bob': not an opening")

    def test_another_rounds_file(self, folder: Path, honest: Example, toolchain: Toolchain) -> None:
        shutil.copyfile(honest.home.round_file, folder / "round.toml")
        self.refused(folder, toolchain, "committed under another context")

    def test_nowhere(self, tmp_path: Path, toolchain: Toolchain) -> None:
        self.refused(tmp_path / "nowhere", toolchain, "no such folder")
        self.refused(tmp_path, toolchain, "expected openings/ or updates/, found neither")


class TestUpdatesOnly:
    def test_commitments_are_the_servers(self, toolchain: Toolchain, tmp_path: Path, crs: Path) -> None:
        updates_directory(tmp_path / "round", vectors(1))
        material = load(tmp_path / "round", toolchain.bb.hash_many, Terms(clip=CLIP))
        assert not material.by_clients
        assert material.round.roster == CLIENTS
        assert material.round.subject != bytes(32)
        proved = prove(material, tmp_path / "bundle", toolchain)
        assert not proved.by_clients
        checked = verify(tmp_path / "bundle", toolchain)
        assert checked.ok
        assert checked.commitments_by == "server"

    def test_salts_and_round_id_differ_between_runs(self, toolchain: Toolchain, tmp_path: Path) -> None:
        updates_directory(tmp_path / "round", vectors(1))
        runs = [load(tmp_path / "round", toolchain.bb.hash_many) for _ in range(2)]
        salts = {o.salt for run in runs for o in run.openings}
        assert len(salts) == 2 * N
        assert runs[0].round.round_id != runs[1].round.round_id
        assert not set(runs[0].commitments) & set(runs[1].commitments)
        for a, b in zip(runs[0].openings, runs[1].openings, strict=True):
            assert (a.q == b.q).all()

    def test_stated_round_is_kept(self, folder: Path, toolchain: Toolchain) -> None:
        stated = load_round(folder / "round.toml")
        shutil.rmtree(folder / "openings")
        with pytest.raises(InputError, match="clients have committed"):
            load(folder, toolchain.bb.hash_many)
        shutil.rmtree(folder / "commitments")
        material = load(folder, toolchain.bb.hash_many)
        assert material.round == stated
        assert not material.by_clients

    def test_layouts_must_agree(self, toolchain: Toolchain, tmp_path: Path) -> None:
        values = vectors(1)
        values[2] = values[2].reshape(6, 10)
        updates_directory(tmp_path / "round", values)
        with pytest.raises(InputError, match="carol"):
            load(tmp_path / "round", toolchain.bb.hash_many)

    def test_wrong_size_and_not_finite(self, toolchain: Toolchain, tmp_path: Path) -> None:
        values = vectors(1)
        values[2] = np.append(values[2], np.float32(0))
        updates_directory(tmp_path / "size", values)
        with pytest.raises(InputError, match="carol"):
            load(tmp_path / "size", toolchain.bb.hash_many)
        values = vectors(1)
        values[3][0] = np.nan
        updates_directory(tmp_path / "nan", values)
        with pytest.raises(InputError, match=r"client 'dave'.*found nan at index 0"):
            load(tmp_path / "nan", toolchain.bb.hash_many)

    def test_commitment_file_is_what_a_client_publishes(self, malicious: Example) -> None:
        file = CommitmentFile.model_validate_json((malicious.home.commitments / "alice.json").read_bytes())
        assert file.client == "alice"
        assert file.context == hex_of(malicious.round.context)
        assert file.commitment == hex_of(malicious.material.commitments[0])
