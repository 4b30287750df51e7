"""Sharded rounds: proved for real, the links between their proofs, and every way of breaking one of them."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.proving import (
    CHUNK,
    CLIENTS,
    CLIP,
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
)
from zkkrum.errors import ConstraintError, InputError, ToolFailedError
from zkkrum.proof import jobs as running
from zkkrum.proof.build import build, verification_key
from zkkrum.proof.bundle import Manifest, write
from zkkrum.proof.circuit import shard_circuit, verdict_circuit
from zkkrum.proof.form import PROOF, PUBLIC_INPUTS, VK, Form, shard_files, why
from zkkrum.proof.jobs import Job, JobProof, run_all, run_job
from zkkrum.proof.material import Material, load
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.prove import prove
from zkkrum.proof.statement import PublicChallenge, verdict_words
from zkkrum.proof.verify import verify
from zkkrum.proof.witness import shard_inputs, verdict_inputs
from zkkrum.protocol.challenge import (
    FIRST_LINK,
    Challenge,
    Links,
    claims,
    combination,
    evaluations,
    form_of_claims,
    rho,
)
from zkkrum.protocol.commitment import Opening, chain, circuit_values, commit, fresh_secret, leaves, words
from zkkrum.protocol.field import P, to_hex
from zkkrum.protocol.krum import Krum, Outcome, pair_list
from zkkrum.protocol.params import Params, Round
from zkkrum.protocol.poseidon2 import hash_many
from zkkrum.protocol.transcript import Secrets, Transcript
from zkkrum.rounds.aggregate import load_aggregate
from zkkrum.rounds.parties import Terms, commit_update, open_round
from zkkrum.rounds.roundfile import save_round
from zkkrum.rounds.updates import Update
from zkkrum.toolchain import Toolchain

T = 3
LEAF, BEFORE, AFTER = N + 1, 2 * N + 2, 2 * N + 3
"""Positions in a shard's public inputs: rho, n - 1 times x, s, n + 1 leaves, before, after."""
RHO, X, S, LINK, MALICIOUS = 1, 2, N + 1, N + 2, N + 3
"""Positions in the verdict's: statement, rho, n - 1 times x, s, link, three outputs."""
LEAVES = "the leaves of the proof do not make it up"
PROOFS, INPUTS = zip(*(shard_files(t) for t in range(T)), strict=True)


@pytest.fixture(scope="session")
def sharded(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Example:
    return example(tmp_path_factory.mktemp("sharded"), toolchain, Form.SHARDED)


@pytest.fixture(scope="session")
def other(toolchain: Toolchain, crs: Path, tmp_path_factory: pytest.TempPathFactory) -> Example:
    """Another round of the same shape."""
    return example(tmp_path_factory.mktemp("other"), toolchain, Form.SHARDED, seed=2, outlier=1.0)


@pytest.fixture(scope="session")
def again(sharded: Example, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same round, proved a second time."""
    path = tmp_path_factory.mktemp("again") / "bundle"
    prove(sharded.material, path, toolchain)
    return path


@pytest.fixture
def forgery(sharded: Example, tmp_path: Path) -> Forgery:
    return Forgery(sharded.bundle, tmp_path / "forged")


class TestHonest:
    def test_verifies(self, sharded: Example, toolchain: Toolchain) -> None:
        home = sharded.home
        for jobs in (1, 4):
            checked = verify(
                sharded.bundle,
                toolchain,
                commitments=home.commitments,
                round_file=home.round_file,
                jobs=jobs,
            )
            assert checked.ok, checked.reason
            assert checked.form == Form.SHARDED
            assert checked.verdict == sharded.proved.outcome.verdict
        assert sharded.proved.proofs == T + 1

    def test_honest_round(self, other: Example, toolchain: Toolchain) -> None:
        checked = verify(other.bundle, toolchain)
        assert checked.ok
        assert checked.verdict is not None
        assert not checked.verdict.malicious

    def test_same_verdict_and_aggregate_as_one_circuit(
        self, sharded: Example, toolchain: Toolchain, tmp_path: Path
    ) -> None:
        """The form changes the round's chunk, hence context and commitments, but neither verdict nor sum."""
        whole = replace(sharded.round, params=replace(sharded.round.params, chunk=63))
        material = Material.commit(whole, sharded.material.updates or [], toolchain.bb.hash_many)
        one = prove(material, tmp_path / "one", toolchain)
        assert Form.of(one.round.params) is Form.ROUND
        assert one.verification.verdict == sharded.proved.verification.verdict
        sums = [load_aggregate(p.aggregate, p.round.params.d).aggregate.total.tolist() for p in (one, sharded.proved)]
        assert sums[0] == sums[1]

    def test_aggregate(self, sharded: Example, other: Example, toolchain: Toolchain) -> None:
        checked = verify(sharded.bundle, toolchain, aggregate=sharded.proved.aggregate)
        assert checked.ok, checked.reason
        assert checked.aggregate_compared
        rejected(sharded.bundle, toolchain, "is not what A commits to", aggregate=other.proved.aggregate)

    def test_files(self, sharded: Example) -> None:
        found = {p.relative_to(sharded.bundle).as_posix() for p in sharded.bundle.rglob("*") if p.is_file()}
        assert found == {"manifest.json", "proof", "public_inputs", "vk", "vk.shard", "vk.last", *PROOFS, *INPUTS}
        assert sorted(p.name for p in sharded.bundle.parent.iterdir()) == ["aggregate.npz", "bundle", "round"]

    def test_runs_share_nothing(self, sharded: Example, again: Path) -> None:
        """Fresh ρ, links and proofs: two proofs of one round cannot be told to be, but by their commitments."""
        first, second = (Forgery.words_of(path, PUBLIC_INPUTS) for path in (sharded.bundle, again))
        assert not set(first[:MALICIOUS]) & set(second[:MALICIOUS])
        assert first[MALICIOUS:] == second[MALICIOUS:]
        for t in range(T):
            one, two = (Forgery.words_of(path, INPUTS[t]) for path in (sharded.bundle, again))
            assert one[LEAF : LEAF + N] == two[LEAF : LEAF + N]
            assert one[LEAF + N] != two[LEAF + N]
            assert one[AFTER] != two[AFTER]

    def test_first_link_is_the_constant(self, sharded: Example) -> None:
        assert Forgery.words_of(sharded.bundle, INPUTS[0])[BEFORE] == FIRST_LINK

    def test_no_secret_is_in_it(self, sharded: Example) -> None:
        everything = b"".join(p.read_bytes() for p in sharded.bundle.rglob("*") if p.is_file())
        outcome = sharded.proved.outcome
        private = [o.salt for o in sharded.material.openings] + list(outcome.scores)
        private += [int(x) for x in outcome.distances.flatten() if x > 1000]
        for value in private:
            assert value.to_bytes(32, "big") not in everything
            assert str(value).encode() not in everything
            assert to_hex(value).encode() not in everything

    def test_whole_chunks_have_one_shape(self, toolchain: Toolchain, tmp_path: Path, crs: Path) -> None:
        home = round_directory(tmp_path / "round", toolchain, values=vectors(1, d=2 * CHUNK))
        prove(material_of(home, toolchain), tmp_path / "bundle", toolchain)
        assert not (tmp_path / "bundle" / "vk.last").exists()
        assert verify(tmp_path / "bundle", toolchain).ok

    def test_the_form_follows_from_the_chunk(self, sharded: Example) -> None:
        p = sharded.round.params
        assert Form.of(p) is Form.SHARDED
        assert "3 shards of 21 coordinates and a verdict" in why(p)
        assert Form.of(replace(p, chunk=63)) is Form.ROUND
        assert "all 60 coordinates are one chunk" in why(replace(p, chunk=63))


# The public inputs of the parts


class TestShardsAsASet:
    def test_drop_one(self, forgery: Forgery, toolchain: Toolchain) -> None:
        for name in shard_files(1):
            forgery.drop(name)
        rejected(forgery.done(), toolchain, "shards: d = 60 in chunks of 21 makes 3, found 2: a verdict without")

    def test_a_verdict_alone(self, forgery: Forgery, toolchain: Toolchain) -> None:
        """Genuine, and no proof of anything: without the shards its distances are free."""
        for t in range(T):
            for name in shard_files(t):
                forgery.drop(name)
        rejected(forgery.done(), toolchain, "makes 3, found 0: a verdict without all its shards proves nothing")

    def test_drop_the_file_alone(self, forgery: Forgery, toolchain: Toolchain) -> None:
        path = forgery.done()
        (path / PROOFS[1]).unlink()
        rejected(path, toolchain, f"{PROOFS[1]}: No such file")

    def test_drop_the_last_and_say_so(self, forgery: Forgery, toolchain: Toolchain) -> None:
        """d = 42 with everything made to fit: two whole shards, the chain cut, commitments from their leaves."""
        for name in (*shard_files(2), "vk.last"):
            forgery.drop(name)
        forgery.manifest["round"]["parameters"]["d"] = 2 * CHUNK
        last = "verdict: the chain is broken: it does not start where the last shard ends"
        rejected(forgery.done(), toolchain, last)
        forgery.set_word(PUBLIC_INPUTS, LINK, forgery.shard(1).after)
        rejected(forgery.done(), toolchain, f"commitment of 'alice': {LEAVES}")
        forgery.fix_commitments()
        # The widths of the verdict follow from d, here to the same limbs: the key is the same, the proof is not.
        checked = verify(forgery.done(), toolchain)
        assert checked.reason.startswith(("vk: not the verification key", "proof: bb refutes it"))

    def test_add_one(self, forgery: Forgery, toolchain: Toolchain) -> None:
        for name, source in zip(shard_files(3), shard_files(1), strict=True):
            forgery.write(name, forgery.data(source))
            forgery.manifest["files"][name] = ""
        rejected(forgery.done(), toolchain, "shards: d = 60 in chunks of 21 makes 3, found 4")

    def test_numbers_beyond_the_last(self, forgery: Forgery, toolchain: Toolchain) -> None:
        for name, source in zip(shard_files(3), shard_files(1), strict=True):
            (forgery.path / source).rename(forgery.path / name)
            forgery.manifest["files"][name] = forgery.manifest["files"].pop(source)
        rejected(forgery.done(fix=False), toolchain, f"manifest: {PROOFS[1]} is missing")

    def test_repeat_one(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.copy_within(shard_files(0), shard_files(1))
        rejected(forgery.done(), toolchain, "shard 1: the chain is broken: it does not start at where shard 0 ends")

    def test_swap_two(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.swap(PROOFS[0], PROOFS[1])
        forgery.swap(INPUTS[0], INPUTS[1])
        rejected(forgery.done(), toolchain, "shard 0: the chain is broken: it does not start at the constant c_0")

    def test_swap_two_proofs_alone(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.swap(PROOFS[0], PROOFS[1])
        rejected(forgery.done(), toolchain, "shard 0: bb refutes it")

    def test_reorder_whole_chunks(self, forgery: Forgery, toolchain: Toolchain) -> None:
        """Chunks 0 and 1 exchanged, numbers, links and commitments made to fit: only the proofs say no."""
        forgery.swap(INPUTS[0], INPUTS[1])
        forgery.swap(PROOFS[0], PROOFS[1])
        middle = fresh_secret()
        forgery.set_word(INPUTS[0], BEFORE, FIRST_LINK)
        forgery.set_word(INPUTS[0], AFTER, middle)
        forgery.set_word(INPUTS[1], BEFORE, middle)
        forgery.set_word(INPUTS[1], AFTER, forgery.shard(2).before)
        rejected(forgery.done(), toolchain, f"commitment of 'alice': {LEAVES}")
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "proof: bb refutes it")  # ρ hashes the statement, hence the commitments

    @staticmethod
    def of_this_verdict(forgery: Forgery, t: int) -> None:
        """Give a shard the verdict's challenges."""
        for index, word in enumerate(forgery.words()[RHO : S + 1]):
            forgery.set_word(INPUTS[t], index, word)

    def test_from_another_round(self, forgery: Forgery, other: Example, toolchain: Toolchain) -> None:
        forgery.copy(other.bundle, *shard_files(1))
        rejected(forgery.done(), toolchain, "shard 1: its rho is not the verdict's")
        self.of_this_verdict(forgery, 1)
        rejected(forgery.done(), toolchain, "shard 1: the chain is broken")
        forgery.set_word(INPUTS[1], BEFORE, forgery.shard(0).after)
        forgery.set_word(INPUTS[1], AFTER, forgery.shard(2).before)
        rejected(forgery.done(), toolchain, f"commitment of 'alice': {LEAVES}")
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    def test_from_another_proof_of_this_round(self, forgery: Forgery, again: Path, toolchain: Toolchain) -> None:
        """Its clients' leaves fit, but its challenges are others: distances cannot be chosen after them."""
        forgery.copy(again, *shard_files(1))
        rejected(forgery.done(), toolchain, "shard 1: its rho is not the verdict's")
        self.of_this_verdict(forgery, 1)
        forgery.set_word(INPUTS[1], BEFORE, forgery.shard(0).after)
        forgery.set_word(INPUTS[1], AFTER, forgery.shard(2).before)
        rejected(forgery.done(), toolchain, "aggregate: the leaves of the proof do not make up A")
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    def test_verdict_from_another_proof_of_this_round(
        self, forgery: Forgery, again: Path, toolchain: Toolchain
    ) -> None:
        forgery.copy(again, PROOF, PUBLIC_INPUTS)
        rejected(forgery.done(), toolchain, "shard 0: its rho is not the verdict's")


class TestLinks:
    def test_change_one_leaf(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.set_word(INPUTS[1], LEAF + 2, 5)
        rejected(forgery.done(), toolchain, f"commitment of 'carol': {LEAVES}")

    def test_exchange_two_leaves(self, forgery: Forgery, toolchain: Toolchain) -> None:
        first, second, *_ = forgery.shard(1).leaves
        forgery.set_word(INPUTS[1], LEAF, second)
        forgery.set_word(INPUTS[1], LEAF + 1, first)
        rejected(forgery.done(), toolchain, f"commitment of 'alice': {LEAVES}")

    def test_change_one_leaf_and_its_commitment(self, forgery: Forgery, sharded: Example, toolchain: Toolchain) -> None:
        forgery.set_word(INPUTS[1], LEAF + 2, 5)
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "proof: bb refutes it")
        reason = "commitment of 'carol': the bundle's is not the one in"
        rejected(forgery.path, toolchain, reason, commitments=sharded.home.commitments)

    @pytest.mark.parametrize("t", range(T))
    def test_change_one_link(self, forgery: Forgery, toolchain: Toolchain, t: int) -> None:
        forgery.set_word(INPUTS[t], AFTER, 5)
        broken = f"shard {t + 1}: the chain is broken: it does not start at where shard {t} ends"
        last = "verdict: the chain is broken: it does not start where the last shard ends"
        rejected(forgery.done(), toolchain, broken if t + 1 < T else last)

    @pytest.mark.parametrize("t", range(T - 1))
    def test_change_a_link_on_both_sides(self, forgery: Forgery, toolchain: Toolchain, t: int) -> None:
        forgery.set_word(INPUTS[t], AFTER, 5)
        forgery.set_word(INPUTS[t + 1], BEFORE, 5)
        rejected(forgery.done(), toolchain, f"shard {t}: bb refutes it")

    def test_change_the_last_link_on_both_sides(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.set_word(INPUTS[T - 1], AFTER, 5)
        forgery.set_word(PUBLIC_INPUTS, LINK, 5)
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    def test_start_elsewhere(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.set_word(INPUTS[0], BEFORE, 5)
        rejected(forgery.done(), toolchain, "shard 0: the chain is broken: it does not start at the constant c_0")

    def test_change_a_leaf_of_the_aggregate(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.set_word(INPUTS[1], LEAF + N, 5)
        rejected(forgery.done(), toolchain, "aggregate: the leaves of the proof do not make up A")
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    @pytest.mark.parametrize("index", range(N + 1))
    def test_change_a_challenge(self, forgery: Forgery, toolchain: Toolchain, index: int) -> None:
        """ρ, each x and s': in one shard, in all of them, and in the verdict too."""
        name = ["rho", *(f"x[{client}]" for client in CLIENTS[1:]), "s"][index]
        forgery.set_word(INPUTS[2], index, 5)
        rejected(forgery.done(), toolchain, f"shard 2: its {name} is not the verdict's")
        for each in INPUTS:
            forgery.set_word(each, index, 5)
        rejected(forgery.done(), toolchain, f"shard 0: its {name} is not the verdict's")
        forgery.set_word(PUBLIC_INPUTS, RHO + index, 5)
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    @pytest.mark.parametrize("index", [0, 1, 2, 3, BEFORE, AFTER])
    def test_alias_modulo_p(self, forgery: Forgery, toolchain: Toolchain, index: int) -> None:
        value = forgery.words(INPUTS[1])[index]
        forgery.set_word(INPUTS[1], index, value + P)
        rejected(forgery.done(), toolchain, f"{INPUTS[1]}: a word is not below the field modulus")

    @pytest.mark.parametrize("data", [b"", bytes(32), bytes(33)])
    def test_size(self, forgery: Forgery, toolchain: Toolchain, data: bytes) -> None:
        forgery.write(INPUTS[1], data)
        rejected(forgery.done(), toolchain, f"{INPUTS[1]}: expected")
        forgery.write(PUBLIC_INPUTS, data)
        forgery.fix_hashes()
        rejected(forgery.done(fix=False), toolchain, f"public_inputs: expected {32 * (N + 6)} bytes")

    @pytest.mark.parametrize("name", [PUBLIC_INPUTS, *INPUTS])
    def test_every_word(self, forgery: Forgery, toolchain: Toolchain, name: str) -> None:
        """Whatever bit of a public input is turned, no bb is needed to see it."""
        original = forgery.data(name)
        for offset in range(5, len(original), 32):
            forgery.flip(name, offset)
            checked = verify(forgery.done(), toolchain)
            assert not checked.ok
            assert "bb" not in checked.reason
            forgery.write(name, original)


class TestProofsAndKeys:
    @pytest.mark.parametrize("t", range(T))
    @pytest.mark.parametrize("offset", [600, 3000, -20])
    def test_flip(self, forgery: Forgery, toolchain: Toolchain, t: int, offset: int) -> None:
        forgery.flip(PROOFS[t], offset)
        rejected(forgery.done(), toolchain, f"shard {t}: bb refutes it")

    def test_flip_without_fixing_hashes(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.flip(PROOFS[1], 900)
        rejected(forgery.done(fix=False), toolchain, f"{PROOFS[1]}: its hash is not the one in the manifest")

    def test_the_first_that_fails_is_named(self, forgery: Forgery, toolchain: Toolchain) -> None:
        for t in (1, 2):
            forgery.flip(PROOFS[t], 900)
        for jobs in (1, 4):
            rejected(forgery.done(), toolchain, "shard 1: bb refutes it", jobs=jobs)

    @pytest.mark.parametrize("name", ["vk", "vk.shard", "vk.last"])
    def test_keys(self, forgery: Forgery, toolchain: Toolchain, name: str) -> None:
        original = forgery.data(name)
        for other in ({"vk", "vk.shard", "vk.last"} - {name}) | {""}:
            forgery.write(name, forgery.data(other) if other else original[:-1] + bytes([original[-1] ^ 1]))
            rejected(forgery.done(), toolchain, f"{name}: not the verification key of this statement")

    def test_last_key_missing(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.drop("vk.last")
        rejected(forgery.done(), toolchain, "manifest: vk.last is missing")

    def test_proof_of_one_circuit_instead(
        self, sharded: Example, forgery: Forgery, toolchain: Toolchain, tmp_path: Path
    ) -> None:
        whole = replace(sharded.round, params=replace(sharded.round.params, chunk=63))
        prove(Material.commit_values(whole, sharded.material.q, toolchain.bb.hash_many), tmp_path / "one", toolchain)
        forgery.copy(tmp_path / "one", PROOF, PUBLIC_INPUTS, VK)
        rejected(forgery.done(), toolchain, f"public_inputs: expected {32 * (N + 6)} bytes")
        path = forged(tmp_path / "one", tmp_path / "renamed", lambda f: f.manifest.update(form="sharded"))
        rejected(path, toolchain, "manifest: form: d = 60 in chunks of 63 makes 1, so it is not 'sharded'")


# Lies about the size of the round


class TestClaims:
    def test_claimed_d(self, forgery: Forgery, toolchain: Toolchain) -> None:
        """One coordinate fewer, everything else made to fit: the last shard is of another shape."""
        forgery.manifest["round"]["parameters"]["d"] = 59
        rejected(forgery.done(), toolchain, f"commitment of 'alice': {LEAVES}")
        forgery.fix_commitments()
        checked = verify(forgery.done(), toolchain)
        assert checked.reason == "vk.last: not the verification key of this statement (circuit 'shard')"
        theirs = build(shard_circuit(forgery.params, 59 - 2 * CHUNK), toolchain)
        forgery.write("vk.last", verification_key(theirs, toolchain))
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    @pytest.mark.parametrize(
        ("chunk", "reason"),
        [
            (42, "shards: d = 60 in chunks of 42 makes 2, found 3"),
            (63, "form: d = 60 in chunks of 63 makes 1, so it is not 'sharded'"),
            (22, "chunk must be a positive multiple of 21"),
            (0, "chunk must be a positive multiple of 21"),
        ],
    )
    def test_chunk(self, forgery: Forgery, toolchain: Toolchain, chunk: int, reason: str) -> None:
        forgery.manifest["round"]["parameters"]["chunk"] = chunk
        rejected(forgery.done(fix=False), toolchain, reason)

    def test_endless_round(self, forgery: Forgery, toolchain: Toolchain) -> None:
        """A claim of a hundred million shards is refused at once, not listed."""
        forgery.manifest["round"]["parameters"].update(d=2**31 - 1, b=8, chunk=31)
        rejected(forgery.done(fix=False), toolchain, "found 3")

    @pytest.mark.parametrize("field", ["clip", "round_id"])
    def test_context(self, forgery: Forgery, toolchain: Toolchain, field: str) -> None:
        value: Any = {"clip": 1.5, "round_id": "0x" + "77" * 32}[field]
        forgery.manifest["round"][field] = value
        rejected(forgery.done(), toolchain, f"commitment of 'alice': {LEAVES}")
        forgery.fix_commitments()
        rejected(forgery.done(), toolchain, "proof: bb refutes it")

    def test_verdict(self, forgery: Forgery, toolchain: Toolchain) -> None:
        forgery.manifest["verdict"].update(malicious=False, flagged=[])
        forgery.fix_accepted()
        rejected(forgery.done(), toolchain, "public_inputs: malicious is not that of this round")
        forgery.set_word(PUBLIC_INPUTS, MALICIOUS, 0)
        forgery.set_word(PUBLIC_INPUTS, MALICIOUS + 1, 0)
        rejected(forgery.done(), toolchain, "proof: bb refutes it")


# A server that proves another computation: its own jobs, the real circuits


@dataclass
class Server:
    """Proves shard by shard and writes a bundle, honestly or not.

    Parameters
    ----------
    round
        What it claims to prove.
    actual
        The round whose chunks it proves, with the context of the claimed one.
    openings
        Of `actual`.
    """

    round: Round
    actual: Round
    openings: list[Opening]
    tools: Toolchain
    home: Path

    def __post_init__(self) -> None:
        object.__setattr__(self.actual, "context", self.round.context)
        p, hash = self.actual.params, self.tools.bb.hash_many
        self.outcome: Outcome = Krum(p)(np.stack([o.q for o in self.openings]))
        own = [leaves(o, p, hash) for o in self.openings]
        self.transcript = Transcript.of(self.actual, self.openings, own, self.outcome, Secrets.fresh(p), hash)

    def shard(self, t: int, /, **lies: Any) -> JobProof:
        p = self.actual.params
        inputs = {**shard_inputs(self.transcript, t, self.tools.bb.hash_many), **lies}
        job = Job(f"s{t}", shard_circuit(p, len(p.chunk_range(t))), inputs, threads=1)
        return run_job(job, self.home, self.tools)

    def verdict(self, **lies: Any) -> JobProof:
        inputs = {**verdict_inputs(self.transcript), **lies}
        return run_job(Job("verdict", verdict_circuit(self.actual.params), inputs, threads=1), self.home, self.tools)

    def claiming(self, distances: Any) -> tuple[Server, dict[str, Any]]:
        """Claim distances before ρ is known: the server that goes on from there, and the lies of its verdict.

        The verdict is complete in itself: its link hides the form of the claims, not that of the committed values.
        """
        p, hash, old = self.actual.params, self.tools.bb.hash_many, self.transcript
        made = Transcript.of(
            self.actual, self.openings, old.leaves[:-1], Krum(p).of_distances(distances), old.secrets, hash
        )
        q = np.stack([o.q for o in self.openings])
        claimed = [*pair_list(distances), *made.claims[p.pairs :]]
        new = rho(p, made.statement, claimed, old.secrets.blind, hash)
        values = evaluations(p, q, made.aggregate, new)
        combined = combination(p, new, values)
        challenge = Challenge.of(new, old.secrets.blind, combined, made.accepted, p.n, hash)
        true = [claims(q[:, c.start : c.stop], p.b) for c in map(p.chunk_range, range(p.chunks))]
        links = Links.of(p, challenge, true, values, old.secrets.blinds, hash)
        liar = replace(self)
        liar.outcome = made.outcome
        liar.transcript = replace(made, claims=claimed, challenge=challenge, links=links)
        form = form_of_claims(challenge.x, claimed)
        assert form != links.forms[-1]
        link = hash([(form, links.residues[-1], links.blinds[-1])])[0]
        return liar, {"form": form, "link": link}

    def bundle(self, path: Path, **lies: Any) -> Forgery:
        """Write everything down, claiming `round`; the lies are the verdict's."""
        p, made = self.round.params, self.transcript
        data: dict[str, bytes] = {}
        for t in range(p.chunks):
            done = self.shard(t)
            data |= zip(shard_files(t), (done.proof, done.public_inputs), strict=True)
        done = self.verdict(**lies)
        data |= {PROOF: done.proof, PUBLIC_INPUTS: done.public_inputs}
        for name, circuit in Form.SHARDED.circuits(p).items():
            data[name] = verification_key(build(circuit, self.tools), self.tools)
        public, last = PublicChallenge.of(made.challenge), lies.get("link", made.sharded_links.links[-1])
        manifest = Manifest.describe(
            self.round,
            by_clients=True,
            commitments=made.commitments[:-1],
            aggregate=made.commitments[-1],
            verdict=self.outcome.verdict,
            words=verdict_words(self.round, made.statement, public, last, self.outcome.verdict),
            gates=dict.fromkeys(Form.SHARDED.circuits(p), 0),
            files=data,
            seconds={},
        )
        source = path.with_name(path.name + "-source")
        source.mkdir()
        write(source, manifest, data)
        return Forgery(source, path)


@pytest.fixture
def server(sharded: Example, toolchain: Toolchain, tmp_path: Path) -> Server:
    home = tmp_path / "server"
    home.mkdir(mode=0o700)
    return Server(sharded.round, replace(sharded.round), list(sharded.material.openings), toolchain, home)


class TestServer:
    def test_honest(self, server: Server, sharded: Example, tmp_path: Path) -> None:
        """The same code without a lie makes a bundle that verifies; so what fails below fails for its lie."""
        path = server.bundle(tmp_path / "bundle").done()
        checked = verify(path, server.tools, commitments=sharded.home.commitments)
        assert checked.ok, checked.reason

    def test_a_verdict_on_invented_distances(self, server: Server, tmp_path: Path) -> None:
        """bb accepts it: by itself a verdict proves nothing. The shards of the committed values do not lead to it."""
        swapped = [4, 1, 2, 3, 0]
        invented = server.outcome.distances[np.ix_(swapped, swapped)]
        liar, lies = server.claiming(invented)
        assert (server.outcome.verdict.flagged, liar.outcome.verdict.flagged) == ((4,), (0,))
        forgery = liar.bundle(tmp_path / "forged", **lies)
        assert server.tools.bb.verify(forgery.data(VK), forgery.data(PROOF), forgery.data(PUBLIC_INPUTS))
        broken = "verdict: the chain is broken: it does not start where the last shard ends"
        rejected(forgery.done(), server.tools, broken)
        for t in range(T):
            for name in shard_files(t):
                forgery.drop(name)
        rejected(forgery.done(), server.tools, "makes 3, found 0: a verdict without all its shards proves nothing")

    def test_last_shard_with_filling_that_is_not_zero(
        self, sharded: Example, toolchain: Toolchain, tmp_path: Path
    ) -> None:
        """Client and server hide three coordinates in the filling of the last word.

        The commitments are over 63 coordinates and everything is proved about them, while d = 60 is claimed. The
        leaves have as many words, so all that can tell is the circuit of the last shard: there the filling is a
        constant, and its key is another.
        """
        rng = np.random.default_rng(3)
        claimed = sharded.round
        openings = [
            Opening(np.append(o.q, rng.integers(-2000, 2000, size=3)), o.salt) for o in sharded.material.openings
        ]
        (tmp_path / "server").mkdir(mode=0o700)
        actual = replace(claimed, params=replace(claimed.params, d=63))
        server = Server(claimed, actual, openings, toolchain, tmp_path / "server")
        forgery = server.bundle(tmp_path / "forged")
        checked = rejected(forgery.done(), toolchain, "shard 2: bb refutes it")
        assert checked.form == Form.SHARDED
        forgery.write("vk.last", forgery.data("vk.shard"))
        rejected(forgery.done(), toolchain, "vk.last: not the verification key of this statement")
        # Nor does the right circuit prove it: its own filling gives another leaf.
        honest = replace(server, actual=replace(claimed), openings=list(sharded.material.openings))
        *wrong, _ = server.transcript.leaves_of_chunk(2)
        with pytest.raises(ConstraintError, match="leaf"):
            honest.shard(2, leaves=wrong)

    @pytest.mark.parametrize(
        ("lie", "message"),
        [
            (lambda s: {"form_before": s.transcript.links.forms[1] + 1}, "link"),
            (lambda s: {"residue_before": s.transcript.links.residues[1] + 1}, "link"),
            (lambda s: {"link_after": 5}, "link"),
            (lambda s: {"leaves": [5] * N}, "leaf"),
            (lambda s: {"leaf_of_sum": 5}, "leaf"),
            (lambda s: {"rho": 5}, "link"),
            (lambda s: {"scaled_s": 5}, "link"),
        ],
        ids=["form", "residue", "link", "leaf", "aggregate", "rho", "s"],
    )
    def test_circuit_refuses(self, server: Server, lie: Callable[[Server], dict[str, Any]], message: str) -> None:
        with pytest.raises(ConstraintError, match=message):
            server.shard(1, **lie(server))


# Proving


class TestProve:
    def test_reference_differs(
        self, sharded: Example, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        true_rule = Krum.of_distances

        def wrong(self: Krum, distances: Any) -> Outcome:
            outcome = true_rule(self, distances)
            return replace(outcome, verdict=replace(outcome.verdict, malicious=False))

        monkeypatch.setattr(Krum, "of_distances", wrong)
        with pytest.raises(ToolFailedError, match="the circuit's public inputs and the NumPy reference differ"):
            prove(sharded.material, tmp_path / "bundle", toolchain)
        assert not (tmp_path / "bundle").exists()

    def test_work_directory(self, sharded: Example, toolchain: Toolchain, tmp_path: Path) -> None:
        work, seen = tmp_path / ".bundle.work", []

        def watch(what: str, done: int, total: int) -> None:
            if what == "proofs" and work.exists():
                seen.append((stat.S_IMODE(work.stat().st_mode), stat.S_IMODE((work / "run.json").stat().st_mode)))

        prove(sharded.material, tmp_path / "bundle", toolchain, progress=watch)
        assert set(seen) == {(0o700, 0o600)}
        assert sorted(p.name for p in tmp_path.iterdir()) == ["aggregate.npz", "bundle"]

    def test_progress_counts_every_proof(self, sharded: Example, toolchain: Toolchain, tmp_path: Path) -> None:
        seen = []
        prove(
            sharded.material,
            tmp_path / "bundle",
            toolchain,
            progress=lambda what, done, total: seen.append((done, total)) if what == "proofs" else None,
        )
        proofs = seen[: T + 2]  # the rest is the verifier's
        assert proofs == [(k, T + 1) for k in range(T + 2)]

    @pytest.mark.parametrize("jobs", [1, 2, 4])
    def test_jobs(
        self, sharded: Example, toolchain: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
    ) -> None:
        """So many proofs at once, each with its share of the cores, and never more prepared than twice that."""
        threads: list[int] = []
        true_prove = toolchain.bb.prove

        def spy(*arguments: Any, **options: Any) -> Any:
            threads.append(options["threads"])
            return true_prove(*arguments, **options)

        monkeypatch.setattr(toolchain.bb, "prove", spy)
        proved = prove(sharded.material, tmp_path / "bundle", toolchain, ProveOptions(jobs=jobs))
        assert proved.verification.ok
        assert len(threads) == T + 1
        assert set(threads) == {max(1, running.default_jobs(1 << 30) // jobs)}

    def test_updates_only(self, toolchain: Toolchain, tmp_path: Path, crs: Path) -> None:
        updates_directory(tmp_path / "round", vectors(1))
        terms = Terms(clip=CLIP, overrides={"chunk": CHUNK})
        material = load(tmp_path / "round", toolchain.bb.hash_many, terms)
        assert not material.by_clients
        prove(material, tmp_path / "bundle", toolchain)
        checked = verify(tmp_path / "bundle", toolchain)
        assert checked.ok
        assert checked.commitments_by == "server"

    def test_resume_needs_something(self, sharded: Example, toolchain: Toolchain, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="nothing to resume"):
            prove(sharded.material, tmp_path / "bundle", toolchain, ProveOptions(resume=True))


class TestRunAll:
    """The driver of any executor, with jobs that only pretend."""

    def pretend(self, count: int, fail: int | None = None, at_once: int = 2) -> tuple[list[str], list[str], int]:
        taken: list[str] = []
        ahead = 0
        finished: list[str] = []
        circuit = shard_circuit(Params.of(N, D, chunk=CHUNK), CHUNK)

        def jobs() -> Any:
            nonlocal ahead
            for k in range(count):
                taken.append(str(k))
                ahead = max(ahead, len(taken) - len(finished))
                yield Job(str(k), circuit, {}, 1)

        def run(job: Job) -> JobProof:
            if fail is not None and int(job.name) == fail:
                raise ConstraintError("no", "hint")
            return JobProof(job.name, b"", b"", 0.0, 0.0)

        executor: Executor
        with ThreadPoolExecutor(at_once) as executor:
            if fail is None:
                run_all(jobs(), executor, run, at_once, lambda done: finished.append(done.name))
            else:
                with pytest.raises(ConstraintError, match="no"):
                    run_all(jobs(), executor, run, at_once, lambda done: finished.append(done.name))
        return taken, finished, ahead

    def test_each_once(self) -> None:
        taken, finished, ahead = self.pretend(50)
        assert sorted(finished, key=int) == taken == [str(k) for k in range(50)]
        assert ahead <= 5

    def test_none(self) -> None:
        assert self.pretend(0) == ([], [], 0)

    def test_first_error_stops_the_rest(self) -> None:
        taken, finished, _ = self.pretend(50, fail=7)
        assert len(taken) <= 7 + 5
        assert "7" not in finished


class TestCommitment:
    """The same leaf from Python's hash, from bb's and in the circuit."""

    @pytest.mark.parametrize("t", [0, T - 1])
    def test_three_hashes(self, sharded: Example, t: int) -> None:
        """The circuit's leaves are the public inputs of a proof that holds."""
        p = sharded.round.params
        for i, opening in enumerate(sharded.material.openings):
            python = leaves(opening, p)
            assert Forgery.words_of(sharded.bundle, INPUTS[t])[LEAF + i] == python[t]
            assert commit(sharded.round, i, opening) == sharded.material.commitments[i]

    @pytest.mark.parametrize(("b", "d"), [(8, 1), (10, 77), (12, 100), (14, 37), (16, 31)])
    def test_bb_and_python(self, toolchain: Toolchain, b: int, d: int) -> None:
        rng = np.random.default_rng(b)
        p = Params.of(N, d, b)
        half = 1 << b - 1
        opening = Opening(rng.integers(-half, half, size=d), fresh_secret())
        assert leaves(opening, p) == leaves(opening, p, toolchain.bb.hash_many)

    def test_a_million_parameters(self, toolchain: Toolchain) -> None:
        d = 10**6
        round = open_round(CLIENTS, d, CLIP)
        update = Update("alice", np.random.default_rng(1).normal(size=d), ())
        opening, commitment = commit_update(round, "alice", update, toolchain.bb.hash_many)
        native = leaves(opening, round.params, toolchain.bb.hash_many)
        assert chain(round.context, 0, native) == commitment
        last = round.params.chunk_range(round.params.chunks - 1)
        tail = [*words(circuit_values(opening.q[last.start :], round.params.b), round.params.b)]
        assert hash_many([[*tail, hash_many([(opening.salt, round.params.chunks - 1)])[0]]])[0] == native[-1]

    def test_the_memory_of_a_client_with_a_million_parameters(self, tmp_path: Path) -> None:
        np.save(tmp_path / "alice.npy", np.random.default_rng(1).normal(size=10**6).astype(np.float32))
        save_round(tmp_path / "round.toml", open_round(CLIENTS, 10**6, CLIP))
        script = (
            "import sys; from zkkrum.bench import memory_of_tree; from zkkrum.cli import main\n"
            "with memory_of_tree() as peak: main(sys.argv[1:], standalone_mode=False)\n"
            "print(int(peak()))"
        )
        words = ["commit", "alice.npy", "--round", "round.toml"]
        done = subprocess.run(
            [sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert int(done.stdout.split()[-1]) < 500e6
