"""Forecasts of a round on chain: sizes are those of the calls, batches fit a transaction, nothing is left out."""

from __future__ import annotations

import hashlib

import pytest

from zkkrum.evm import gas
from zkkrum.evm.transactions import TRANSACTION_BYTES, TRANSACTION_GAS, Evidence
from zkkrum.proof.form import VK, Form, shard_key
from zkkrum.proof.statement import PublicChallenge
from zkkrum.protocol.forecast import default_chunk
from zkkrum.protocol.params import Params, Round
from zkkrum.protocol.sizes import points_for, proof_bytes

SELECTORS = dict.fromkeys(("submit", "begin", "prove", "conclude"), bytes.fromhex("a1b2c3d4"))


def shape(n: int, d: int, ceiling: int = 32_700) -> Params:
    params = Params.of(n=n, d=d)
    return Params.of(n=n, d=d, chunk=default_chunk(params, ceiling))


def random_bytes(count: int, tag: str) -> bytes:
    return hashlib.shake_256(tag.encode()).digest(count)


def made_up(params: Params) -> Evidence:
    """Evidence of the right size, of random words."""
    gates = Form.of(params).gates(params)

    def words(count: int, tag: str) -> list[int]:
        data = random_bytes(32 * count, tag)
        return [int.from_bytes(data[k : k + 32], "big") >> 2 for k in range(0, len(data), 32)]

    def proof(key: str, tag: str) -> bytes:
        size, zero = proof_bytes(points_for(gates[key])), 32 * gas.PROOF_ZERO_WORDS
        return bytes(zero) + random_bytes(size - zero, tag)

    roster = tuple(f"0x{i + 1:040x}" for i in range(params.n))
    round = Round(params, 1.0, roster, random_bytes(32, "id"))
    leaves = [words(params.n + 1, f"leaf {t}") for t in range(params.chunks)]
    if params.chunks == 1:
        return Evidence(round, (1, 2, 1), leaves, proof(VK, "top"))
    return Evidence(
        round,
        (1, 2, 1),
        leaves,
        proof(VK, "top"),
        PublicChallenge.parse(words(params.n + 1, "challenges")),
        words(params.chunks + 1, "links"),
        [proof(shard_key(params, t), f"shard {t}") for t in range(params.chunks)],
    )


@pytest.mark.parametrize(
    ("n", "d", "ceiling"),
    [(5, 60, 32_700), (10, 540, 32_700), (10, 20_000, 32_700), (10, 61_706, 261_000), (40, 3000, 32_700)],
)
def test_sizes_are_those_of_the_calls_and_gas_is_near(n: int, d: int, ceiling: int) -> None:
    params = shape(n, d, ceiling)
    found = gas.forecast(params)
    told = made_up(params)
    calls = told.calls(gas.batch_size(params))
    expected = [cost for cost in found.verdict for _ in range(cost.count)]
    assert len(calls) == len(expected) == found.transactions
    for call, cost in zip(calls, expected, strict=True):
        data = call.data(SELECTORS)
        assert len(data) == cost.bytes
        assert gas.gas_of(call, data, params) == pytest.approx(cost.gas, rel=0.002)


@pytest.mark.parametrize("d", [5_000, 61_706])
def test_batches_for_plain_verifiers_fit_a_transaction(d: int) -> None:
    """Under Osaka, too, where that limit is the chain's."""
    params = shape(10, d, 32_700)
    batch = gas.batch_size(params, optimized=False)
    assert 1 < batch < gas.batch_size(params)
    for call in made_up(params).calls(batch):
        found = gas.gas_of(call, call.data(SELECTORS), params, optimized=False)
        osaka = len(call.shards) * (gas.OSAKA_PLAIN_VERIFIER - gas.PLAIN_VERIFIER)
        assert found + osaka < 2**24, call.title


@pytest.mark.parametrize("n", [3, 5, 10, 20, 49, 100, 253])
@pytest.mark.parametrize("chunks", [1, 2, 3, 13, 14, 15, 28, 29, 100_000])
def test_batches_fit_a_transaction_and_cover_every_shard(n: int, chunks: int) -> None:
    chunk = 21 * 40
    params = Params.of(n=n, d=chunk * chunks - 5, chunk=chunk, detection=None)
    found = gas.forecast(params)
    for cost in found.verdict:
        assert cost.bytes + 256 <= TRANSACTION_BYTES
        assert cost.gas < TRANSACTION_GAS
    if chunks > 1:
        shards = sum(
            int(cost.title.split()[1]) * cost.count for cost in found.verdict if cost.title.startswith("prove")
        )
        assert shards == chunks == found.proofs - 1
        assert found.osaka_verdict_gas - found.verdict_gas == gas.OSAKA_VERIFIER * (chunks + 1)
        assert 1 <= found.batch <= chunks


def test_larger_shards_cost_less() -> None:
    found = gas.larger_shards(shape(10, 61_706))
    assert [larger.points for larger in found] == [2**15, 2**16, 2**17, 2**18]
    costs = [larger.gas for larger in found]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] <= 73_000_000
    assert costs[-1] <= 12_000_000


def test_calldata_are_priced_by_the_byte() -> None:
    assert gas.calldata_gas(b"\0\1\2\0") == 40
