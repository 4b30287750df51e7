"""A round's whole life on a real EVM, with every step's gas; and what the same Krum costs computed on chain.

Must not print. The chain lives in this process, the clients are simulated, and all else is what a deployment uses.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from zkkrum.errors import ToolFailedError
from zkkrum.evm import solidity, verifiers
from zkkrum.evm.chain import Chain, Deployed, Receipt, RevertError
from zkkrum.evm.claims import Outcome
from zkkrum.evm.deployment import deploy_all
from zkkrum.evm.evidence import verified_evidence
from zkkrum.evm.gas import batch_size
from zkkrum.evm.rounds import Rounds
from zkkrum.evm.transactions import Call, Evidence
from zkkrum.files import ScratchFolder
from zkkrum.learning.attacks import attacked_round, honest_updates
from zkkrum.progress import Notify, unheard
from zkkrum.proof.material import Material
from zkkrum.proof.options import ProveOptions
from zkkrum.proof.prove import prove
from zkkrum.protocol.krum import Verdict
from zkkrum.protocol.params import Params, Round
from zkkrum.protocol.quantize import Floats, Integers, quantize
from zkkrum.rounds.parties import CLIP_IN_RMS
from zkkrum.toolchain import Toolchain

OPERATOR, VETOER, SERVER, ANYONE = (
    "0x" + hashlib.sha256(who).hexdigest()[:40] for who in (b"operator", b"vetoer", b"server", b"anyone")
)
TABLE_SHAPES = ((5, 1300), (10, 540), (20, 200), (40, 20))
"""n and d of the gas table: each fills more than half of a 2^15 circuit at b = 12."""


@dataclass(frozen=True)
class Step:
    """One transaction of a round's life, or a refused one (``gas`` 0); ``bytes`` of calldata, where it has proofs."""

    name: str
    gas: int
    note: str = ""
    bytes: int = 0


@dataclass(frozen=True, eq=False)
class Life:
    """What a round cost on chain, step by step.

    Parameters
    ----------
    params
        The circuits' constants.
    gates
        Their sizes, by verifier.
    verdict
        What was proved.
    outcome
        What the contract made of it.
    steps
        In order; one commitment stands for all, with the dearest client's gas.
    proving
        Gas of the transactions that prove the verdict, in order.
    verify_gas
        By verifier, called directly with one proof: 21,000 and calldata included.
    sizes
        Bytes of runtime code.
    chain
        Where it was lived, with its history.
    """

    params: Params
    gates: Mapping[str, int]
    verdict: Verdict
    outcome: Outcome
    steps: tuple[Step, ...]
    proving: tuple[int, ...]
    verify_gas: Mapping[str, int]
    sizes: Mapping[str, int]
    chain: Chain = field(repr=False)

    def gas(self, name: str) -> int:
        """Return the gas of a step by name (0 if the life did not have it)."""
        return next((step.gas for step in self.steps if step.name == name), 0)


@dataclass(frozen=True, eq=False)
class Stage:
    """A chain on which everything for one shape is deployed."""

    chain: Chain
    params: Params
    gates: Mapping[str, int]
    verifiers: Mapping[str, Deployed]
    slasher: Deployed
    rounds: Rounds
    sizes: Mapping[str, int]

    @classmethod
    def set_up(cls, params: Params, tools: Toolchain, *, optimized: bool = True) -> Stage:
        """Render, compile and deploy verifiers, slasher (a mock) and `KrumRounds`."""
        chain = Chain()
        rendered = verifiers.render(params, verifiers.keys_of(params, tools), tools, optimized=optimized)
        made = deploy_all(chain, params, rendered, tools.solc, (OPERATOR, VETOER))
        sizes = {name: size for verifier in rendered for name, size in verifier.sizes.items()}
        sizes["KrumRounds"] = made.rounds.contract.contract.size
        gates = verifiers.gates_of(params, tools)
        return cls(chain, params, gates, made.verifiers, made.slasher, made.rounds, sizes)

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

    def evidence(self, material: Material, tools: Toolchain, out: Path | None = None, **options: object) -> Evidence:
        """Prove material; the bundle is kept where ``out`` says."""
        with ScratchFolder() as scratch:
            folder = out or Path(scratch) / "bundle"
            prove(material, folder, tools, ProveOptions(**options))  # type: ignore[arg-type]
            return verified_evidence(folder, tools)

    def post(self, material: Material) -> list[Receipt]:
        """Open the round of some material and post its commitments."""
        opened = self.rounds.open(material.round)
        posted = [self.rounds.commit(material.round, i, c) for i, c in enumerate(material.commitments)]
        return [opened, *posted]

    def verify_gas(self, told: Evidence, material: Material) -> dict[str, int]:
        """Call each verifier itself, with the public inputs that the contract hands it, and return the gas."""
        asked = told.questions(material.commitments)
        return {
            name: self.verifiers[name].send(ANYONE, "verify", proof, [w.to_bytes(32, "big") for w in words]).gas
            for name, proof, words in asked
        }


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
    tell: Notify = unheard,
) -> Life:
    """Run one round from deployment to slashing.

    Parameters
    ----------
    params
        The circuits' constants.
    byzantine, attack, seed
        The simulated clients; salts and blinds come from the system's randomness all the same.
    clip
        Quantization bound; by default the server's choice from the updates.
    optimized
        Whether the verifiers are bb's optimized ones.
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
    tell("rendering, compiling and deploying the verifiers and the contract")
    stage = Stage.set_up(params, tools, optimized=optimized)
    rounds = stage.rounds
    steps = [
        *(Step(f"deploy {name} verifier", v.gas, f"{stage.sizes[f'{name} verifier']:,} bytes of code")
          for name, v in stage.verifiers.items()),
        Step("deploy KrumRounds", rounds.contract.gas, f"{stage.sizes['KrumRounds']:,} bytes of code"),
    ]  # fmt: skip
    updates, default = simulate(params, byzantine, attack, seed)
    tell("clients quantize and commit")
    round = stage.round(clip or default)
    material = Material.commit_values(
        round, quantize(updates, round.clip, params.b), tools.bb.hash_many, by_clients=True
    )
    opened, *posted = stage.post(material)
    steps.append(Step("open", opened.gas, f"roster of {params.n}"))
    steps.append(Step("commit", max(r.gas for r in posted), f"each of {params.n} clients"))

    tell("the server proves")
    told = stage.evidence(material, tools, out)
    tell("the verdict goes on chain")
    alone = stage.verify_gas(told, material)
    proving = _prove(stage, told, batch_size(params, optimized=optimized))
    steps += proving
    verdict = Verdict.of_words(*told.outputs)
    outcome = rounds.outcome(round)
    steps += _slash(stage, round, outcome, told.outputs[1])
    spent = tuple(step.gas for step in proving if step.gas)
    return Life(params, stage.gates, verdict, outcome, tuple(steps), spent, alone, stage.sizes, stage.chain)


def _prove(stage: Stage, told: Evidence, batch: int) -> list[Step]:
    """Send the calls that prove the verdict, and before the last two that must be refused."""
    rounds, steps = stage.rounds, []
    selectors = rounds.contract.contract.selectors
    *before, last = told.calls(batch)

    def sent(call: Call) -> Step:
        return Step(call.title, rounds.send(call, SERVER).gas, bytes=len(call.data(selectors)))

    steps += [sent(call) for call in before]
    malicious, _, selected = told.outputs
    lie = replace(told, outputs=(0, 0, selected) if malicious else (1, 1, selected))
    broken = replace(told, proof=bytes([*told.proof[:-1], told.proof[-1] ^ 1]))
    for what, forged in (("a false verdict", lie), ("a damaged proof", broken)):
        call = forged.submit() if told.public is None else forged.conclude()
        steps.append(_refused(lambda call=call: rounds.send(call, SERVER), f"{last.function} {what}"))  # type: ignore[misc]
    return [*steps, sent(last)]


def _slash(stage: Stage, round: Round, outcome: Outcome, flagged: int) -> list[Step]:
    """Slash whoever is flagged, and try what must be refused."""
    rounds = stage.rounds
    if outcome is not Outcome.FLAGGED:
        return [_refused(lambda: rounds.slash(round, 1, ANYONE), "slash somebody")]
    steps = [_refused(lambda: rounds.slash(round, flagged, ANYONE), "slash before the challenge delay")]
    stage.chain.time += rounds.contract.view("schedule")["challengeDelay"]
    receipt = rounds.slash(round, flagged, ANYONE)
    slashed = [event for name, event in rounds.contract.events(receipt) if name == "Slashed"]
    steps.append(Step("slash", receipt.gas, f"{len(slashed)} clients in one call"))
    return [*steps, _refused(lambda: rounds.slash(round, flagged, ANYONE), "slash again")]


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

    def gas(self, n: int, d: int, *, packed: bool) -> int:
        """Return the gas for random 12-bit updates."""
        rng = np.random.default_rng(0)
        params = Params.of(n=n, d=d, b=12)
        return self(rng.integers(1, 2**12, size=(n, d)), params, packed=packed)[0]

    def cost(self, n: int, d: int) -> PlainCost:
        """Measure, or extrapolate from d = 500 and 1,000 where d is larger."""
        low, most = 500, 1000
        if d <= most:
            return PlainCost(n, d, self.gas(n, d, packed=False), self.gas(n, d, packed=True), True)
        line = []
        for packed in (False, True):
            first, second = (self.gas(n, at, packed=packed) for at in (low, most))
            line.append(second + (second - first) * (d - most) // (most - low))
        return PlainCost(n, d, line[0], line[1], False)


PLAIN_SHAPES = ((6, 2), (10, 100), (10, 540), (10, 1_000), (10, 10_000), (10, 61_706))
"""Sizes of the comparison: the original's example, two that fit one circuit, and up to LeNet-5."""


def gas_table(tools: Toolchain, tell: Notify = unheard) -> tuple[list[Life], list[PlainCost]]:
    """Run a life for each of `TABLE_SHAPES`, and Krum on chain at `PLAIN_SHAPES`."""
    lives = []
    for n, d in TABLE_SHAPES:
        tell(f"a round of n = {n}, d = {d}")
        lives.append(life(Params.of(n=n, d=d), tools, byzantine=1))
    tell("Krum computed on chain")
    plain = PlainKrum(tools.solc)
    return lives, [plain.cost(n, d) for n, d in PLAIN_SHAPES]


def to_markdown(lives: Sequence[Life], plain: Sequence[PlainCost]) -> str:
    """Render both as tables for a document."""
    columns: dict[str, Callable[[Life], int]] = {
        "n": lambda x: x.params.n,
        "d": lambda x: x.params.d,
        "gates": lambda x: max(x.gates.values()),
        "deploy verifier": lambda x: x.gas("deploy round verifier"),
        "deploy KrumRounds": lambda x: x.gas("deploy KrumRounds"),
        "open": lambda x: x.gas("open"),
        "commit, each client": lambda x: x.gas("commit"),
        "verifier call": lambda x: max(x.verify_gas.values()),
        "submit": lambda x: x.gas("submit"),
        "slash, one client": lambda x: x.gas("slash"),
        "round, all clients": lambda x: x.gas("open") + x.params.n * x.gas("commit") + x.gas("submit"),
    }
    per_round = [[f"{value(life):,}" for value in columns.values()] for life in lives]
    on_chain = [
        [f"{c.n}", f"{c.d:,}", f"{c.plain:,}", f"{c.packed:,}", "measured" if c.measured else "extrapolated"]
        for c in plain
    ]
    head = ("n", "d", "Krum in Solidity", "nine products at a time", "")
    return table(list(columns), per_round) + "\n\n" + table(head, on_chain)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Render a table whose columns are numbers."""
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
