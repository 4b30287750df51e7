"""The circuits as artefacts: constants rendered, advice computed, ``Prover.toml`` written, compiled once and cached.

Must not know bundles. The logic is in ``circuits/zkkrum`` and the formulas of the rules in `zkkrum.krum`; here is
only what a prover adds for the circuit to check them: members and pivots, medians, bits, inverses.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from zkkrum.commitment import Chain, Opening, challenges, circuit_values, leaf_salts, rho
from zkkrum.field import P
from zkkrum.files import write_whole
from zkkrum.krum import Mad, Outcome, lower_median, nearest, pair_list
from zkkrum.params import Detection, Params, Round, Score
from zkkrum.poseidon2 import Hash
from zkkrum.toolchain import PAIR, Toolchain, cache_dir, points_for

Inputs = Mapping[str, Any]
"""Inputs of a circuit: integers, nested sequences of them, or nested mappings (Noir structs)."""

_SCORE_STRUCT = {Score.KRUM_2017: "Krum2017", Score.ALL_PAIRS: "AllPairs"}
_DETECTION_STRUCT = {Detection.MAD: "Mad", Detection.BRACKETS: "Brackets"}


# Sources and constants


@cache
def source_folder() -> Path:
    """Return the folder of the Noir sources: inside the installed package, or at the top of a checkout."""
    installed = Path(__file__).parent / "circuits"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "circuits"


def _source_files(crate: str) -> Iterator[Path]:
    """Yield the files a crate is compiled from, without the constants that are rendered over."""
    for folder in ("zkkrum", crate):
        for path in sorted((source_folder() / folder).rglob("*")):
            if path.suffix in (".nr", ".toml") and path.name not in ("constants.nr", "Prover.toml"):
                yield path


@dataclass(frozen=True)
class Circuit:
    """A crate with its constants: what a verification key belongs to.

    Parameters
    ----------
    crate
        Folder under ``circuits/``: ``round``, ``shard`` or ``verdict``.
    constants
        Text of its ``constants.nr``.
    """

    crate: str
    constants: str

    @property
    def key_id(self) -> str:
        """SHA-256 over sources, constants and tool versions: the name in the cache and in the key table."""
        digest = hashlib.sha256(f"{PAIR}\n{self.crate}\n{self.constants}\n".encode())
        for path in _source_files(self.crate):
            digest.update(f"{path.relative_to(source_folder()).as_posix()}\n".encode() + path.read_bytes())
        return digest.hexdigest()


def _render(uses: Sequence[str], numbers: Mapping[str, int], extra: Sequence[str] = ()) -> str:
    lines = ["//! Constants of one shape, rendered by `zkkrum.circuit`.", *uses, ""]
    lines += [f"pub global {name}: u32 = {value};" for name, value in numbers.items()]
    return "\n".join([*lines, *extra, ""])


def _rule_constants(params: Params) -> tuple[list[str], dict[str, int], list[str]]:
    """Return uses, numbers and declarations of everything that follows the distances."""
    p, w = params, params.widths()
    score, detection = _SCORE_STRUCT[p.score], _DETECTION_STRUCT[p.detection]
    uses = [f"use zkkrum::detection::{{{detection}, Thresholds}};", f"use zkkrum::scores::{score};"]
    numbers = {
        "N": p.n,
        "PAIRS": p.pairs,
        "M": p.m,
        "COUNT": p.neighbours,
        "LIMB": p.limb,
        "DISTANCE_BITS": p.distance_bits,
        "KEY_BITS": w.key,
        "DETECTION_BITS": w.detection,
        "NEAR_BITS": w.near,
        "THRESHOLD_BITS": w.threshold,
    }
    z, gamma = p.z, p.gamma
    extra = [
        "pub global THRESHOLDS: Thresholds = Thresholds {",
        f"    z_n: {z.numerator}, z_d: {z.denominator}, gamma_n: {gamma.numerator}, gamma_d: {gamma.denominator},",
        "};",
        f"pub type ScoreAdvice = {score}<N>;",
        f"pub type DetectionAdvice = {detection}<N>;",
    ]
    return uses, numbers, extra


def round_circuit(params: Params) -> Circuit:
    """Return the circuit that proves a whole round at once."""
    uses, numbers, extra = _rule_constants(params)
    last = len(params.chunk_range(params.chunks - 1))
    sizes = {"D": params.d, "B": params.b, "PACK": params.pack, "CHUNK": params.chunk, "CHUNKS": params.chunks}
    return Circuit("round", _render(uses, {**numbers, **sizes, "LAST": last}, extra))


def shard_circuit(params: Params, coordinates: int) -> Circuit:
    """Return the circuit of a shard of so many coordinates: one for all full chunks, one for a shorter last."""
    return Circuit("shard", _render([], {"N": params.n, "K": coordinates, "B": params.b, "PACK": params.pack}))


def verdict_circuit(params: Params) -> Circuit:
    """Return the circuit that closes a sharded round; it does not depend on d but through the distances' width."""
    uses, numbers, extra = _rule_constants(params)
    return Circuit("verdict", _render(uses, numbers, extra))


# Advice: private inputs that the circuit asserts


def score_advice(outcome: Outcome, params: Params) -> Inputs:
    """Return the scores and, under krum-2017, who is near whom and a pivot per row."""
    advice: dict[str, Any] = {"scores": outcome.scores}
    if params.score is Score.KRUM_2017:
        near, pivots = [], []
        for i in range(params.n):
            members = nearest(outcome.distances, i, params.neighbours)
            near.append([int(j in members) for j in range(params.n) if j != i])
            pivots.append(int(outcome.distances[i, members[-1]]))
        advice |= {"near": near, "pivots": pivots}
    return advice


def selection_advice(outcome: Outcome, params: Params) -> Inputs:
    """Return who is selected and the largest selected key s_i·n + i."""
    selected = outcome.verdict.selected
    pivot = max(outcome.scores[i] * params.n + i for i in selected)
    return {"chosen": [int(i in selected) for i in range(params.n)], "pivot": pivot}


def _inverse_or_zero(x: int) -> int:
    return pow(x, -1, P) if x else 0


def _median_advice(values: Sequence[int]) -> Inputs:
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    low = order[: (len(values) - 1) // 2 + 1]
    return {"value": lower_median(values), "low": [int(i in low) for i in range(len(values))]}


def detection_advice(outcome: Outcome) -> Inputs:
    """Return the advice of the outcome's detection rule: medians and their members, or sides of the mean; bits."""
    rule, scores = outcome.detection, outcome.scores
    if isinstance(rule, Mad):
        return {
            "median": _median_advice(scores),
            "deviation": _median_advice([abs(s - rule.median) for s in scores]),
            "median_inverse": _inverse_or_zero(rule.median),
            "beyond": [int(x) for x in rule.beyond],
            "excess": [int(x) for x in rule.excess],
            "flagged_inverse": _inverse_or_zero(len(rule.flagged)),
        }
    return {
        "below": [int(x < 0) for x in rule.deltas],
        "above": [int(x > 0) for x in rule.deltas],
        "near": [int(x) for x in rule.near],
        "beyond": [int(x) for x in rule.beyond],
        "malicious": int(rule.malicious),
    }


def rule_inputs(outcome: Outcome, params: Params) -> Inputs:
    """Return the advice of score, selection and detection together."""
    return {
        "score": score_advice(outcome, params),
        "selection": selection_advice(outcome, params),
        "detection": detection_advice(outcome),
    }


def round_inputs(
    round: Round, openings: Sequence[Opening], commitments: Sequence[int], outcome: Outcome, blind: int, hash: Hash
) -> Inputs:
    """Return all inputs of the `round` circuit."""
    p = round.params
    distances = pair_list(outcome.distances)
    return {
        "context": round.context,
        "commitments": commitments,
        "values": [circuit_values(o.q, p.b).tolist() for o in openings],
        "salts": [leaf_salts(o.salt, p.chunks, hash) for o in openings],
        "blind": blind,
        "distances": distances,
        "last_challenge": challenges(rho(p, commitments, distances, blind, hash), p.n)[-1],
        **rule_inputs(outcome, p),
    }


def shard_inputs(
    round: Round,
    t: int,
    openings: Sequence[Opening],
    chain: Chain,
    leaves: Sequence[int],
    hash: Hash,
) -> Inputs:
    """Return all inputs of the `shard` circuit of chunk t; ``leaves`` are those of this chunk, one a client."""
    p, chunk = round.params, round.params.chunk_range(t)
    return {
        "_context": round.context,
        "t": t,
        "rho": chain.rho,
        "leaves": leaves,
        "link_before": chain.links[t],
        "link_after": chain.links[t + 1],
        "values": [circuit_values(o.q[chunk.start : chunk.stop], p.b).tolist() for o in openings],
        "salts": hash([(o.salt, t) for o in openings]),
        "last_challenge": challenges(chain.rho, p.n)[-1],
        "sum_before": chain.sums[t],
        "blind_before": chain.blinds[t],
        "blind_after": chain.blinds[t + 1],
    }


def verdict_inputs(round: Round, commitments: Sequence[int], outcome: Outcome, chain: Chain) -> Inputs:
    """Return all inputs of the `verdict` circuit."""
    p = round.params
    return {
        "_context": round.context,
        "commitments": commitments,
        "rho": chain.rho,
        "chunks": p.chunks,
        "link": chain.links[-1],
        "blind": chain.blind,
        "link_blind": chain.blinds[-1],
        "distances": pair_list(outcome.distances),
        "last_challenge": challenges(chain.rho, p.n)[-1],
        **rule_inputs(outcome, p),
    }


def to_toml(inputs: Inputs) -> str:
    """Render inputs as a ``Prover.toml``: integers as hexadecimal strings, structs as tables."""

    def value(x: Any) -> str:
        if isinstance(x, Sequence):
            return "[" + ", ".join(map(value, x)) + "]"
        return json.dumps(hex(x))

    tables = {k: v for k, v in inputs.items() if isinstance(v, Mapping)}
    lines = [f"{k} = {value(v)}" for k, v in inputs.items() if k not in tables]

    def table(name: str, fields: Inputs) -> None:
        lines.append(f"\n[{name}]")
        lines.extend(f"{k} = {value(v)}" for k, v in fields.items() if not isinstance(v, Mapping))
        for k, v in fields.items():
            if isinstance(v, Mapping):
                table(f"{name}.{k}", v)

    for name, fields in tables.items():
        table(name, fields)
    return "\n".join(lines) + "\n"


# Compilation


@dataclass(frozen=True)
class Built:
    """A compiled circuit in the cache; `folder` is what nargo takes as its program directory."""

    circuit: Circuit
    folder: Path

    @property
    def artifact(self) -> Path:
        """What nargo compiled."""
        return self.folder / "target" / f"{self.circuit.crate}.json"

    @property
    def vk(self) -> Path:
        """The verification key, once `verification_key` has written it."""
        return self.folder / "target" / "vk"


def build(circuit: Circuit, tools: Toolchain) -> Built:
    """Compile a circuit, or find it in the cache. A crash leaves nothing half-built there."""
    home = cache_dir() / "circuits" / circuit.key_id[:32]
    built = Built(circuit, home / circuit.crate)
    if not built.artifact.is_file():
        home.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=home.parent, prefix=".building-"))
        try:
            write_sources(circuit, scratch)
            tools.nargo.compile(scratch / circuit.crate)
            with contextlib.suppress(OSError):  # another process has finished the same circuit first
                scratch.rename(home)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return built


def write_sources(circuit: Circuit, folder: Path) -> None:
    """Write the crates of a circuit, its constants rendered, into a folder."""
    for path in _source_files(circuit.crate):
        target = folder / path.relative_to(source_folder())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (folder / circuit.crate / "src" / "constants.nr").write_text(circuit.constants)


def gates(built: Built, tools: Toolchain) -> int:
    """Return the exact number of gates, counted once."""
    path = built.folder / "target" / "gates"
    if not path.is_file():
        write_whole(path, str(tools.bb.gates(built.artifact)).encode())
    return int(path.read_text())


def verification_key(built: Built, tools: Toolchain) -> bytes:
    """Return the circuit's verification key, computed once; needs the reference string the first time."""
    if not built.vk.is_file():
        crs = tools.reference_string(points_for(gates(built, tools)))
        write_whole(built.vk, tools.bb.write_vk(built.artifact, crs))
    return built.vk.read_bytes()
