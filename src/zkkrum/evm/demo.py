"""A round's whole life on a real EVM, with every step's gas; and what the same Krum costs computed on chain.

Must not print. The chain lives in this process, the clients are simulated, and all else is what a deployment uses.
"""

from __future__ import annotations

import hashlib
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from zkkrum.errors import InputError, ToolFailedError
from zkkrum.evm import solidity
from zkkrum.evm.chain import Chain, Deployed, Receipt, RevertError
from zkkrum.evm.rounds import Outcome, Rounds, Slashing, deploy_verifier
from zkkrum.learning.attacks import attacked_round, honest_updates
from zkkrum.proof.build import build, gates, verification_key
from zkkrum.proof.circuit import round_circuit
from zkkrum.proof.form import PROOF
from zkkrum.proof.material import Material
from zkkrum.proof.prove import prove
from zkkrum.protocol.forecast import SHARD_GATES, round_gates
from zkkrum.protocol.krum import Krum, Verdict, bitmap
from zkkrum.protocol.params import Params, Round
from zkkrum.protocol.quantize import Floats, Integers, quantize
from zkkrum.rounds.parties import CLIP_IN_RMS
from zkkrum.toolchain import Toolchain

OPERATOR, VETOER, SERVER, ANYONE = (
    "0x" + hashlib.sha256(who).hexdigest()[:40] for who in (b"operator", b"vetoer", b"server", b"anyone")
)
TABLE_SHAPES = ((5, 1300), (10, 540), (20, 200), (40, 20))
"""n and d of the gas table: each fills more than half of a 2^15 circuit at b = 12."""
Tell = Callable[[str], None]


def silent(what: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class Step:
    """One transaction of a round's life, or a refused one (``gas`` 0)."""

    name: str
    gas: int
    note: str = ""


@dataclass(frozen=True, eq=False)
class Life:
    """What a round cost on chain, step by step.

    Parameters
    ----------
    params
        The circuit's constants.
    gates
        Its size.
    verdict
        What was proved.
    outcome
        What the contract made of it.
    steps
        In order; one commitment stands for all, with the dearest client's gas.
    verify_gas
        The verifier alone, called directly: 21,000 and calldata included.
    sizes
        Bytes of runtime code.
    """

    params: Params
    gates: int
    verdict: Verdict
    outcome: Outcome
    steps: tuple[Step, ...]
    verify_gas: int
    sizes: Mapping[str, int] = field(default_factory=dict)

    def gas(self, name: str) -> int:
        """Return the gas of a step by name (0 if the life did not have it)."""
        return next((step.gas for step in self.steps if step.name == name), 0)


@dataclass(frozen=True, eq=False)
class Stage:
    """A chain on which everything for one circuit is deployed."""

    chain: Chain
    params: Params
    key: bytes
    gates: int
    verifier: Deployed
    slasher: Deployed
    rounds: Rounds
    sizes: Mapping[str, int]

    @classmethod
    def set_up(
        cls,
        params: Params,
        tools: Toolchain,
        *,
        optimized: bool = True,
        slashing: Slashing | None = None,
        chain: Chain | None = None,
    ) -> Stage:
        """Render, compile and deploy verifier, slasher (a mock) and `KrumRounds`.

        Raises
        ------
        InputError
            If rounds of these constants do not fit one circuit.
        """
        expected = round_gates(params)
        if expected > SHARD_GATES:
            raise InputError(
                f"one circuit for n = {params.n}, d = {params.d}, b = {params.b} would have about {expected:,} gates, "
                f"more than {SHARD_GATES:,}",
                "on chain a round must fit one circuit: take a smaller --dimension",
            )
        built = build(round_circuit(params), tools)
        key = verification_key(built, tools)
        text = tools.bb.write_solidity_verifier(key, optimized=optimized)
        verifier, libraries = solidity.compile_verifier(tools.solc, text)
        contracts = solidity.compile_rounds(tools.solc, solidity.demo_sources())
        chain = chain or Chain()
        slashing = slashing or Slashing()
        checker = deploy_verifier(chain, OPERATOR, verifier, libraries)
        slasher = Deployed.create(chain, contracts["MockSlasher"], OPERATOR, slashing.avs)
        rounds = Rounds.deploy(
            chain,
            contracts["KrumRounds"],
            params,
            checker.address,
            slasher.address,
            OPERATOR,
            VETOER,
            slashing,
        )
        checker.foreign = rounds.contract.foreign = solidity.verifier_errors(text) | checker.errors
        sizes = {c.name: c.size for c in (verifier, *libraries.values(), contracts["KrumRounds"])}
        return cls(chain, params, key, gates(built, tools), checker, slasher, rounds, sizes)

    def round(self, clip: float) -> Round:
        """Return a round for this chain and contract, under a fresh id, with a roster of made-up addresses."""
        return Round(
            self.params,
            clip,
            client_addresses(self.params.n),
            round_id=secrets.token_bytes(32),
            chain_id=self.chain.chain_id,
            contract=self.rounds.address,
        )

    def proof_of(self, material: Material, tools: Toolchain, out: Path | None = None) -> bytes:
        """Prove material; the bundle is kept where ``out`` says."""
        with tempfile.TemporaryDirectory(prefix="zkkrum-") as scratch:
            folder = out or Path(scratch) / "bundle"
            prove(material, folder, tools)
            return (folder / PROOF).read_bytes()

    def verify_call(self, round: Round, proof: bytes, outputs: Sequence[int]) -> Receipt:
        """Call the verifier itself with the public inputs the contract would hand it."""
        return self.verifier.send(ANYONE, "verify", proof, self.rounds.public_inputs(round, outputs))


def client_addresses(n: int) -> tuple[str, ...]:
    """Return distinct made-up addresses."""
    return tuple("0x" + hashlib.sha256(f"client {i}".encode()).hexdigest()[:40] for i in range(n))


def simulate(params: Params, byzantine: int, attack: str, seed: int) -> tuple[Floats, float]:
    """Return float updates of shape (n, d) and a clip."""
    rng = np.random.default_rng(seed)
    honest = honest_updates(params.n, params.d, 0.0, rng)
    updates, _ = attacked_round(honest, byzantine, attack, rng)
    rms = np.sort(np.sqrt(np.mean(updates**2, axis=1)))
    return updates, float(CLIP_IN_RMS * rms[(params.n - 1) // 2])


def life(
    params: Params,
    tools: Toolchain,
    *,
    byzantine: int = 2,
    attack: str = "gaussian",
    seed: int = 0,
    clip: float | None = None,
    optimized: bool = True,
    out: Path | None = None,
    tell: Tell = silent,
) -> Life:
    """Run one round from deployment to slashing.

    Parameters
    ----------
    params
        The circuit's constants.
    byzantine, attack, seed
        The simulated clients; salts and blinds come from the system's randomness all the same.
    clip
        Quantization bound; by default the server's choice from the updates.
    optimized
        Whether the verifier is bb's optimized one.
    out
        Where to keep the bundle; nowhere by default.
    tell
        Told what happens next.

    Raises
    ------
    ToolMissingError
        If the extra ``zkkrum[evm]`` is not installed.
    ToolFailedError
        If the contract does anything but what it should.
    """
    steps: list[Step] = []
    tell("rendering, compiling and deploying the verifier and the contracts")
    stage = Stage.set_up(params, tools, optimized=optimized)
    rounds, chain = stage.rounds, stage.chain
    steps += [
        Step("deploy verifier", stage.verifier.gas, f"{stage.sizes[solidity.VERIFIER_CONTRACT]:,} bytes"),
        Step("deploy KrumRounds", rounds.contract.gas, f"{stage.sizes['KrumRounds']:,} bytes"),
    ]
    updates, default = simulate(params, byzantine, attack, seed)
    round = stage.round(clip or default)
    steps.append(Step("open", rounds.open(round).gas, f"roster of {params.n}"))

    tell("clients quantize and commit")
    values = quantize(updates, round.clip, params.b)
    material = Material.commit_values(round, values, tools.bb.hash_many, by_clients=True)
    receipts = [rounds.commit(round, i, c) for i, c in enumerate(material.commitments)]
    steps.append(Step("commit", max(r.gas for r in receipts), f"each of {params.n} clients"))

    tell("the server proves")
    proof = stage.proof_of(material, tools, out)
    verdict = Krum(params)(material.q).verdict
    outputs = verdict.public_words()

    lie = [0, 0, outputs[2]] if verdict.malicious else [1, 1, outputs[2]]
    steps.append(_refused(lambda: rounds.submit(round, proof, lie, SERVER), "submit a false verdict"))
    broken = bytes([*proof[:-1], proof[-1] ^ 1])
    steps.append(_refused(lambda: rounds.submit(round, broken, outputs, SERVER), "submit a damaged proof"))
    verify_gas = stage.verify_call(round, proof, outputs).gas
    steps.append(Step("submit", rounds.submit(round, proof, outputs, SERVER).gas, f"verifier alone {verify_gas:,}"))
    outcome = rounds.outcome(round)
    if outcome is Outcome.FLAGGED:
        flagged = bitmap(verdict.flagged)
        steps.append(_refused(lambda: rounds.slash(round, flagged, ANYONE), "slash before the challenge delay"))
        chain.time += Slashing().challenge_delay
        receipt = rounds.slash(round, flagged, ANYONE)
        slashed = [event for name, event in rounds.contract.events(receipt) if name == "Slashed"]
        steps.append(Step("slash", receipt.gas, f"{len(slashed)} clients in one call"))
        steps.append(_refused(lambda: rounds.slash(round, flagged, ANYONE), "slash again"))
    else:
        steps.append(_refused(lambda: rounds.slash(round, 1, ANYONE), "slash somebody"))
    return Life(params, stage.gates, verdict, outcome, tuple(steps), verify_gas, stage.sizes)


def _refused(attempt: Callable[[], Receipt], name: str) -> Step:
    """Try what must be refused, and say with which error it was."""
    try:
        attempt()
    except RevertError as error:
        return Step(name, 0, f"refused: {error.error or '0x' + error.data.hex()[:8]}")
    raise ToolFailedError(f"{name}: expected a refusal, but it went through", "this is a bug; please report it")


# The same rule computed on chain


@dataclass(frozen=True)
class PlainCost:
    """Gas of Krum computed on chain, by calldata and by execution.

    Parameters
    ----------
    n, d
        Clients and coordinates.
    plain, packed
        Gas as the formula says, and with nine products at a time (`PlainKrum.krumPacked`).
    measured
        False where extrapolated, linearly in d from two measured sizes.
    """

    n: int
    d: int
    plain: int
    packed: int
    measured: bool


def plain_calldata(values: Integers, *, packed: bool) -> bytes:
    """Lay circuit values of shape (n, d) out as `PlainKrum` takes them."""
    per, bits = (9, 28) if packed else (16, 16)
    rows = []
    for row in values.tolist():
        for start in range(0, len(row), per):
            word = 0
            for k, value in enumerate(row[start : start + per]):
                word |= value << bits * (k if packed else per - 1 - k)
            rows.append(word.to_bytes(32, "big"))
    return b"".join(rows)


class PlainKrum:
    """Krum in plain Solidity on a chain of its own, for comparison."""

    def __init__(self, solc: solidity.Solc) -> None:
        contract = solidity.compile_rounds(solc, solidity.demo_sources())["PlainKrum"]
        self.contract = Deployed.create(Chain(), contract, OPERATOR)

    def __call__(self, values: Integers, params: Params, *, packed: bool) -> tuple[int, int, int, list[int]]:
        """Return gas, winner, bitmap of flagged clients and scores for circuit values of shape (n, d)."""
        function = "krumPacked" if packed else "krum"
        thresholds = [[t.numerator, t.denominator] for t in (params.z, params.gamma)]
        data = plain_calldata(values, packed=packed)
        receipt = self.contract.send(ANYONE, function, data, params.n, params.f, *thresholds)
        winner, flagged, scores = self.contract.result(function, receipt.output)
        return receipt.gas, winner, flagged, scores

    def gas(self, n: int, d: int, *, packed: bool, seed: int = 0) -> int:
        """Return the gas for random 12-bit updates."""
        rng = np.random.default_rng(seed)
        params = Params.of(n=n, d=d, b=12)
        return self(rng.integers(1, 2**12, size=(n, d)), params, packed=packed)[0]

    def cost(self, n: int, d: int, *, most: int = 1000) -> PlainCost:
        """Measure, or extrapolate from d = ``most`` / 2 and ``most`` where d is larger than ``most``."""
        if d <= most:
            return PlainCost(n, d, self.gas(n, d, packed=False), self.gas(n, d, packed=True), True)
        low = most // 2
        line = []
        for packed in (False, True):
            first, second = (self.gas(n, at, packed=packed) for at in (low, most))
            line.append(second + (second - first) * (d - most) // (most - low))
        return PlainCost(n, d, line[0], line[1], False)


PLAIN_SHAPES = ((6, 2), (10, 100), (10, 540), (10, 1_000), (10, 10_000), (10, 61_706))
"""Sizes of the comparison: the original's example, two that fit one circuit, and up to LeNet-5."""


def gas_table(
    tools: Toolchain, shapes: Sequence[tuple[int, int]] = TABLE_SHAPES, tell: Tell = silent
) -> tuple[list[Life], list[PlainCost]]:
    """Run a life per shape, and Krum on chain at `PLAIN_SHAPES`.

    Parameters
    ----------
    shapes
        Pairs n, d.
    """
    lives = []
    for n, d in shapes:
        tell(f"a round of n = {n}, d = {d}")
        lives.append(life(Params.of(n=n, d=d), tools, byzantine=1))
    tell("Krum computed on chain")
    plain = PlainKrum(tools.solc)
    return lives, [plain.cost(n, d) for n, d in PLAIN_SHAPES]


def to_markdown(lives: Sequence[Life], plain: Sequence[PlainCost]) -> str:
    """Render both as tables for a README."""
    columns: dict[str, Callable[[Life], int]] = {
        "n": lambda x: x.params.n,
        "d": lambda x: x.params.d,
        "gates": lambda x: x.gates,
        "deploy verifier": lambda x: x.gas("deploy verifier"),
        "deploy KrumRounds": lambda x: x.gas("deploy KrumRounds"),
        "open": lambda x: x.gas("open"),
        "commit (each client)": lambda x: x.gas("commit"),
        "verifier call": lambda x: x.verify_gas,
        "submit": lambda x: x.gas("submit"),
        "slash (one client)": lambda x: x.gas("slash"),
        "whole round": lambda x: x.gas("open") + x.params.n * x.gas("commit") + x.gas("submit"),
    }
    per_round = [[f"{value(life):,}" for value in columns.values()] for life in lives]
    on_chain = [
        [f"{c.n}", f"{c.d:,}", f"{c.plain:,}", f"{c.packed:,}", "measured" if c.measured else "extrapolated"]
        for c in plain
    ]
    head = ("n", "d", "Krum in Solidity", "nine products at a time", "")
    return _table(list(columns), per_round) + "\n\n" + _table(head, on_chain)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
