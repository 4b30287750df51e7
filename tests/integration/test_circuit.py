"""The circuits against the reference on honest witnesses, and every assertion of theirs against a lie.

No assertion stands untested: ``scripts/mutate_circuits.py`` removes each in turn and expects this file to notice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from support.circuits import (
    BLIND,
    Case,
    Lie,
    Program,
    Workshop,
    ascending,
    copy_sources,
    get,
    inverse,
    ones,
    put,
    scored,
    solve,
    symmetric,
    with_deviation,
    with_median,
    with_score,
)
from support.shared_vectors import VECTORS, vector
from zkkrum.errors import InputError
from zkkrum.proof import circuit as module
from zkkrum.proof.circuit import round_circuit, shard_circuit, verdict_circuit
from zkkrum.proof.jobs import Job, run_job
from zkkrum.proof.shards import public_words
from zkkrum.proof.statement import encode, round_words
from zkkrum.proof.witness import rule_inputs
from zkkrum.protocol.aggregate import Aggregate
from zkkrum.protocol.challenge import Challenge, Links, claims, combination, evaluations, form_of_claims
from zkkrum.protocol.field import P, pack
from zkkrum.protocol.krum import Brackets, Krum, Mad, lower_median, pair_list
from zkkrum.protocol.params import Acceptance, Detection, Params, Score
from zkkrum.protocol.poseidon2 import hash_one
from zkkrum.protocol.quantize import Integers
from zkkrum.protocol.transcript import Transcript
from zkkrum.protocol.widths import Widths
from zkkrum.toolchain import Toolchain

ALL_PAIRS, BRACKETS = Score.ALL_PAIRS, Detection.BRACKETS

MAD_ROUND = Params.of(6, 3, 8, m=2)
BRACKETS_ROUND = Params.of(6, 3, 8, score=ALL_PAIRS, detection=BRACKETS)
WORDS_ROUND = Params.of(5, 40, 8)
"""Two words a client, the second partial, and two of the aggregate; n = 2f + 3."""
LEAVES_ROUND = Params.of(5, 40, 8, chunk=31)
"""The same in two leaves, hence in shards."""
SELECTED_ROUND = Params.of(6, 3, 8, m=4, f=1, acceptance=Acceptance.SELECTED)

SHAPES = {
    "krum-2017 mad m=2": MAD_ROUND,
    "krum-2017 mad n=2f+3 b=14": Params.of(5, 3, 14),
    "krum-2017 brackets b=12": Params.of(6, 3, 12, detection=BRACKETS),
    "all-pairs mad m=3 b=16": Params.of(6, 3, 16, score=ALL_PAIRS, m=3),
    "all-pairs brackets": BRACKETS_ROUND,
    "n=3 b=10 m=n": Params.of(3, 3, 10, m=3),
    "selected m=4": SELECTED_ROUND,
    "selected m=1": Params.of(6, 3, 8, m=1, acceptance=Acceptance.SELECTED),
    "n=2f+3 m=n-f selected": Params.of(5, 3, 8, f=1, m=4, acceptance=Acceptance.SELECTED),
}

BIT = "assert(bit * bit == bit"
BORROW = "assert_range::<BITS, LIMB>(x - y - 1"
"""What refuses the wrong side of a comparison; its message is the range's, so the call must tell which one."""
SIGN = "assert((2 * bit - 1) * size == x"


@pytest.fixture(scope="module", autouse=True)
def sources(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Noir sources whose call stacks tell the right lines: the checkout's, or a mutant's under ``--circuits``."""
    folder = tmp_path_factory.mktemp("circuits")
    copy_sources(Path(request.config.getoption("circuits", None) or module.source_folder()), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "source_folder", lambda: folder)
        yield folder


@pytest.fixture(scope="module")
def workshop(sources: Path, toolchain: Toolchain, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(toolchain, tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def mad(workshop: Workshop) -> Program:
    return workshop.program(round_circuit(MAD_ROUND))


@pytest.fixture(scope="module")
def brackets(workshop: Workshop) -> Program:
    return workshop.program(round_circuit(BRACKETS_ROUND))


@pytest.fixture(scope="module")
def two_words(workshop: Workshop) -> Program:
    return workshop.program(round_circuit(WORDS_ROUND))


@pytest.fixture(scope="module")
def by_selection(workshop: Workshop) -> Program:
    return workshop.program(round_circuit(SELECTED_ROUND))


@pytest.fixture(scope="module")
def shard(workshop: Workshop) -> Program:
    return workshop.program(shard_circuit(LEAVES_ROUND, 31))


@pytest.fixture(scope="module")
def verdict(workshop: Workshop) -> Program:
    return workshop.program(verdict_circuit(LEAVES_ROUND))


@pytest.fixture(scope="module")
def compare(workshop: Workshop) -> Program:
    return workshop.crate(Path(__file__).parents[1] / "circuits" / "compare")


def mad_case(name: str = "one outlier") -> Case:
    return Case(MAD_ROUND, vector(name))


def brackets_case(name: str = "one outlier") -> Case:
    return Case(BRACKETS_ROUND, vector(name))


def words_case(seed: int = 1, params: Params = WORDS_ROUND) -> Case:
    """Four honest clients and one far away, in forty coordinates."""
    rng = np.random.default_rng(seed)
    q = rng.integers(-9, 10, (params.n, params.d))
    q[3] += 60
    return Case(params, q)


def leaves_case(seed: int = 1) -> Case:
    return words_case(seed, LEAVES_ROUND)


def clients_with(inputs: Lie, bits: str, value: int) -> list[int]:
    """Return the clients whose bit of the detection has a value; there must be some."""
    found = [i for i, bit in enumerate(inputs["detection"][bits]) if bit == value]
    assert found
    return found


def framing(case: Case) -> Transcript:
    """Return a lie whose scores frame client 0 for client 5, with the aggregate that follows."""
    scores = list(case.outcome.scores)
    scores[0], scores[5] = scores[5], scores[0]
    framed = scored(case, scores)
    assert framed.verdict.flagged == (0,)
    true = case.transcript.claims
    return case.lying(outcome=framed, claims=true)


def unordered_claims(case: Case, framed: Transcript) -> list[int]:
    """Return claims in the field that pack to the words of the true ones, satisfy the form and sum to the framed
    scores: nothing but their range forbids them."""
    p, true, x = case.params, list(case.transcript.claims), framed.challenge.x
    pairs = list(combinations(range(p.n), 2))
    width = Widths.of(p).distance
    per = 252 // width
    same_words = [
        [1 << width * (k % per) if k // per == w else 0 for k in range(p.claims)] for w in range(-(-p.claims // per))
    ]
    same_form = [[*(-x[i] * x[j] for i, j in pairs), *(sum(x) * x[i] for i in range(p.n))]]
    sums = [[*(int(client in pair) for pair in pairs), *[0] * p.n] for client in range(p.n)]
    gained = [a - b for a, b in zip(framed.outcome.scores, case.outcome.scores, strict=True)]
    change = solve([*same_words, *same_form, *sums], [0] * len([*same_words, *same_form]) + gained)
    claims = [(a + b) % P for a, b in zip(true, change, strict=True)]
    assert [word % P for word in pack(claims, width)] == pack(true, width)
    return claims


class TestHonest:
    @pytest.mark.parametrize("name", VECTORS)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_round_agrees_with_the_reference(self, workshop: Workshop, shape: str, name: str) -> None:
        params = SHAPES[shape]
        case = Case(params, vector(name, params.n, params.b))
        program = workshop.program(round_circuit(params))
        assert program.outputs(case.inputs(), case.outcome.verdict.public_words())

    @pytest.mark.parametrize("seed", range(3))
    def test_two_words_agree_with_the_reference(self, two_words: Program, seed: int) -> None:
        case = words_case(seed)
        assert two_words.outputs(case.inputs(), case.outcome.verdict.public_words())

    def test_verdict_agrees_with_the_reference(self, verdict: Program) -> None:
        case = leaves_case()
        assert case.outcome.verdict.flagged == (3,)
        assert verdict.outputs(case.verdict_inputs(), case.outcome.verdict.public_words())

    def test_extremes_that_only_a_dishonest_client_encodes(self, mad: Program) -> None:
        q = vector("one outlier")
        q[5] = -128
        case = Case(MAD_ROUND, q)
        assert mad.outputs(case.inputs(), case.outcome.verdict.public_words())

    @pytest.mark.parametrize("word", range(3), ids=["malicious", "flagged", "selected"])
    def test_no_other_outputs_than_the_reference(self, mad: Program, word: int) -> None:
        words = [*mad_case().outcome.verdict.public_words()]
        words[word] ^= 1
        assert not mad.outputs(mad_case().inputs(), words)

    def test_public_inputs_of_a_proof(self, workshop: Workshop, crs: Path, tmp_path: Path) -> None:
        case, lie = mad_case(), mad_case().transcript
        job = Job("round", round_circuit(MAD_ROUND), case.inputs(), threads=1)
        words = round_words(case.round, lie.statement, lie.leaves_of_chunk(0), case.outcome.verdict)
        assert run_job(job, tmp_path, workshop.tools).public_inputs == encode(words)

    def test_public_inputs_of_shards_and_verdict(self, workshop: Workshop, crs: Path, tmp_path: Path) -> None:
        case, p = leaves_case(), LEAVES_ROUND
        top, *shards = (encode(words) for _, words in public_words(case.transcript))
        for t, expected in enumerate(shards):
            job = Job(f"shard-{t}", shard_circuit(p, len(p.chunk_range(t))), case.shard_inputs(t), threads=1)
            assert run_job(job, tmp_path, workshop.tools).public_inputs == expected
        job = Job("verdict", verdict_circuit(p), case.verdict_inputs(), threads=1)
        assert run_job(job, tmp_path, workshop.tools).public_inputs == top


class TestHarmless:
    """Advice that the circuit leaves open: it changes no output, so nothing needs to forbid it."""

    def test_another_blind(self, mad: Program) -> None:
        case = mad_case()
        lie = case.lying(secrets=replace(case.secrets, blind=BLIND + 1))
        assert mad.outputs(case.inputs(lie), case.outcome.verdict.public_words())

    def test_another_salt_of_the_aggregate(self, mad: Program) -> None:
        case = mad_case()
        lie = case.lying(secrets=replace(case.secrets, salt=5))
        assert mad.outputs(case.inputs(lie), case.outcome.verdict.public_words())

    def test_a_sum_whose_lanes_carry(self, mad: Program) -> None:
        """S_0 + 2^SB and S_1 - 1 make the same word: words are opaque here, and who opens A checks the range."""
        case = mad_case()
        total = case.transcript.aggregate.total.copy()
        total[0] += 1 << case.params.sum_bits
        total[1] -= 1
        (word,) = case.inputs()["words_of_sum"]
        assert sum(int(x) << case.params.sum_bits * k for k, x in enumerate(total)) == word
        with pytest.raises(InputError, match=r"sum\[0\] = \d+ is not in \[0, 2\^11\)"):
            Aggregate(total, 1).check(case.params, "holder")

    def test_other_neighbours_among_equally_near_ones(self, workshop: Workshop) -> None:
        """The cycle 0 → 1 → 2 → 0 of clients that are equally far from each other."""
        params = SHAPES["n=3 b=10 m=n"]
        case = Case(params, vector("3-cycle", 3))
        assert len(set(pair_list(case.outcome.distances))) == 1
        cycle = put(case.inputs(), "score.near", [[1, 0], [0, 1], [1, 0]])
        assert workshop.program(round_circuit(params)).outputs(cycle, case.outcome.verdict.public_words())

    def test_another_pivot_between_the_same_neighbours(self, mad: Program) -> None:
        case = mad_case()
        row = sorted(int(x) for j, x in enumerate(case.outcome.distances[0]) if j)
        pivot = row[case.params.neighbours]
        assert pivot > get(case.inputs(), "score.pivots.0")
        lie = put(case.inputs(), "score.pivots.0", pivot)
        assert mad.outputs(lie, case.outcome.verdict.public_words())

    def test_another_pivot_between_the_same_keys(self, mad: Program) -> None:
        case = mad_case()
        lie = put(case.inputs(), "selection.pivot", case.inputs()["selection"]["pivot"] + 1)
        assert mad.outputs(lie, case.outcome.verdict.public_words())

    @pytest.mark.parametrize("name", ["zeros", "four duplicates"])
    def test_an_inverse_of_a_median_of_zero(self, mad: Program, name: str) -> None:
        case = mad_case(name)
        assert isinstance(case.outcome.detection, Mad)
        assert case.outcome.detection.median == 0
        lie = put(case.inputs(), "detection.median_inverse", 5)
        assert mad.outputs(lie, case.outcome.verdict.public_words())

    def test_an_inverse_of_nobody_flagged(self, mad: Program) -> None:
        case = mad_case("all scores tie")
        assert not case.outcome.verdict.malicious
        lie = put(case.inputs(), "detection.flagged_inverse", 5)
        assert mad.outputs(lie, case.outcome.verdict.public_words())


class TestOpenings:
    MESSAGE = "leaf: values and salt do not open it"

    def test_a_value_other_than_committed(self, mad: Program) -> None:
        case = mad_case()
        q = case.q.copy()
        q[5] = q[0]  # the outlier is made to look like another
        other = Case(MAD_ROUND, q)
        mad.refuses(other.inputs(other.lying(client_leaves=case.leaves)), self.MESSAGE)

    @pytest.mark.parametrize("coordinate", [0, 30, 31, 39])
    def test_a_value_of_any_word(self, two_words: Program, coordinate: int) -> None:
        case = words_case()
        q = case.q.copy()
        q[2, coordinate] += 1
        other = Case(WORDS_ROUND, q)
        two_words.refuses(other.inputs(other.lying(client_leaves=case.leaves)), self.MESSAGE)

    @pytest.mark.parametrize("client", [0, 5])
    def test_a_salt_other_than_committed(self, mad: Program, client: int) -> None:
        lie = mad_case().inputs()
        mad.refuses(put(lie, f"salts.{client}", lie["salts"][client] + 1), self.MESSAGE)

    @pytest.mark.parametrize("client", [0, 5])
    def test_a_leaf_that_nobody_opens(self, mad: Program, client: int) -> None:
        case = mad_case()
        made_up = [*case.leaves]
        made_up[client] = [12345]
        mad.refuses(case.inputs(case.lying(client_leaves=made_up)), self.MESSAGE)

    def test_leaves_in_another_order(self, mad: Program) -> None:
        case = mad_case()
        mad.refuses(case.inputs(case.lying(client_leaves=case.leaves[::-1])), self.MESSAGE)

    @pytest.mark.parametrize("step", [1, -1], ids=["2^b", "negative"])
    def test_values_out_of_range_that_pack_to_the_same_word(self, mad: Program, step: int) -> None:
        """v_0 ± 2^b and v_1 ∓ 1 make up the committed word: only the range of a value forbids them."""
        case = mad_case()
        lie = case.inputs()
        v = lie["values"][5]
        lie = put(put(lie, "values.5.0", (v[0] + 256 * step) % P), "values.5.1", (v[1] - step) % P)
        mad.refuses(lie, None, "values[i][k].assert_max_bit_size", "assert_values")


class TestDistances:
    MESSAGE = "distances: differ from those of the committed values"
    RANGE = "assert_range::<BITS, LIMB>(x)"

    @pytest.mark.parametrize(("i", "j"), [(0, 1), (0, 5), (2, 3), (4, 5)])
    @pytest.mark.parametrize("by", [1, -1, 4096])
    def test_a_wrong_distance(self, mad: Program, i: int, j: int, by: int) -> None:
        case = mad_case()
        claimed = Krum(MAD_ROUND).of_distances(symmetric(case.outcome.distances, i, j, by))
        mad.refuses(case.inputs(case.lying(outcome=claimed)), self.MESSAGE)

    @pytest.mark.parametrize("i", [0, 3, 5])
    @pytest.mark.parametrize("by", [1, -1, 512])
    def test_a_wrong_norm(self, mad: Program, i: int, by: int) -> None:
        case = mad_case()
        claims = [*case.transcript.claims]
        claims[case.params.pairs + i] += by
        mad.refuses(case.inputs(case.lying(claims=claims)), self.MESSAGE)

    def test_distances_of_other_clients(self, mad: Program) -> None:
        case = mad_case()
        order = [5, 1, 2, 3, 4, 0]
        mad.refuses(case.inputs(case.lying(outcome=Krum(MAD_ROUND)(case.q[order]))), self.MESSAGE)

    def test_distances_all_shifted_by_what_sums_to_zero(self, mad: Program) -> None:
        """Two distances moved against each other keep every score but four."""
        case = mad_case()
        d = symmetric(symmetric(case.outcome.distances, 0, 1, 700), 2, 3, -700)
        mad.refuses(case.inputs(case.lying(outcome=Krum(MAD_ROUND).of_distances(abs(d)))), self.MESSAGE)

    @pytest.mark.parametrize("first", [0, 14], ids=["distances", "a distance and a norm"])
    def test_claims_wider_than_their_slot(self, mad: Program, first: int) -> None:
        """Two claims that share a word: the first + 2^width, the second - 1."""
        case = mad_case()
        width = Widths.of(MAD_ROUND).distance
        assert first // (252 // width) == (first + 1) // (252 // width)
        claims = [*case.transcript.claims]
        claims[first] += 1 << width
        claims[first + 1] -= 1
        lie = {**case.inputs(), "claims": claims}
        mad.refuses(lie, None, self.RANGE, "assert_ranges")

    def test_claims_that_are_no_integers(self, brackets: Program) -> None:
        case = brackets_case()
        framed = framing(case)
        lie = {**case.inputs(framed), "claims": unordered_claims(case, framed)}
        brackets.refuses(lie, None, self.RANGE, "assert_ranges")


class TestChallenges:
    X, S = "challenges: x is not y scaled", "challenges: s' is not s scaled"

    def test_challenges_that_do_not_follow_from_the_blind(self, mad: Program) -> None:
        mad.refuses({**mad_case().inputs(), "blind": BLIND + 1}, self.X)

    def test_another_statement_than_the_challenges(self, mad: Program) -> None:
        lie = mad_case().inputs()
        mad.refuses({**lie, "statement": lie["statement"] + 1}, self.X)

    @pytest.mark.parametrize("i", [0, 2, 4])
    def test_another_x(self, mad: Program, i: int) -> None:
        lie = mad_case().inputs()
        mad.refuses(put(lie, f"scaled.{i}", lie["scaled"][i] + 1), self.X)

    def test_another_s(self, mad: Program) -> None:
        lie = mad_case().inputs()
        mad.refuses(put(lie, "scaled_s", lie["scaled_s"] + 1), self.S)

    def test_an_x_solved_for_a_wrong_distance(self, mad: Program) -> None:
        """With a free x_5 the form can be made to hold for a wrong D_05: the norms being true, it is linear in x_5."""
        case = mad_case()
        lie = case.lying(outcome=Krum(MAD_ROUND).of_distances(symmetric(case.outcome.distances, 0, 5, 500)))
        x = list(lie.challenge.x)

        def gap(last: int) -> int:
            u = [sum(c * int(v) for c, v in zip([*x[:5], last], column, strict=True)) for column in (case.q + 128).T]
            return (sum(c * c for c in u) - form_of_claims([*x[:5], last], lie.claims)) % P

        x[5] = -gap(0) * inverse(gap(1) - gap(0)) % P
        assert gap(x[5]) == 0
        mad.refuses(put(case.inputs(lie), "scaled.4", x[5]), self.X)

    def test_an_s_solved_for_a_wrong_sum(self, mad: Program) -> None:
        """With a free s' the residue of any S can be made to be Z."""
        case = mad_case()
        total = case.transcript.aggregate.total.copy()
        total[0] += 1
        lie = case.lying(total=total)
        values = evaluations(MAD_ROUND, case.q, lie.aggregate, lie.challenge.rho)[0]
        y0 = (1 + hash_one([lie.challenge.rho, lie.challenge.combined, BLIND])) % P
        target = lie.challenge.combined * inverse(y0)
        u = sum(x * v for x, v in zip(lie.challenge.x, values[:-1], strict=True))
        mad.refuses({**case.inputs(lie), "scaled_s": (u - target) * inverse(values[-1]) % P}, self.S)

    def test_z_chosen_after_s(self, mad: Program) -> None:
        """Z := y_0·residue makes any S pass, but s hashes Z."""
        case = mad_case()
        total = case.transcript.aggregate.total.copy()
        total[0] += 1
        lie = case.lying(total=total)
        y0 = (1 + hash_one([lie.challenge.rho, lie.challenge.combined, BLIND])) % P
        values = evaluations(MAD_ROUND, case.q, lie.aggregate, lie.challenge.rho)[0]
        step = sum(x * v for x, v in zip(lie.challenge.x, values[:-1], strict=True))
        residue = (step - lie.challenge.scaled_s * values[-1]) % P
        mad.refuses({**case.inputs(lie), "combined": y0 * residue % P}, self.X)


class TestAggregate:
    SUM = "aggregate: not the sum of the accepted"
    LEAF = "leaf: words and salt do not open that of the aggregate"

    @staticmethod
    def total(case: Case, clients: list[int]) -> Integers:
        return Aggregate.of(case.q, clients, case.params.b, 0).total

    @pytest.mark.parametrize("coordinate", [0, 1, 2])
    @pytest.mark.parametrize("by", [1, -1])
    def test_one_coordinate_off_by_one(self, mad: Program, coordinate: int, by: int) -> None:
        case = mad_case()
        total = case.transcript.aggregate.total.copy()
        total[coordinate] += by
        mad.refuses(case.inputs(case.lying(total=total)), self.SUM)

    @pytest.mark.parametrize("coordinate", [0, 21, 22, 39])
    def test_one_coordinate_of_any_word(self, two_words: Program, coordinate: int) -> None:
        case = words_case()
        total = case.transcript.aggregate.total.copy()
        total[coordinate] += 1
        two_words.refuses(case.inputs(case.lying(total=total)), self.SUM)

    def test_words_in_another_order(self, two_words: Program) -> None:
        case = words_case()
        g = WORDS_ROUND.group
        total = case.transcript.aggregate.total.copy()
        total[: 2 * g] = np.concatenate([total[g : 2 * g], total[:g]])
        two_words.refuses(case.inputs(case.lying(total=total)), self.SUM)

    @pytest.mark.parametrize("clients", [[0, 1, 2, 3, 4], [0, 1, 2], [0], [0, 1, 2, 3, 4, 5], []])
    def test_a_sum_of_other_clients_than_the_accepted(self, mad: Program, clients: list[int]) -> None:
        """A flagged client accepted, an accepted one left out, everybody, nobody."""
        case = mad_case()
        assert case.transcript.accepted == (0, 1, 2, 4)
        mad.refuses(case.inputs(case.lying(total=self.total(case, clients))), self.SUM)

    @pytest.mark.parametrize("wrong", ["unflagged", "selected"])
    def test_a_sum_by_another_acceptance(self, by_selection: Program, wrong: str) -> None:
        """Where the selected are accepted: the unflagged that are not selected, or the selected that are flagged."""
        name = {"unflagged": "lowest scores tie", "selected": "3-cycle"}[wrong]
        case = Case(SELECTED_ROUND, vector(name))
        verdict = case.outcome.verdict
        assert by_selection.outputs(case.inputs(), verdict.public_words())
        others = {"unflagged": [i for i in range(6) if i not in verdict.flagged], "selected": list(verdict.selected)}
        assert len(case.transcript.accepted) < len(others[wrong])
        by_selection.refuses(case.inputs(case.lying(total=self.total(case, others[wrong]))), self.SUM)

    def test_the_aggregate_of_another_round(self, mad: Program) -> None:
        case = mad_case()
        other = mad_case("two flagged").transcript.aggregate.total
        mad.refuses(case.inputs(case.lying(total=other)), self.SUM)

    def test_words_that_are_no_packed_sums(self, mad: Program) -> None:
        """The words of S are opaque: one that equals the sum's mod p is the sum's, any other is refused."""
        case = mad_case()
        (word,) = case.inputs()["words_of_sum"]
        for other in (word + 1, P - 1, 0):
            lie = {**case.inputs(), "words_of_sum": [other]}
            mad.refuses(lie, self.LEAF)
            salt = lie["salt_of_sum"]
            mad.refuses({**lie, "leaf_of_sum": hash_one([other, salt])}, self.SUM)

    def test_another_salt(self, mad: Program) -> None:
        lie = mad_case().inputs()
        mad.refuses({**lie, "salt_of_sum": lie["salt_of_sum"] + 1}, self.LEAF)

    def test_another_leaf(self, mad: Program) -> None:
        mad.refuses({**mad_case().inputs(), "leaf_of_sum": 5}, self.LEAF)

    @pytest.mark.parametrize("by", [1, -1])
    def test_another_z_with_s_hashed_from_it(self, mad: Program, by: int) -> None:
        case = mad_case()
        lie = case.lying(combined=(case.transcript.challenge.combined + by) % P)
        mad.refuses(case.inputs(lie), self.SUM)


class TestScores:
    NEAREST = "neighbours: not the nearest"
    NUMBER = "neighbours: wrong number"
    SUM = "score: not the sum over the neighbours"

    @staticmethod
    def row(case: Case, i: int = 0) -> tuple[list[int], list[int]]:
        """Return the distances of client i to the others, and these others by ascending distance."""
        others = [int(x) for j, x in enumerate(case.outcome.distances[i]) if j != i]
        return others, ascending(others)

    def test_a_neighbour_counted_twice(self, mad: Program) -> None:
        """near = 1, 2, 0, …: the sum over two neighbours instead of three, pivot included."""
        case = mad_case()
        others, order = self.row(case)
        near, pivot = [0] * 5, others[order[1]]
        near[order[0]], near[order[1]] = 1, 2
        lie = put(put(case.inputs(), "score.near.0", near), "score.pivots.0", pivot)
        score = others[order[0]] + 2 * others[order[1]]
        assert score < case.outcome.scores[0]
        mad.refuses(with_score(case, lie, 0, score), self.NEAREST, BIT)

    def test_one_neighbour_too_many(self, mad: Program) -> None:
        """With four near ones and a pivot beyond the fourth, their sum less the pivot passes for a lower score."""
        case = mad_case()
        others, order = self.row(case)
        pivot = others[order[3]] + 1
        assert pivot < others[order[4]]
        lie = put(put(case.inputs(), "score.near.0", ones(5, order[:4])), "score.pivots.0", pivot)
        score = sum(others[k] for k in order[:4]) - pivot
        assert score < case.outcome.scores[0]
        mad.refuses(with_score(case, lie, 0, score), self.NUMBER)

    def test_one_neighbour_too_few(self, mad: Program) -> None:
        """With two near ones their sum plus the pivot, which need not be the third's distance."""
        case = mad_case()
        others, order = self.row(case)
        pivot = others[order[1]]
        lie = put(put(case.inputs(), "score.near.0", ones(5, order[:2])), "score.pivots.0", pivot)
        score = others[order[0]] + 2 * pivot
        assert score < case.outcome.scores[0]
        mad.refuses(with_score(case, lie, 0, score), self.NUMBER)

    @pytest.mark.parametrize("at", [2, 3, 4], ids=["pivot before", "pivot between", "pivot at the farther"])
    def test_a_farther_neighbour(self, mad: Program, at: int) -> None:
        case = mad_case()
        others, order = self.row(case)
        members = [*order[:2], order[4]]
        lie = put(put(case.inputs(), "score.near.0", ones(5, members)), "score.pivots.0", others[order[at]])
        score = sum(others[k] for k in members)
        mad.refuses(with_score(case, lie, 0, score), self.NEAREST, SIGN)

    @pytest.mark.parametrize(("at", "by"), [(2, -1), (3, 1)], ids=["below a near one", "above another"])
    def test_a_wrong_pivot(self, mad: Program, at: int, by: int) -> None:
        case = mad_case()
        others, order = self.row(case)
        mad.refuses(put(case.inputs(), "score.pivots.0", others[order[at]] + by), self.NEAREST, SIGN)

    @pytest.mark.parametrize("by", [1, -1])
    @pytest.mark.parametrize("i", [0, 5])
    def test_a_wrong_score(self, mad: Program, i: int, by: int) -> None:
        case = mad_case()
        mad.refuses(with_score(case, case.inputs(), i, case.outcome.scores[i] + by), self.SUM)

    @pytest.mark.parametrize("by", [1, -1])
    @pytest.mark.parametrize("i", [0, 5])
    def test_a_wrong_score_of_all_pairs(self, brackets: Program, i: int, by: int) -> None:
        case = brackets_case()
        lie = with_score(case, case.inputs(), i, case.outcome.scores[i] + by)
        brackets.refuses(lie, "score: not the sum over all others")


class TestSelection:
    LOWEST = "selection: not the lowest scores"
    NUMBER = "selection: wrong number"

    @staticmethod
    def claim(case: Case, chosen: list[int], pivot_of: int) -> Lie:
        selection = {"chosen": chosen, "pivot": case.outcome.scores[pivot_of] * case.params.n + pivot_of}
        return {**case.inputs(), "selection": selection}

    def test_the_lowest_counted_twice(self, mad: Program) -> None:
        """One client with the bit 2 makes up m = 2, and the bitmap names the next client."""
        case = mad_case()
        lowest = ascending(case.outcome.scores)[0]
        mad.refuses(self.claim(case, [2 * x for x in ones(6, [lowest])], lowest), self.LOWEST, BIT)

    @pytest.mark.parametrize("count", [0, 1, 3, 6])
    def test_another_number_than_m(self, mad: Program, count: int) -> None:
        case = mad_case()
        order = ascending(case.outcome.scores)
        lie = self.claim(case, ones(6, order[:count]), order[max(count - 1, 0)])
        if count == 0:  # below every key
            lie["selection"]["pivot"] = 0
        mad.refuses(lie, self.NUMBER)

    @pytest.mark.parametrize("pivot", [1, 2, 5])
    def test_another_client_than_the_lowest(self, mad: Program, pivot: int) -> None:
        case = mad_case()
        order = ascending(case.outcome.scores)
        lie = self.claim(case, ones(6, [order[0], order[5]]), order[pivot])
        mad.refuses(lie, self.LOWEST, SIGN)

    def test_a_tie_broken_the_other_way(self, mad: Program) -> None:
        case = mad_case("all scores tie")
        assert case.outcome.verdict.selected == (0, 1)
        mad.refuses(self.claim(case, ones(6, [0, 2]), 2), self.LOWEST, SIGN)

    @pytest.mark.parametrize(("at", "by"), [(1, -1), (2, 1)], ids=["below a chosen one", "above another"])
    def test_a_wrong_pivot(self, mad: Program, at: int, by: int) -> None:
        case = mad_case()
        order = ascending(case.outcome.scores)
        lie = self.claim(case, ones(6, order[:2]), order[at])
        lie["selection"]["pivot"] += by
        mad.refuses(lie, self.LOWEST, SIGN)


class TestMedians:
    """Both medians go through one assertion, each under its own message."""

    COUNT = "assert(count == ((N - 1) / 2 + 1)"
    MEMBER = "assert(product == 0"

    @pytest.fixture(params=["median", "deviation"])
    def which(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @staticmethod
    def message(which: str) -> str:
        return {
            "median": "median: not the lower median",
            "deviation": "deviation: not the lower median of |s - M|",
        }[which]

    @staticmethod
    def values(case: Case, which: str) -> list[int]:
        """Return what the median is taken of."""
        scores = list(case.outcome.scores)
        return scores if which == "median" else [abs(s - lower_median(scores)) for s in scores]

    def claim(self, case: Case, which: str, value: int, low: list[int]) -> Lie:
        return (with_median if which == "median" else with_deviation)(case, value, low)

    def test_the_honest_claim_passes(self, mad: Program, which: str) -> None:
        case = mad_case()
        values = self.values(case, which)
        lie = self.claim(case, which, lower_median(values), ones(6, ascending(values)[:3]))
        assert mad.outputs(lie, case.outcome.verdict.public_words())

    def test_the_upper_median_with_one_low_one_too_many(self, mad: Program, which: str) -> None:
        case = mad_case()
        values = self.values(case, which)
        order = ascending(values)
        assert values[order[3]] > values[order[2]]
        lie = self.claim(case, which, values[order[3]], ones(6, order[:4]))
        mad.refuses(lie, self.message(which), self.COUNT)

    def test_the_upper_median_that_is_none_of_the_low_ones(self, mad: Program, which: str) -> None:
        case = mad_case()
        values = self.values(case, which)
        order = ascending(values)
        lie = self.claim(case, which, values[order[3]], ones(6, order[:3]))
        mad.refuses(lie, self.message(which), self.MEMBER)

    def test_a_number_between_the_medians(self, mad: Program, which: str) -> None:
        case = mad_case("two flagged" if which == "median" else "unattributed")
        values = self.values(case, which)
        order = ascending(values)
        assert values[order[3]] > values[order[2]] + 1
        lie = self.claim(case, which, values[order[2]] + 1, ones(6, order[:3]))
        mad.refuses(lie, self.message(which), self.MEMBER)

    def test_a_lower_element_with_too_few_low_ones(self, mad: Program, which: str) -> None:
        case = mad_case()
        values = self.values(case, which)
        order = ascending(values)
        lie = self.claim(case, which, values[order[1]], ones(6, order[:2]))
        mad.refuses(lie, self.message(which), self.COUNT)

    def test_a_low_one_counted_twice(self, mad: Program, which: str) -> None:
        """Where the two lowest tie, bits 1 and 2 make up three low ones: a lower median than the true one."""
        case = mad_case("lowest scores tie" if which == "median" else "two pairs of duplicates")
        values = self.values(case, which)
        order = ascending(values)
        assert values[order[0]] == values[order[1]]
        low = ones(6, order[:2])
        low[order[1]] = 2
        mad.refuses(self.claim(case, which, values[order[0]], low), self.message(which), BIT)

    def test_a_low_one_above_the_median(self, mad: Program, which: str) -> None:
        case = mad_case()
        values = self.values(case, which)
        order = ascending(values)
        lie = self.claim(case, which, values[order[2]], ones(6, [order[0], order[2], order[5]]))
        mad.refuses(lie, self.message(which), SIGN)

    def test_an_outlier_as_the_median(self, mad: Program, which: str) -> None:
        """Which would flag nobody: three low ones, one of which equals the value, but others below it left out."""
        case = mad_case()
        values = self.values(case, which)
        order = ascending(values)
        lie = self.claim(case, which, values[order[5]], ones(6, [order[0], order[1], order[5]]))
        mad.refuses(lie, self.message(which), SIGN)


class TestMad:
    """ "one outlier" flags clients 3 and 5; in "beyond z, not gamma" client 0 is far in deviations only."""

    CALL = "assert_greater::<THRESHOLD_BITS, LIMB, _>(self.{}[i]"
    INVERSE = "median: wrong inverse"
    MALICIOUS = "malicious: wrong inverse"

    @staticmethod
    def flags(lie: Lie, n: int) -> Lie:
        """Make the count's inverse follow from the bits."""
        detection = lie["detection"]
        count = sum(detection["beyond"][i] * detection["excess"][i] for i in range(n))
        return put(lie, "detection.flagged_inverse", inverse(count))

    def test_a_median_declared_zero_to_suppress_the_flags(self, mad: Program) -> None:
        lie = put(mad_case().inputs(), "detection.median_inverse", 0)
        mad.refuses(put(lie, "detection.flagged_inverse", 0), self.INVERSE)

    def test_a_median_inverse_that_doubles_the_bitmap(self, mad: Program) -> None:
        """has_scale = 2 would flag client i + 1 in the place of i."""
        case = mad_case()
        assert isinstance(case.outcome.detection, Mad)
        lie = put(case.inputs(), "detection.median_inverse", 2 * inverse(case.outcome.detection.median) % P)
        count = 2 * len(case.outcome.verdict.flagged)
        mad.refuses(put(lie, "detection.flagged_inverse", inverse(count)), self.INVERSE)

    @pytest.mark.parametrize("bits", ["beyond", "excess"])
    @pytest.mark.parametrize("now", [0, 1], ids=["set", "cleared"])
    @pytest.mark.parametrize("name", ["one outlier", "the original's example", "two flagged"])
    def test_a_threshold_bit_flipped(self, mad: Program, name: str, now: int, bits: str) -> None:
        honest = mad_case(name).inputs()
        for i in clients_with(honest, bits, now):
            lie = put(honest, f"detection.{bits}.{i}", 1 - now)
            mad.refuses(self.flags(lie, 6), None, BORROW, self.CALL.format(bits))

    def test_a_score_exactly_at_a_threshold_is_not_beyond_it(self, mad: Program) -> None:
        case = mad_case("all scores tie")  # s - M = 0 = z·A
        mad.refuses(put(case.inputs(), "detection.beyond.2", 1), None, BORROW, self.CALL.format("beyond"))

    @pytest.mark.parametrize(
        ("bits", "message"), [("beyond", "threshold z: wrong side"), ("excess", "threshold gamma: wrong side")]
    )
    def test_a_threshold_bit_that_is_no_bit(self, mad: Program, bits: str, message: str) -> None:
        lie = put(mad_case().inputs(), f"detection.{bits}.5", 2)
        mad.refuses(self.flags(lie, 6), message, BIT)

    def test_a_flagged_round_declared_honest(self, mad: Program) -> None:
        mad.refuses(put(mad_case().inputs(), "detection.flagged_inverse", 0), self.MALICIOUS)

    def test_a_malicious_that_is_no_bit(self, mad: Program) -> None:
        mad.refuses(put(mad_case().inputs(), "detection.flagged_inverse", 1), self.MALICIOUS)


SIDES = {
    "below": "brackets: wrong side of the mean (below)",
    "above": "brackets: wrong side of the mean (above)",
    "near": "brackets: wrong bracket",
    "beyond": "threshold z: wrong side",
}


WIDTHS = {"below": "BITS", "above": "BITS", "near": "NEAR_BITS", "beyond": "THRESHOLD_BITS"}


class TestBrackets:
    @staticmethod
    def counted(lie: Lie) -> Lie:
        """Make malicious follow from the bits."""
        d = lie["detection"]
        low = sum(b * near for b, near in zip(d["below"], d["near"], strict=True))
        high = sum(a * near for a, near in zip(d["above"], d["near"], strict=True))
        return put(lie, "detection.malicious", int(low > high))

    @pytest.mark.parametrize("now", [0, 1], ids=["set", "cleared"])
    @pytest.mark.parametrize("bits", SIDES)
    @pytest.mark.parametrize("name", ["one outlier", "beyond z, not malicious"])
    def test_a_bit_flipped(self, brackets: Program, name: str, bits: str, now: int) -> None:
        honest = brackets_case(name).inputs()
        for i in clients_with(honest, bits, now):
            lie = put(honest, f"detection.{bits}.{i}", 1 - now)
            if bits == "below":  # the bracket that `near` is about follows from the side
                lie = self.bracketed(brackets_case(name), lie, i)
            brackets.refuses(
                self.counted(lie), None, BORROW, f"assert_greater::<{WIDTHS[bits]}, LIMB, _>(self.{bits}[i]"
            )

    @staticmethod
    def bracketed(case: Case, lie: Lie, i: int) -> Lie:
        rule = case.outcome.detection
        assert isinstance(rule, Brackets)
        bound = rule.variance if lie["detection"]["below"][i] else 9 * rule.variance
        return put(lie, f"detection.near.{i}", int(4 * rule.deltas[i] ** 2 < bound))

    @pytest.mark.parametrize("bits", SIDES)
    def test_a_bit_that_is_no_bit(self, brackets: Program, bits: str) -> None:
        honest = brackets_case().inputs()
        lie = put(honest, f"detection.{bits}.{clients_with(honest, bits, 1)[0]}", 2)
        brackets.refuses(self.counted(lie), SIDES[bits], BIT)

    @pytest.mark.parametrize("side", ["below", "above"])
    def test_a_score_exactly_at_the_mean_counted_on_a_side(self, brackets: Program, side: str) -> None:
        case = brackets_case("a score at the mean")
        rule = case.outcome.detection
        assert isinstance(rule, Brackets)
        assert rule.variance > 0
        i = rule.deltas.index(0)
        lie = put(case.inputs(), f"detection.{side}.{i}", 1)
        brackets.refuses(self.counted(lie), None, BORROW, f"assert_greater::<BITS, LIMB, _>(self.{side}[i]")

    @pytest.mark.parametrize("name", ["one outlier", "unattributed", "beyond z, not malicious", "all scores tie"])
    def test_malicious_flipped(self, brackets: Program, name: str) -> None:
        case = brackets_case(name)
        lie = put(case.inputs(), "detection.malicious", 1 - int(case.outcome.verdict.malicious))
        brackets.refuses(lie, None, BORROW, "assert_greater::<BITS, LIMB, _>(self.malicious")

    def test_malicious_that_is_no_bit(self, brackets: Program) -> None:
        brackets.refuses(put(brackets_case().inputs(), "detection.malicious", 2), "brackets: wrong count", BIT)


class TestShard:
    LEAF = "leaf: values and salt do not open it"
    SUM = "leaf: words and salt do not open that of the aggregate"
    LINK = "link: does not open to the running sums"
    BEFORE, AFTER = "assert_link(link_before", "assert_link(link_after"

    @staticmethod
    def relinked(lie: Lie) -> Lie:
        """Make the link after follow from the inputs, whatever they are."""
        x, beta, p = [1, *lie["scaled"]], lie["rho"], LEAVES_ROUND
        form, residue, values = lie["form_before"], lie["residue_before"], lie["values"]
        for start, word in zip(range(0, len(values[0]), p.group), lie["words_of_sum"], strict=True):
            u = [
                sum(c * row[k] for c, row in zip(x, values, strict=True))
                for k in range(start, min(start + p.group, len(values[0])))
            ]
            form += sum(c * c for c in u)
            packed = sum(c << p.sum_bits * j for j, c in enumerate(u))
            residue = (residue * beta + packed - lie["scaled_s"] * word) % P
        return {**lie, "link_after": hash_one([form % P, residue, lie["blind_after"]])}

    @pytest.fixture
    def honest(self) -> Lie:
        return leaves_case().shard_inputs(0)

    def test_honest(self, shard: Program, honest: Lie) -> None:
        shard.execute(honest)
        assert self.relinked(honest) == honest

    def test_any_challenges_pass_here(self, shard: Program, honest: Lie) -> None:
        """ρ, x and s' are the verdict's to justify; the verifier compares them word by word."""
        lie = {**honest, "rho": 3, "scaled": [5, 6, 7, 8], "scaled_s": 9}
        shard.refuses(lie, self.LINK, self.AFTER)
        shard.execute(self.relinked(lie))

    @pytest.mark.parametrize("i", [0, 4])
    def test_a_leaf_that_nobody_opens(self, shard: Program, honest: Lie, i: int) -> None:
        shard.refuses(put(honest, f"leaves.{i}", 12345), self.LEAF)

    def test_a_salt_other_than_committed(self, shard: Program, honest: Lie) -> None:
        shard.refuses(put(honest, "salts.2", 5), self.LEAF)

    def test_a_value_other_than_committed(self, shard: Program, honest: Lie) -> None:
        lie = put(honest, "values.1.30", honest["values"][1][30] + 1)
        shard.refuses(self.relinked(lie), self.LEAF)

    def test_values_out_of_range_that_pack_to_the_same_word(self, shard: Program, honest: Lie) -> None:
        v = honest["values"][3]
        lie = put(put(honest, "values.3.0", v[0] + 256), "values.3.1", v[1] - 1)
        shard.refuses(self.relinked(lie), None, "values[i][k].assert_max_bit_size", "assert_values")

    def test_words_other_than_committed(self, shard: Program, honest: Lie) -> None:
        lie = put(honest, "words_of_sum.1", honest["words_of_sum"][1] + 1)
        shard.refuses(self.relinked(lie), self.SUM)

    @pytest.mark.parametrize("name", ["salt_of_sum", "leaf_of_sum"])
    def test_another_leaf_of_the_aggregate(self, shard: Program, honest: Lie, name: str) -> None:
        shard.refuses({**honest, name: 5}, self.SUM)

    @pytest.mark.parametrize("name", ["form_before", "residue_before"])
    def test_a_wrong_sum_before(self, shard: Program, honest: Lie, name: str) -> None:
        shard.refuses(self.relinked({**honest, name: 1}), self.LINK, self.BEFORE)

    @pytest.mark.parametrize("name", ["link_before", "blind_before"])
    def test_a_wrong_link_before(self, shard: Program, honest: Lie, name: str) -> None:
        shard.refuses({**honest, name: 7}, self.LINK, self.BEFORE)

    @pytest.mark.parametrize("name", ["link_after", "blind_after"])
    def test_a_wrong_link_after(self, shard: Program, honest: Lie, name: str) -> None:
        shard.refuses({**honest, name: 7}, self.LINK, self.AFTER)

    @pytest.mark.parametrize("hidden", [(1, 0), (0, 1)], ids=["form", "residue"])
    def test_a_link_after_that_hides_another_sum(self, shard: Program, honest: Lie, hidden: tuple[int, int]) -> None:
        links = leaves_case().transcript.sharded_links
        sums = [links.forms[1] + hidden[0], links.residues[1] + hidden[1]]
        shard.refuses({**honest, "link_after": hash_one([*sums, honest["blind_after"]])}, self.LINK, self.AFTER)


class TestVerdict:
    RHO = "rho: not of this statement and these claims"
    LINK = "link: does not open to the running sums"
    FORM = "distances: differ from those of the committed values"
    SUM = "aggregate: not the sum of the accepted"
    X, S = "challenges: x is not y scaled", "challenges: s' is not s scaled"

    @pytest.fixture
    def honest(self) -> Lie:
        return leaves_case().verdict_inputs()

    def test_another_rho(self, verdict: Program, honest: Lie) -> None:
        """Everything follows from the other ρ; that it hashes this statement and these claims is what remains."""
        case, t = leaves_case(), leaves_case().transcript
        other = t.challenge.rho + 1
        values = evaluations(LEAVES_ROUND, case.q, t.aggregate, other)
        chunks = [claims(case.q[:, c.start : c.stop], 8) for c in map(LEAVES_ROUND.chunk_range, range(2))]
        made = Challenge.of(other, BLIND, combination(LEAVES_ROUND, other, values), t.accepted, 5)
        links = Links.of(LEAVES_ROUND, made, chunks, values, case.secrets.blinds)
        verdict.refuses(case.verdict_inputs(replace(t, challenge=made, links=links)), self.RHO)

    @pytest.mark.parametrize("name", ["blind", "statement"])
    def test_what_rho_does_not_hash(self, verdict: Program, honest: Lie, name: str) -> None:
        verdict.refuses({**honest, name: 5}, self.RHO)

    def test_distances_claimed_after_rho(self, verdict: Program, honest: Lie) -> None:
        case = leaves_case()
        claimed = Krum(LEAVES_ROUND).of_distances(symmetric(case.outcome.distances, 0, 3, -9000))
        lie = {**case.verdict_inputs(case.lying(outcome=claimed)), "rho": honest["rho"]}
        verdict.refuses(lie, self.RHO)

    @pytest.mark.parametrize("norm", [False, True], ids=["distance", "norm"])
    def test_claims_made_before_rho(self, verdict: Program, norm: bool) -> None:
        """ρ hashes the wrong claims, and the shards sum the form of the true values under it."""
        case = leaves_case()
        if norm:
            made_up = [*case.transcript.claims]
            made_up[LEAVES_ROUND.pairs + 3] -= 9000
            lie = case.lying(claims=made_up)
        else:
            lie = case.lying(outcome=Krum(LEAVES_ROUND).of_distances(symmetric(case.outcome.distances, 0, 3, -9000)))
        inputs = case.verdict_inputs(lie)
        verdict.refuses(inputs, self.FORM)
        verdict.refuses({**inputs, "form": form_of_claims(lie.challenge.x, lie.claims)}, self.LINK)

    def test_a_sum_of_others_than_the_accepted(self, verdict: Program) -> None:
        """The statement commits to the sum of all, and the shards carry its residue."""
        case = leaves_case()
        total = Aggregate.of(case.q, range(5), 8, 0).total
        lie = case.lying(total=total)
        inputs = case.verdict_inputs(lie)
        verdict.refuses(inputs, self.SUM)
        y0 = 1 + hash_one([lie.challenge.rho, lie.challenge.combined, BLIND])
        verdict.refuses({**inputs, "residue": lie.challenge.combined * inverse(y0) % P}, self.LINK)

    def test_z_chosen_after_s(self, verdict: Program) -> None:
        case = leaves_case()
        lie = case.lying(total=Aggregate.of(case.q, range(5), 8, 0).total)
        y0 = 1 + hash_one([lie.challenge.rho, lie.challenge.combined, BLIND])
        combined = y0 * lie.sharded_links.residues[-1] % P
        verdict.refuses({**case.verdict_inputs(lie), "combined": combined}, self.X)

    @pytest.mark.parametrize("i", [0, 3])
    def test_another_x(self, verdict: Program, honest: Lie, i: int) -> None:
        verdict.refuses(put(honest, f"scaled.{i}", honest["scaled"][i] + 1), self.X)

    def test_another_s(self, verdict: Program, honest: Lie) -> None:
        verdict.refuses(put(honest, "scaled_s", honest["scaled_s"] + 1), self.S)

    def test_a_claim_out_of_range_that_packs_to_the_same_word(self, verdict: Program, honest: Lie) -> None:
        d = honest["claims"]
        lie = put(put(honest, "claims.0", d[0] + (1 << Widths.of(LEAVES_ROUND).distance)), "claims.1", d[1] - 1)
        verdict.refuses(lie, None, "assert_range::<BITS, LIMB>(x)", "assert_ranges")

    @pytest.mark.parametrize("name", ["link", "blind_of_link"])
    def test_another_end_of_the_chain(self, verdict: Program, honest: Lie, name: str) -> None:
        verdict.refuses({**honest, name: 3}, self.LINK)

    def test_the_rules_are_asserted_here_too(self, verdict: Program, honest: Lie) -> None:
        case = leaves_case()
        wrong = [*case.outcome.scores]
        wrong[0] += 1
        lie = {**honest, **rule_inputs(scored(case, wrong), case.params)}
        lie["score"] = put(honest, "score.scores.0", wrong[0])["score"]
        verdict.refuses(lie, "score: not the sum over the neighbours")
        flipped = put(honest, "detection.beyond.3", 0)
        verdict.refuses(put(flipped, "detection.flagged_inverse", 0), None, BORROW, TestMad.CALL.format("beyond"))
        order = ascending(case.outcome.scores)
        other = {"chosen": ones(5, order[1:2]), "pivot": case.outcome.scores[order[1]] * 5 + order[1]}
        verdict.refuses({**honest, "selection": other}, "selection: not the lowest scores")


HONEST_ADVICE: Lie = {
    "uneven": {"x": 0xFABCD, "limbs": [0xCD, 0xAB, 0xF]},
    "even": {"x": 0xABCD, "limbs": [0xCD, 0xAB]},
    "short": {"bit": 1, "size": 12, "x": 12},
    "wide": {"bit": 0, "size": 12, "x": P - 12},
    "range_short": 2**20 - 1,
    "range_wide": 2**20 - 1,
}


class TestCompare:
    """Lies about what the library's hints supply."""

    LIMB = "limbs[k].assert_max_bit_size::<LIMB>"
    LAST = "limbs[BITS / LIMB].assert_max_bit_size"
    SUM = "range: too wide"
    LIBRARY = "x.assert_max_bit_size::<BITS>"

    def test_honest(self, compare: Program) -> None:
        compare.execute(HONEST_ADVICE)

    @pytest.mark.parametrize("which", ["short", "wide"])
    @pytest.mark.parametrize(("bit", "size"), [(1, 0), (0, 0), (1, 2**20 - 1), (0, 2**20 - 1)])
    def test_both_signs_and_both_at_zero(self, compare: Program, which: str, bit: int, size: int) -> None:
        compare.execute({**HONEST_ADVICE, which: {"bit": bit, "size": size, "x": (2 * bit - 1) * size % P}})

    @pytest.mark.parametrize(
        ("which", "limbs"),
        [
            ("uneven", [0x1CD, 0xAA, 0xF]),
            ("uneven", [0xCD, 0x1AB, 0xE]),
            ("uneven", [0xCD - 0x100, 0xAC, 0xF]),
            ("even", [0x1CD, 0xAA]),
        ],
    )
    def test_a_limb_too_wide_with_the_right_sum(self, compare: Program, which: str, limbs: list[int]) -> None:
        lie = put(HONEST_ADVICE, f"{which}.limbs", [limb % P for limb in limbs])
        compare.refuses(lie, None, self.LIMB)

    def test_the_last_limb_too_wide(self, compare: Program) -> None:
        lie = {**HONEST_ADVICE, "uneven": {"x": 2**20, "limbs": [0, 0, 16]}}
        compare.refuses(lie, None, self.LAST)

    def test_the_last_limb_of_a_whole_width_too_wide(self, compare: Program) -> None:
        lie = {**HONEST_ADVICE, "even": {"x": 2**16, "limbs": [0, 256]}}
        compare.refuses(lie, None, self.LIMB)

    @pytest.mark.parametrize("which", ["uneven", "even"])
    def test_limbs_of_another_number(self, compare: Program, which: str) -> None:
        compare.refuses(put(HONEST_ADVICE, f"{which}.x", HONEST_ADVICE[which]["x"] + 1), self.SUM, "assert(sum == x")

    @pytest.mark.parametrize("x", [2**20, P - 1])
    def test_out_of_range_by_our_limbs(self, compare: Program, x: int) -> None:
        compare.refuses({**HONEST_ADVICE, "range_short": x}, self.SUM, "assert(sum == x", "assert_limbs")

    @pytest.mark.parametrize("x", [2**20, P - 1])
    def test_out_of_range_by_the_proof_systems_limbs(self, compare: Program, x: int) -> None:
        compare.refuses({**HONEST_ADVICE, "range_wide": x}, None, self.LIBRARY, "assert_range::<BITS, WIDE>")

    @pytest.mark.parametrize(("which", "statement"), [("short", "assert(sum == x"), ("wide", LIBRARY)])
    @pytest.mark.parametrize("bit", [0, 1])
    @pytest.mark.parametrize("size", [2**20, P - 12], ids=["too wide", "negative"])
    def test_a_size_out_of_range(self, compare: Program, which: str, statement: str, bit: int, size: int) -> None:
        """A negative size would make up for the wrong sign."""
        lie = {**HONEST_ADVICE, which: {"bit": bit, "size": size, "x": (2 * bit - 1) * size % P}}
        compare.refuses(lie, None, statement, "assert_range::<BITS, LIMB>(size)", "assert_size")

    @pytest.mark.parametrize("which", ["short", "wide"])
    @pytest.mark.parametrize("bit", [2, P - 1, inverse(2)])
    def test_a_bit_that_is_no_bit(self, compare: Program, which: str, bit: int) -> None:
        lie = {**HONEST_ADVICE, which: {"bit": bit, "size": 12, "x": (2 * bit - 1) * 12 % P}}
        compare.refuses(lie, f"{which}: wrong sign", BIT)

    @pytest.mark.parametrize("which", ["short", "wide"])
    @pytest.mark.parametrize(("bit", "x"), [(1, P - 12), (0, 12), (1, 13), (0, P - 13)])
    def test_another_number_than_sign_times_size(self, compare: Program, which: str, bit: int, x: int) -> None:
        lie = {**HONEST_ADVICE, which: {"bit": bit, "size": 12, "x": x}}
        compare.refuses(lie, f"{which}: wrong sign", SIGN)
