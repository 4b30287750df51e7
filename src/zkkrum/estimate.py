"""What a round will take, before anything runs: circuits, points, memory, time, sizes.

Must not know tools. Gate counts are forecasts (`zkkrum.gates`); times are those of the machine in the README.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from zkkrum import gates
from zkkrum.bundle import ROUND
from zkkrum.jobs import JOB_MEGABYTES
from zkkrum.params import Params
from zkkrum.prove import Plan, plan
from zkkrum.toolchain import points_for

SECONDS_PER_GATE = 27e-6
"""bb prove on two cores (measured: 24 to 27 µs at 2^15)."""
BASE_MEGABYTES = 180
"""Python, NumPy and the witness server (measured: 130 to 180)."""
COMPILE_MEGABYTES = 200
"""Compiling a 2^15 circuit, once a shape (measured: 180)."""


@dataclass(frozen=True)
class Estimate:
    """The forecast of a round.

    ``circuits``: gates by circuit; ``points`` of the reference string (64 bytes each on disk); ``megabytes``: peak of
    the process tree once the shapes are compiled; ``seconds``: proving on two cores; ``time_class``: the same in words.
    """

    form: str
    reason: str
    circuits: dict[str, int]
    proofs: int
    points: int
    megabytes: int
    compile_megabytes: int
    seconds: float
    time_class: str
    proof_bytes: int


def proof_bytes(points: int) -> int:
    """Return the size of one proof for a circuit of that many rows (zero-knowledge UltraHonk, evm target)."""
    return 2624 + 384 * (points.bit_length() - 1)


def time_class(seconds: float) -> str:
    """Say how long that is."""
    for limit, words in (
        (10, "seconds"),
        (120, "a minute or two"),
        (1800, "minutes"),
        (7200, "an hour or two"),
        (172_800, "hours"),
    ):
        if seconds <= limit:
            return words
    return "days"


def gates_within(megabytes: int) -> int:
    """Return the largest circuit one proof of which stays within so much memory (`JOB_MEGABYTES` at 2^15)."""
    points = 2**15
    while points > 2**10 and JOB_MEGABYTES / 2 * points / 2**15 > megabytes:
        points //= 2
    while JOB_MEGABYTES / 2 * 2 * points / 2**15 <= megabytes and points < 2**20:
        points *= 2
    return gates.SHARD_GATES if points == 2**15 else int(points * gates.MARGIN)


def estimate(params: Params, form: str = "auto", jobs: int = 2) -> Estimate:
    """Forecast a round.

    Parameters
    ----------
    params
        The round's parameters.
    form
        As in `zkkrum.prove.plan`.
    jobs
        Proofs at once.
    """
    decided: Plan = plan(params, form)
    if decided.form == ROUND:
        circuits = {"round": gates.round_gates(params)}
        counts = [(circuits["round"], 1)]
    else:
        last = len(params.chunk_range(params.chunks - 1))
        circuits = {"shard": gates.shard_gates(params, params.chunk)}
        if last != params.chunk:
            circuits["last shard"] = gates.shard_gates(params, last)
        circuits["verdict"] = gates.verdict_gates(params)
        full = params.chunks - (last != params.chunk)
        counts = [(count, full if name == "shard" else 1) for name, count in circuits.items()]
    points = points_for(max(circuits.values()))
    seconds = sum(count * times for count, times in counts) * SECONDS_PER_GATE
    proofs = sum(times for _, times in counts)
    at_once = min(jobs, proofs)
    return Estimate(
        form=decided.form,
        reason=decided.reason,
        circuits=circuits,
        proofs=proofs,
        points=points,
        megabytes=BASE_MEGABYTES + ceil(at_once * JOB_MEGABYTES / 2 * points / 2**15),
        compile_megabytes=ceil(COMPILE_MEGABYTES * max(1.0, points / 2**15)),
        seconds=seconds,
        time_class=time_class(seconds),
        proof_bytes=sum(proof_bytes(points_for(count)) * times for count, times in counts),
    )
