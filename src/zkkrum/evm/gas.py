"""Gas and calldata of a round on chain, forecast from its parameters alone: nothing runs.

Must not know an EVM or tools. The coefficients are measured, and tests hold every forecast against the gas of real
transactions. The fork is Cancun, whose prices Prague kept; what Osaka adds is said where it is added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from zkkrum.evm.transactions import ENVELOPE_BYTES, TRANSACTION_BYTES, TRANSACTION_GAS, Call
from zkkrum.proof.form import TOP, VK, Form, Part, shard_key, shard_part
from zkkrum.protocol import forecast as circuits
from zkkrum.protocol.params import Params
from zkkrum.protocol.sizes import points_for, proof_bytes

TRANSACTION = 21_000
ZERO_BYTE, OTHER_BYTE = 4, 16
RANDOM_WORD = 32 * (OTHER_BYTE * 255 + ZERO_BYTE) / 256
"""Calldata of a word whose bytes are as good as random: proofs, leaves, links, challenges, hashes."""
ABI_WORD = 148.0
"""Calldata of an offset, a length or a small number: some two bytes that are not zero."""
PROOF_ZERO_WORDS = 16
"""As many words' worth of a proof's bytes are zero (measured)."""
MARGIN = 0.98
"""A transaction is planned to stay so far within the limit."""

# bb's optimized verifier, called by a contract: 2^15 gates, per doubling, per public input.
VERIFIER, VERIFIER_DOUBLING, VERIFIER_INPUT = 684_882, 18_240, 210
OSAKA_VERIFIER = 8_097
"""What one verification costs more since modular exponentiation was repriced (EIP-7883)."""
PLAIN_VERIFIER, OSAKA_PLAIN_VERIFIER = 1_730_000, 2_920_000
"""What bb's plain verifier costs more than the optimized one, under Cancun and under Osaka (measured at 2^15 gates)."""
# KrumRounds beyond its verifiers: constant, per client.
SUBMIT, BEGIN, CONCLUDE = (61_766, 3_215), (36_818, 2_473), (65_378, 3_230)
BATCH, SHARD, FIRST_BATCH = (34_230, 495), (3_774, 962), (50_600, -255)
OPEN, COMMIT = (92_460, 5_524), 52_700
DEPLOY_ROUNDS, DEPLOY_VERIFIER, DEPLOY_DOUBLING = 3_383_000, 3_530_000, 46_000


@dataclass(frozen=True)
class Cost:
    """What a transaction costs, or each of ``count`` alike; ``bytes`` of calldata where it carries proofs."""

    title: str
    gas: int
    bytes: int = 0
    count: int = 1


@dataclass(frozen=True)
class OnChain:
    """The forecast of a round on chain.

    Parameters
    ----------
    deployment
        Once a shape.
    round
        Opening, and one commitment a client.
    verdict
        The transactions that prove it, in order, paid by whoever sends them.
    batch
        Shards in a full transaction; 0 where T = 1.
    proofs
        Verifications: under Osaka each costs `OSAKA_VERIFIER` more.
    """

    deployment: tuple[Cost, ...]
    round: tuple[Cost, ...]
    verdict: tuple[Cost, ...]
    batch: int
    proofs: int

    @property
    def transactions(self) -> int:
        """How many transactions prove the verdict."""
        return sum(cost.count for cost in self.verdict)

    @property
    def verdict_gas(self) -> int:
        """What proving the verdict costs in all."""
        return sum(cost.gas * cost.count for cost in self.verdict)

    @property
    def osaka_verdict_gas(self) -> int:
        """The same under Osaka."""
        return self.verdict_gas + self.proofs * OSAKA_VERIFIER


def calldata_gas(data: bytes) -> int:
    """Return what calldata cost."""
    zeros = data.count(0)
    return ZERO_BYTE * zeros + OTHER_BYTE * (len(data) - zeros)


def execution_gas(params: Params, function: str, shards: range = range(0)) -> int:
    """Return what a call of `KrumRounds` costs beyond 21,000 and its calldata, its verifications included."""
    form = Form.of(params)
    gates = form.gates(params)

    def line(coefficients: tuple[int, int]) -> int:
        return coefficients[0] + coefficients[1] * params.n

    def verification(part: Part) -> int:
        return VERIFIER + VERIFIER_DOUBLING * _doublings(gates[part.key]) + VERIFIER_INPUT * form.words(params, part)

    if function == "begin":
        return line(BEGIN)
    if function in ("submit", "conclude"):
        return line(SUBMIT if function == "submit" else CONCLUDE) + verification(TOP)
    proofs = [verification(shard_part(params, t)) for t in shards]
    return line(BATCH) + sum(line(SHARD) + each for each in proofs) + (0 if shards.start else line(FIRST_BATCH))


def gas_of(call: Call, data: bytes, params: Params, *, optimized: bool = True) -> int:
    """Forecast a call whose calldata are known, under Cancun."""
    proofs = {"begin": 0, "prove": len(call.shards)}.get(call.function, 1)
    more = 0 if optimized else proofs * PLAIN_VERIFIER
    return TRANSACTION + calldata_gas(data) + execution_gas(params, call.function, call.shards) + more


def batch_size(params: Params, *, optimized: bool = True) -> int:
    """Return how many shards a transaction takes, of those that must fit both its limits; at least one.

    Parameters
    ----------
    optimized
        Whether the verifiers are bb's optimized ones; a batch for plain ones fits under Osaka, too.
    """
    each = 0 if optimized else OSAKA_PLAIN_VERIFIER
    batch = 1
    while batch < params.chunks:
        start = 1 if batch + 2 <= params.chunks else params.chunks - batch - 1
        cost = _cost(params, "prove", range(start, start + batch + 1))
        gas = cost.gas + (batch + 1) * each
        if cost.bytes > TRANSACTION_BYTES - ENVELOPE_BYTES or gas > TRANSACTION_GAS * MARGIN:
            break
        batch += 1
    return batch


def forecast(params: Params) -> OnChain:
    """Forecast a round on chain, from deployment to verdict."""
    form, n = Form.of(params), params.n
    gates = form.gates(params)
    deployment = [Cost("deploy KrumRounds", DEPLOY_ROUNDS)]
    deployment += [Cost("deploy a verifier", DEPLOY_VERIFIER + DEPLOY_DOUBLING * _doublings(g)) for g in gates.values()]
    opening = (Cost("open", OPEN[0] + OPEN[1] * n), Cost("commit, each client", COMMIT, count=n))
    if form is Form.ROUND:
        return OnChain(tuple(deployment), opening, (_cost(params, "submit"),), 0, 1)
    batch, chunks = batch_size(params), params.chunks
    verdict = [_cost(params, "begin"), _cost(params, "prove", range(min(batch, chunks)))]
    full, rest = divmod(chunks, batch)
    last_full = full * batch
    if full > 1:
        verdict.append(replace(_cost(params, "prove", range(batch, 2 * batch)), count=full - 1))
    if rest and full:
        verdict.append(_cost(params, "prove", range(last_full, chunks)))
    verdict.append(_cost(params, "conclude"))
    return OnChain(tuple(deployment), opening, tuple(verdict), batch, chunks + 1)


@dataclass(frozen=True)
class Larger:
    """The same round with larger shards: ``points`` of the reference string, shards, and gas of the verdict."""

    points: int
    shards: int
    gas: int


def larger_shards(params: Params) -> list[Larger]:
    """Forecast the verdict's gas over the size of a shard, from 2^15 points to 2^18."""
    found = []
    for points in (2**k for k in range(15, 19)):
        shape = replace(params, chunk=circuits.default_chunk(params, circuits.ceiling_of(points)))
        found.append(Larger(points, shape.chunks, forecast(shape).verdict_gas))
    return found


def _doublings(gates: int) -> int:
    return points_for(gates).bit_length() - 16


def _cost(params: Params, function: str, shards: range = range(0)) -> Cost:
    """Forecast a call from the sizes of what it carries."""
    n, gates = params.n, Form.of(params).gates(params)
    top = proof_bytes(points_for(gates[VK])) // 32
    if function == "submit":
        random, abi = 2 + n + top, 7
    elif function == "begin":
        random, abi = 2 + n, 2
    elif function == "conclude":
        random, abi = 1 + 2 * (n + 1) + top, 9
    else:
        proofs = sum(proof_bytes(points_for(gates[shard_key(params, t)])) // 32 for t in shards)
        random = 1 + (n + 1) * (2 if shards.start else 1) + proofs + len(shards) * (n + 2)
        abi = 6 + 5 * len(shards)
    zero = PROOF_ZERO_WORDS * (len(shards) if function == "prove" else function != "begin")
    calldata = 4 * OTHER_BYTE + RANDOM_WORD * (random - zero) + 32 * ZERO_BYTE * zero + ABI_WORD * abi
    gas = TRANSACTION + ceil(calldata) + execution_gas(params, function, shards)
    title = function if not shards else f"prove, {len(shards)} shard{'s' * (len(shards) > 1)}"
    return Cost(title, gas, 4 + 32 * (random + abi))
